"""Enriched tables in DuckDB files that a target attaches beside its main one."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from batch_server.server import RunningEmulator
from support.dbt_project import COMMAND, DbtProject, azure

MODELS = 6


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path) -> DbtProject:
    """A project whose models are built by eight threads in attached files, in two schemas."""
    attach = [
        {"path": str(tmp_path / f"{alias}.duckdb"), "alias": alias} for alias in ("other", "third")
    ]
    project = DbtProject(
        tmp_path, azure(emulator.url, emulator.api_key), threads=8, target={"attach": attach}
    )
    for number in range(MODELS):
        project.enrichment(
            f"m{number}", notes(number), config="unique_key = 'id', database = 'other'"
        )
    return project


def notes(number: int) -> str:
    """Two rows that no other model has."""
    return f"select i as id, 'note {number} ' || i as note from range(2) as t(i)"


def done(path: Path, schema: str = "main") -> dict[str, int]:
    """The rows that are done in each enriched table of a file."""
    with duckdb.connect(str(path), read_only=True) as connection:
        tables = connection.execute(
            "select table_name from duckdb_columns() where schema_name = ? "
            "and column_name = 'enrichment_status' order by 1",
            [schema],
        ).fetchall()
        return {
            name: count
            for (name,) in tables
            for (count,) in connection.execute(
                f"select count(*) from {schema}.{name} where enrichment_status = 'done'"
            ).fetchall()
        }


def leftovers(path: Path) -> list[tuple[str, str]]:
    """The work tables in a file, and its work schema if it has one."""
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(
            "select schema_name, table_name from duckdb_tables() where schema_name like '%work%' "
            "union all select schema_name, '' from duckdb_schemas() where schema_name like '%work%'"
        ).fetchall()


def test_many_threads_build_in_an_attached_file_at_once(
    project: DbtProject, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """The first run builds every model, also where the work schema is not there yet."""
    project.dbt("run")
    assert done(tmp_path / "other.duckdb") == {f"m{number}": 2 for number in range(MODELS)}
    assert leftovers(tmp_path / "other.duckdb") == []
    assert leftovers(project.warehouse) == [("enrichment_work", "")]
    project.execute("drop schema enrichment_work")
    project.dbt("run")
    assert set(emulator.account()["request_keys"].values()) == {1}


def test_models_go_where_their_folder_and_schema_say(
    project: DbtProject, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Models of a folder in a third file, two schemas of one file, hooks that write beside."""
    for number in range(MODELS):
        project.enrichment(f"third/t{number}", notes(number))
    project.enrichment(
        "m0",
        notes(0),
        config="unique_key = 'id', database = 'other', schema = 'deep', "
        "pre_hook = 'create or replace table {{ this.database }}.main.before_it as select 1 as x', "
        "post_hook = 'create or replace table {{ this.database }}.main.after_it as "
        "select count(*) as n from {{ this }}'",
    )
    # Of one name in two databases.
    project.enrichment("third/m1_there", notes(1), config="unique_key = 'id', alias = 'm1'")
    project.write(
        "dbt_project.yml",
        {
            "name": "notes",
            "profile": "notes",
            "version": "1.0",
            "config-version": 2,
            "flags": {"send_anonymous_usage_stats": False},
            "models": {"notes": {"third": {"+database": "third"}}},
        },
    )
    for _ in range(2):
        project.dbt("--warn-error", "build")
        assert done(tmp_path / "other.duckdb", "main_deep") == {"m0": 2}
        assert done(tmp_path / "other.duckdb") == {f"m{number}": 2 for number in range(1, MODELS)}
        assert done(tmp_path / "third.duckdb") == {
            "m1": 2,
            **{f"t{number}": 2 for number in range(MODELS)},
        }
        with duckdb.connect(str(tmp_path / "other.duckdb"), read_only=True) as other:
            assert other.execute("select n, x from after_it, before_it").fetchall() == [(2, 1)]
        for file in ("other", "third"):
            assert leftovers(tmp_path / f"{file}.duckdb") == []
    assert set(emulator.account()["request_keys"].values()) == {1}


def test_without_the_plugin_they_are_as_the_main_one(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Rows, results and the report are in the file that the model goes to."""
    attach = [{"path": str(tmp_path / "other.duckdb"), "alias": "other"}]
    project = DbtProject(
        tmp_path,
        azure(emulator.url, emulator.api_key),
        target={"attach": attach},
        door=COMMAND,
    )
    project.enrichment("m0", notes(0), config="unique_key = 'id', database = 'other'")
    project.command("run")
    assert done(tmp_path / "other.duckdb") == {"m0": 2}
    assert done(project.warehouse) == {}
    (model,) = json.loads(project.command("report", "--format", "json"))["models"]
    assert model["statuses"] == {"done": 2}
    assert set(emulator.account()["paid"].values()) == {1}
