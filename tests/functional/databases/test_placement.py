"""What is said before anything is sent of a place that cannot hold what a model has."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.errors import ConfigurationError, EnrichmentError
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.warehouse.catalogs import Catalog, catalog_of
from dbt_enrich.warehouse.placement import Placement, place
from dbt_enrich.warehouse.relation import StagedRelation
from support.dbt_project import DbtProject, azure
from support.forked_dbt import run_forked

TEXT = (OutputColumn(name="summary", data_type="varchar", description="What it says"),)


def staged(select: str) -> StagedRelation:
    """A staged relation that holds what a SELECT yields."""
    connection = duckdb.connect()
    connection.execute(f"create table staged as {select}")
    return StagedRelation(connection, '"staged"', ("id",), "notes")


REFUSALS = {
    "indexes in a lake": (
        Placement(Catalog.DUCKLAKE, "notes", indexes=True), "select 1 as id", "leave indexes out",
    ),
    "indexes in SQLite": (
        Placement(Catalog.SQLITE, "notes", indexes=True), "select 1 as id", "leave indexes out",
    ),
    "comments in Postgres": (
        Placement(Catalog.POSTGRES, "notes", comments=True), "select 1 as id", "persist_docs",
    ),
    "a long table": (
        Placement(Catalog.POSTGRES, "n" * 52), "select 1 as id", "shorter alias",
    ),
    "a long column": (
        Placement(Catalog.POSTGRES, "notes"), f"select 1 as id, 2 as {'é' * 32}", "shorter name",
    ),
    "bits in a lake": (
        Placement(Catalog.DUCKLAKE, "notes"), "select 1 as id, '101'::bit as x", "cast it",
    ),
    "NUL in Postgres": (
        Placement(Catalog.POSTGRES, "notes"), "select 1 as id, ['a' || chr(0)] as x", "in 1 rows",
    ),
    "39 digits in Postgres": (
        Placement(Catalog.POSTGRES, "notes"),
        "select 1 as id, 170141183460469231731687303715884105727 as x", "39 digits",
    ),
    "structs inlined in Postgres": (
        Placement(Catalog.DUCKLAKE_ON_POSTGRES, "notes", inlines=True),
        "select 1 as id, {'a': 'it''s'} as x", "data_inlining_row_limit",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_what_a_place_cannot_hold_is_named_with_the_way_out(case: str) -> None:
    """Model, column and what to do."""
    placement, select, text = REFUSALS[case]
    with pytest.raises(EnrichmentError, match="model 'notes'") as refused:
        place(placement, staged(select), TEXT)
    assert text in str(refused.value)
    assert refused.value.fix


@pytest.mark.parametrize("catalog", Catalog)
def test_plain_types_are_placed_everywhere_without_a_word(catalog: Catalog) -> None:
    """And nothing is said of a number that only gets wider."""
    select = "select 1::tinyint as id, 'x' as note, 0.5::double as score"
    _, notice = place(Placement(catalog, "n" * 51), staged(select), TEXT)
    assert notice is None


def test_a_host_of_another_kind_is_refused_by_name() -> None:
    """Quack by what it does, the others by their type."""
    with pytest.raises(ConfigurationError, match="'far' is a DuckDB server reached through Quack"):
        catalog_of("quack", "far")
    with pytest.raises(ConfigurationError, match="'far' is of the type mysql"):
        catalog_of("mysql", "far")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"path": "quack:localhost:9494"}, "a DuckDB server reached through Quack"),
        (
            {"attach": [{"path": "quack:localhost:9494", "alias": "far"}], "database": "far"},
            "a DuckDB server reached through Quack",
        ),
    ],
)
def test_a_quack_server_is_refused_by_run_and_doctor(
    target: dict[str, object], said: str, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Before dbt connects to it."""
    project = DbtProject(tmp_path, azure(emulator.url, emulator.api_key), target=target)
    project.enrichment("notes_enriched", "select 1 as id, 'a note' as note")
    assert said in project.dbt("run", succeeds=False)
    places = ["--project-dir", str(project.directory), "--profiles-dir", str(project.directory)]
    code, output = run_forked("dbt-enrich", "doctor", *places, directory=project.directory)
    assert code != 0
    assert said in output
    assert not project.warehouse.exists()


def test_a_buena_vista_server_is_refused_by_run_and_doctor(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Before dbt connects to it, while it parses the package's first hook."""
    remote = {"host": "localhost", "port": 1, "user": "test"}
    project = DbtProject(tmp_path, azure(emulator.url, emulator.api_key), target={"remote": remote})
    text = "a Buena Vista server (remote in the profile)"
    assert text in project.dbt("run", succeeds=False)
    places = ["--project-dir", str(project.directory), "--profiles-dir", str(project.directory)]
    code, output = run_forked("dbt-enrich", "doctor", *places, directory=project.directory)
    assert code != 0
    assert text in output
