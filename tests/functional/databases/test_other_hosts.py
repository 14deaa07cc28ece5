"""Enriched tables in DuckLake, Postgres and SQLite: built, built again, merged and refreshed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from batch_server.server import RunningEmulator
from support.dbt_project import COMMAND, DbtProject, azure

ROWS = 6
COLUMNS = [
    {"name": "mood", "data_type": "enum('calm', 'glad')"},
    {"name": "tags", "data_type": "varchar[]"},
    {"name": "facts", "data_type": "struct(score integer, day date, names varchar[])"},
    {"name": "price", "data_type": "decimal(10,2)"},
    {"name": "at", "data_type": "timestamptz"},
    {"name": "sure", "data_type": "boolean"},
]
# Types of the user's own, with texts that quoting could break.
SELECT = """
select
    i as id,
    concat('note ', i, ' it''s {"a": [1]}, \\ é') as note,
    cast(if(i % 2 = 0, 'even', 'odd') as enum('even', 'odd')) as parity,
    ['a', concat('b, "', i, '"'), null] as list,
    {'x': i, 'y': [date '2024-02-29']} as record,
    sum(i) over () as total,
    timestamptz '2024-02-29 12:00:00+02' as seen,
    cast('6ba7b810-9dad-11d1-80b4-00c04fd430c8' as uuid) as code,
    cast(i as utinyint) as small
