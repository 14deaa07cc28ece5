"""Publishing a big table: the warehouse's own memory may be small, and no answer changes rows."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from dbt_enrich.sql import literal
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.warehouse.enriched_table import ExistingTable, Pairing, enriched_sql
from dbt_enrich.warehouse.relation import StagedRelation
from support.warehouse import Warehouse, config_for

ROWS = 300_000
OUTPUTS = [OutputColumn("summary", "varchar")]


@pytest.fixture
def warehouse(tmp_path: Path) -> duckdb.DuckDBPyConnection:
    """A file with the staged rows, on a connection with 100 MB."""
    connection = duckdb.connect(str(tmp_path / "notes.duckdb"))
    connection.execute(
        f"create table staged as select i as id, repeat('a long text ', 20) || i as note "
        f"from range({ROWS}) as numbers(i)"
    )
    connection.execute("set memory_limit = '100MB'")
    connection.execute("set threads = 4")
    return connection


def results(directory: Path, *, order: str = "i", pending: str = "false") -> list[Path]:
    """Write what publishing writes of the answers, in an order of rows."""
    path = directory / "results.parquet"
    duckdb.sql(
        f"copy (select i as row_id, if({pending}, 'pending', 'done') as status, "
        "cast(null as varchar) as error, 'm' as model, 'b' as batch_id, now() as enriched_at, "
        "cast(md5(cast(i as varchar)) as uuid) as request_key, "
        "cast(null as varchar) as previous_version, "
        "{'summary': repeat('summary ', 12) || i} as answer "
        f"from range({ROWS}) as numbers(i) order by {order}) to {literal(path)} (format parquet)"
    )
    return [path]


def relation(connection: duckdb.DuckDBPyConnection) -> StagedRelation:
    """The staged rows."""
    return StagedRelation(connection, "staged", ("id",), "notes")


@pytest.mark.parametrize("keeps_order", ["true", "false"])
def test_a_table_larger_than_the_memory(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path, keeps_order: str
) -> None:
    """Each row has its own answer, whatever the user's settings are."""
    warehouse.execute(f"set preserve_insertion_order = {keeps_order}")
    sql = enriched_sql(relation(warehouse), OUTPUTS, results(tmp_path), None, "t1")
    warehouse.execute(f"create table enriched as {sql}")
    assert warehouse.execute(
        "select count(*), count(*) filter (summary = repeat('summary ', 12) || id) from enriched"
    ).fetchone() == (ROWS, ROWS)


def test_rows_find_their_answers_by_number(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    """Whatever the order of the answers is; and no row is left out."""
    warehouse.execute("set memory_limit = '1GB'")
    path = results(tmp_path, order="hash(i)")
    pairing = Pairing.BY_NUMBER
    sql = enriched_sql(relation(warehouse), OUTPUTS, path, None, "t1", pairing=pairing)
    warehouse.execute(f"create table enriched as {sql}")
    assert warehouse.execute(
        "select count(*), count(*) filter (summary = repeat('summary ', 12) || id) from enriched"
    ).fetchone() == (ROWS, ROWS)
    warehouse.execute("insert into staged values (-1, 'a note without an answer')")
    with pytest.raises(duckdb.Error, match="lie beside other rows"):
        warehouse.execute(f"create table again as {sql}")


@pytest.mark.parametrize(
    ("ending", "joins"),
    [
        ("", "left join"),
        ("order by id desc", "positional join"),
        ("limit 245760", "positional join"),
    ],
)
def test_a_large_table_without_an_order_is_written_by_all_threads(
    tmp_path: Path, ending: str, joins: str
) -> None:
    """Small tables keep the order of their rows."""
    notes = Warehouse(config_for("http://127.0.0.1:9", "key", tmp_path))
    # A row without a text is not sent.
    select = f"select i as id, cast(null as varchar) as note from range({ROWS}) as numbers(i)"
    request = notes.request(f"{select} {ending}", None, "enriched", ("id",))
    outcome = notes.engine.enrich(request)
    assert joins in outcome.enriched_sql
    notes.connection.execute(f"create table enriched as {outcome.enriched_sql}")
    assert notes.statuses() == {"skipped": outcome.rows}


def test_the_memory_limit_says_how_much_room_there_is(
    warehouse: duckdb.DuckDBPyConnection,
) -> None:
    """Half of it is left to others."""
    assert relation(warehouse).leaves_room(49_000_000)
    assert not relation(warehouse).leaves_room(51_000_000)


def test_some_pending_rows_keep_their_previous_answers(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    """Beside a previous table that is as large."""
    done = enriched_sql(relation(warehouse), OUTPUTS, results(tmp_path), None, "t1")
    warehouse.execute(f"create table enriched as {done}")
    columns = {row[0]: row[1] for row in warehouse.execute("describe enriched").fetchall()}
    path = results(tmp_path, pending="i % 1000 = 5")
    sql = enriched_sql(relation(warehouse), OUTPUTS, path, ExistingTable("enriched", columns), "t2")
    warehouse.execute(f"create table again as {sql}")
    assert warehouse.execute(
        "select enrichment_status, enrichment_version, count(*), "
        "count(*) filter (summary = repeat('summary ', 12) || id) from again group by all "
        "order by all"
    ).fetchall() == [
        ("done", "t2", ROWS - ROWS // 1000, ROWS - ROWS // 1000),
        ("stale", "t1", ROWS // 1000, ROWS // 1000),
    ]


def test_answers_beside_other_rows_are_refused(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    """Rather than published."""
    path = results(tmp_path, order="hash(i)")
    sql = enriched_sql(relation(warehouse), OUTPUTS, path, None, "t1")
    with pytest.raises(duckdb.Error, match="lie beside other rows"):
        warehouse.execute(f"create table enriched as {sql}")