from range(
"""


class Host:
    """A kind of database, as a target has it.

    Args:
        name: What the tests call it.
        target: The profile's target.
        database: The database to which models go.
        where: What is written behind `database` in a model's config.
        schema: The schema to which they go there.
    """

    def __init__(
        self, name: str, target: dict[str, Any], database: str, where: str, schema: str = "main"
    ) -> None:
        self.name, self.target, self.database = name, target, database
        self.where, self.schema = where, schema
        # Several threads are in each other's way in a lake and in SQLite; the run warns of them.
        self.threads = 4 if name == "postgres" else 1


@pytest.fixture(
    params=["lake", "lake-default", "lake-path", "lake-on-postgres", "postgres", "sqlite"]
)
def host(
    request: pytest.FixtureRequest,
    extensions: Path,
    new_database: Callable[[str], str],
    tmp_path: Path,
) -> Host:
    """Each kind of database, and each way in which a target can have it."""
    options = {"config_options": {"extension_directory": str(extensions)}}
    kind = request.param
    name = f"{kind.replace('-', '_')}_{tmp_path.name.lower()}".replace("[", "_").replace("]", "")
    lake = f"ducklake:{tmp_path / 'lake.ducklake'}"
    data = {"data_path": str(tmp_path / "data")}
    if kind == "lake-path":
        return Host(kind, {**options, "path": lake}, "lake", "")
    if kind == "lake-on-postgres":
        lake = f"ducklake:postgres:{new_database(name)}"
        data["data_inlining_row_limit"] = "0"
    attach: dict[str, Any] = {"path": lake, "alias": "host", "options": data}
    schema = "main"
    if kind == "postgres":
        attach = {"path": new_database(name), "alias": "host", "type": "postgres"}
        schema = "public"
    if kind == "sqlite":
        attach = {"path": str(tmp_path / "host.sqlite"), "alias": "host", "type": "sqlite"}
    target = {**options, "attach": [attach]}
    if kind == "lake-default":
        return Host(kind, {**target, "database": "host"}, "host", "")
    return Host(kind, {**target, "schema": schema}, "host", ", database = 'host'", schema)


@contextmanager
def opened(host: Host) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the host's database as `host`."""
    config = dict(host.target["config_options"])
    with duckdb.connect(config=config) as connection:
        if "path" in host.target:
            connection.execute(f"attach '{host.target['path']}' as host")
        else:
            attached = host.target["attach"][0]
            listed = [f"type {attached['type']}"] if "type" in attached else []
            listed += [f"{k} '{v}'" for k, v in attached.get("options", {}).items()]
            options = f"({', '.join(listed)})" if listed else ""
            connection.execute(f"attach '{attached['path']}' as host {options}")
        yield connection


def answer(row: int) -> dict[str, Any]:
    """What the model says of a row, with texts that quoting could break."""
    return {
        "mood": "glad" if row % 2 else "calm",
        "tags": [f"a, {row}", 'b"c\\', "", "NULL", "nul \x00"][: row + 1],
        "facts": {"score": row, "day": "2024-02-29", "names": ["it's", "{x}"][: row % 3]},
        "price": row + 0.25,
        "at": f"2024-02-29T12:00:0{row}Z",
        "sure": row % 2 == 0,
    }


def answers(host: Host) -> list[tuple[Any, ...]]:
    """The outputs of the table, as texts, with what the scripted model says of each row."""
    with opened(host) as connection:
        outputs = ", ".join(f'cast("{c["name"]}" as varchar)' for c in COLUMNS)
        return connection.execute(
            f"select id, note, {outputs}, enrichment_status, enrichment_key "
            f"from host.{host.schema}.notes_enriched order by id"
        ).fetchall()


def test_a_table_is_built_merged_and_refreshed(
    host: Host, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """The answers stay what they were, and nothing is sent twice."""
    project = DbtProject(
        tmp_path, azure(emulator.url, emulator.api_key), threads=host.threads, target=host.target
    )

    def configured(rows: int, **meta: Any) -> None:
        project.enrichment(
            "notes_enriched",
            f"{SELECT} {rows}) as t(i)",
            config=f"unique_key = 'id'{host.where}",
            columns=COLUMNS,
            meta={"output": [c["name"] for c in COLUMNS], **meta},
        )

    emulator.rules([{"match": f"note {i} it", "answer": answer(i)} for i in range(ROWS + 2)])
    configured(ROWS)
    # Beside it, as several threads write to one database.
    for number in range(3):
        project.enrichment(
            f"small_{number}",
            f"select i as id, 'small {number} ' || i as note from range(2) as t(i)",
            config=f"unique_key = 'id'{host.where}",
        )
    project.write(
        "models/tested.yml",
        {
            "models": [
                {
                    "name": "after_it",
                    "data_tests": [
                        {"dbt_enrich.enrichment_complete": {"arguments": {"min_done": 1}}}
                    ],
                }
            ]
        },
    )
    project.write("models/after_it.sql", "select * from {{ ref('notes_enriched') }}")
    output = project.dbt("build")
    first = answers(host)
    assert len(first) == ROWS
    assert {row[-2] for row in first} == {"done"}
    assert host.name.startswith("lake") or "notes_enriched' has " in output
    assert "0 sent" in project.dbt("build", "--select", "notes_enriched")
    assert answers(host) == first
    configured(ROWS + 2, publish="merge")
    project.dbt("build")
    assert answers(host)[:ROWS] == first
    assert len(answers(host)) == ROWS + 2
    merged = answers(host)
    # What the state directory knew is in the table alone.
    project.state_dir.rename(project.state_dir.with_name("lost"))
    again = project.dbt("build", "--full-refresh")
    assert f"{ROWS + 2} reused, 0 sent" in again
    assert answers(host) == merged
    assert set(emulator.account()["request_keys"].values()) == {1}
    with opened(host) as connection:
        tables = {
            row[0]
            for row in connection.execute(
                "select table_schema || '.' || table_name from information_schema.tables "
                "where table_catalog = 'host'"
            ).fetchall()
        }
    assert not [name for name in tables if "dbt_" in name or "work" in name or "staged" in name]
    prefix = "main.enrichment_" if host.name == "sqlite" else "enrichment."
    with_relations = host.name in ("lake-path", "lake-default")
    assert (f"{prefix}batches" in tables) == with_relations, tables
    check_commands(project, host)


def test_without_the_plugin_it_is_refused(
    host: Host, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Before dbt writes anything there."""
    project = DbtProject(
        tmp_path, azure(emulator.url, emulator.api_key), target=host.target, door=COMMAND
    )
    project.enrichment(
        "notes_enriched", "select 1 as id, 'x' as note", config=f"unique_key = 'id'{host.where}"
    )
    output = " ".join(project.command("run", exits=1).split())
    assert "to which enriched tables are published by the plugin alone" in output
    with opened(host) as connection:
        found = connection.execute(
            "select table_schema from information_schema.tables where table_catalog = 'host' "
            "and table_name like 'notes%'"
        ).fetchall()
    assert found == []
    assert emulator.account()["paid"] == {}


def check_commands(project: DbtProject, host: Host) -> None:
    """The commands read what is in the host's tables, and change what the next run asks."""
    document = json.loads(project.command("report", "--format", "json", "--output", "-"))
    (model,) = [m for m in document["models"] if m["name"] == "notes_enriched"]
    assert model["statuses"] == {"done": ROWS + 2}
    assert "this is the table of the target" not in project.command("status")
    elsewhere = project.command("status", "--target", "prod")
    assert "notes_enriched: this is the table of the target dev" in elsewhere
    assert "published" in project.command("versions", "notes_enriched")
    assert "notes_enriched: no row failed" in project.command("retry", "--select", "notes_enriched")
    assert "deleted" in project.command("forget", "--model", "notes_enriched", "--yes")
    again = project.dbt("run", "--select", "notes_enriched", "--full-refresh")
    # Those that the service still holds are taken from there rather than asked and paid again.
    assert f"{ROWS + 2} done; 0 reused" in again
