"""Spark as a host: rows out, results in, over Sail."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dbt_enrich.errors import EnrichmentError
from dbt_enrich.sql import literals
from dbt_enrich.warehouse import spark_arrow
from dbt_enrich.warehouse.host import Counted, HostTable, ModelTables, Written
from dbt_enrich.warehouse.spark_host import SparkHost
from dbt_enrich.warehouse.spark_names import qualified
from dbt_enrich.warehouse.spark_types import arrow_schema, duckdb_type, held_type, spark_type
from support.clock import HastyClock
from support.sail import spark_session

RESULTS = {
    "id": "BIGINT",
    "enrichment_row": "VARCHAR",
    "enrichment_task": "VARCHAR",
    "enrichment_status": "VARCHAR",
    "enrichment_version": "VARCHAR",
}
FAILURES = {"id": "BIGINT", "message": "VARCHAR"}
OF_ROWS = {"id": "BIGINT", "enrichment_row": "VARCHAR", "message": "VARCHAR"}


@pytest.fixture
def tables() -> ModelTables:
    """The tables of one model."""
    return ModelTables.of(HostTable(None, "default", "notes"), ("id",))


def written(path: Path, values: str, columns: Mapping[str, str]) -> Written:
    """Write rows to a file."""
    cast = ", ".join(f"cast({name} as {kind}) as {name}" for name, kind in columns.items())
    select = f"select {cast} from (values {values}) as given({', '.join(columns)})"
    duckdb.sql(select).write_parquet(str(path))
    return Written((path,), columns)


def read(files: Sequence[Path], columns: str = "*") -> list[tuple[Any, ...]]:
    """Return the rows of files, in order."""
    select = f"select {columns} from read_parquet({literals(files)}) order by all"
    return duckdb.sql(select).fetchall()


def rows(spark: Any, table: HostTable, columns: str = "*") -> list[tuple[Any, ...]]:
    """Return the rows of a table, in order."""
    found = spark.sql(f"select {columns} from {qualified(table)}").collect()
    return sorted(tuple(row) for row in found)


def stage(spark: Any, tables: ModelTables, select: str) -> None:
    """Stage what a SELECT of Spark yields."""
    SparkHost(spark).write(spark.sql(select), tables.rows)


VALUES = [
    ("string", "VARCHAR", "'née 🦆 it''s \\ \" \t'"),
    ("tinyint", "TINYINT", "-128"),
    ("smallint", "SMALLINT", "-32768"),
    ("int", "INTEGER", "2147483647"),
    ("bigint", "BIGINT", "9007199254740993"),
    ("float", "FLOAT", "0.1"),
    ("double", "DOUBLE", "1e300"),
    ("decimal(20,4)", "DECIMAL(20,4)", "1234567890123456.7891"),
    ("boolean", "BOOLEAN", "true"),
    ("date", "DATE", "'0099-02-28'"),
    ("timestamp", "TIMESTAMP WITH TIME ZONE", "'2024-03-01 12:34:56.123456+00:00'"),
    ("timestamp_ntz", "TIMESTAMP", "'2024-03-01 12:34:56.123456'"),
    ("binary", "BLOB", "'\\x00\\xFF'"),
    ("array<int>", "INTEGER[]", "[1, null, 3]"),
    ("struct<a:string,b:array<double>>", "STRUCT(a VARCHAR, b DOUBLE[])", "{'a': 'x', 'b': [0.5]}"),
    ("map<string,int>", "MAP(VARCHAR, INTEGER)", "map {'k': 1}"),
]


def test_each_type_that_both_have_keeps_its_values(
    spark: Any, tables: ModelTables, tmp_path: Path
) -> None:
    """Out of DuckDB into Spark, where it has the type that is named for it, and back."""
    host = SparkHost(spark)
    names = {f"c{number}": kind for number, (_, kind, _) in enumerate(VALUES)}
    columns = {"id": "BIGINT", **names}
    values = ", ".join(f"cast({value} as {kind})" for _, kind, value in VALUES)
    nulls = ", ".join("null" for _ in names)
    results = written(tmp_path / "in.parquet", f"(1, {values}), (2, {nulls})", columns)
    failures = written(tmp_path / "failures.parquet", "(1, 'x')", FAILURES)
    host.write_results(tables, results, failures)
    fields = spark.table(qualified(tables.results)).schema.fields
    kinds = {field.name: field.dataType.simpleString() for field in fields}
    assert [kinds[name] for name in names] == [kind for kind, _, _ in VALUES]
    assert host.columns(tables.results) == columns
    (tmp_path / "out").mkdir()
    found = host.copy(tables.results, tmp_path / "out")
    assert read(found, ", ".join(columns)) == read(results.files, ", ".join(columns))
    described = duckdb.sql(f"describe select * from read_parquet({literals(found)})").fetchall()
    assert {row[0]: row[1] for row in described} == columns


@pytest.mark.parametrize(
    ("kind", "held"),
    [
        ("ENUM('a', 'b')", "VARCHAR"),
        ("UUID", "VARCHAR"),
        ("HUGEINT", "VARCHAR"),
        ("TIME", "VARCHAR"),
        ("INTERVAL", "VARCHAR"),
        ("JSON", "VARCHAR"),
        ("UTINYINT", "SMALLINT"),
        ("UBIGINT", "DECIMAL(20,0)"),
        ("FLOAT[3]", "FLOAT[]"),
        ("STRUCT(a UUID, b ENUM('x')[])", "STRUCT(a VARCHAR, b VARCHAR[])"),
        ("UNION(a INTEGER)", None),
    ],
)
def test_what_spark_has_no_type_for_is_wider_or_a_text(kind: str, held: str | None) -> None:
    """Or cannot be held."""
    pytest.importorskip("pyspark", reason="needs the extra spark (pyspark-client)")
    assert held_type(kind) == held
    if held:
        assert duckdb_type(spark_type(held)) == held


def test_done_is_the_same_key_text_and_task(
    spark: Any, tables: ModelTables, tmp_path: Path
) -> None:
    """Of them no row is copied; they are counted, and those of another version apart."""
    host = SparkHost(spark)
    values = ", ".join(f"({i}, 'row {i}', 'née {i}')" for i in range(6))
    stage(spark, tables, f"select * from values {values} as t(id, enrichment_row, note)")
    results = """
        (0, 'row 0', 't1', 'done', 'v1'), (1, 'row 1', 't1', 'done', 'v0'),
        (2, 'before', 't1', 'done', 'v1'), (3, 'row 3', 't0', 'done', 'v1'),
        (4, 'row 4', 't1', 'failed', null)
    """
    columns = {**RESULTS, "id": "INTEGER"}
    failures = written(tmp_path / "f.parquet", "(4, 'x')", {"id": "INTEGER", "message": "VARCHAR"})
    host.write_results(tables, written(tmp_path / "r.parquet", results, columns), failures)
    (tmp_path / "some").mkdir()
    copied = host.copy_rows(tables, tmp_path / "some", task="t1", version="v1")
    assert (copied.done, copied.kept) == (2, 1)
    assert read(copied.files, "id, note") == [(i, f"née {i}") for i in (2, 3, 4, 5)]
    (tmp_path / "all").mkdir()
    copied = host.copy_rows(tables, tmp_path / "all")
    assert (copied.done, len(read(copied.files))) == (0, 6)
    # A key of another type is no row's.
    stage(spark, tables, "select '0' as id, 'row 0' as enrichment_row")
    (tmp_path / "text").mkdir()
    copied = host.copy_rows(tables, tmp_path / "text", task="t1", version="v1")
    assert (copied.done, len(read(copied.files))) == (0, 1)


def test_known_results_of_due_rows_alone_are_copied(
    spark: Any, tables: ModelTables, tmp_path: Path
) -> None:
    """By their unique keys and by their texts; of an enriched table some rows, and all counted."""
    host = SparkHost(spark)
    due = "(1, repeat('a', 32) || '-1'), (2, repeat('b', 32) || '-1'), (3, repeat('c', 32) || '-1')"
    stage(spark, tables, f"select * from values {due} as t(id, enrichment_row)")
    results = """
        (1, repeat('a', 32) || '-1', 't1', 'done', 'v1'), (2, repeat('x', 32) || '-1', 't1', 'done',
        'v1'), (8, repeat('y', 32) || '-1', 't1', 'failed', null), (9, repeat('c', 32) || '-0',
        't0', 'done', 'v0')
    """
    columns = {**RESULTS, "id": "INTEGER"}
    failures = written(tmp_path / "f.parquet", "(8, 'x')", {"id": "INTEGER", "message": "VARCHAR"})
    host.write_results(tables, written(tmp_path / "r.parquet", results, columns), failures)
    for task, wanted in (("t1", [2, 9]), (None, [1, 2, 8, 9])):
        (place := tmp_path / str(task)).mkdir()
        files = host.copy_known(tables, tables.results, place, task=task)
        assert read(files, "id") == [(key,) for key in wanted]
    enriched = (
        "select id, 'done' as enrichment_status, cast(null as string) as enrichment_error, 'v1' as "
        "enrichment_version, id || '0' as enrichment_key from range(5) union all "
        "select 9, 'failed', 'refusal: no', null, null"
    )
    host.write(spark.sql(enriched), tables.enriched)
    counted = sorted(host.counted(tables.enriched), key=lambda one: one.status)
    assert counted == [Counted("done", "v1", None, 5), Counted("failed", None, "refusal", 1)]
    chosen: list[tuple[int, str | None, tuple[str, ...], list[int]]] = [
        (9, "2", ("done",), [0, 1]),
        (9, None, ("failed",), [9]),
        (1, "1", ("done",), [0]),
    ]
    for number, (most, below, statuses, expected) in enumerate(chosen):
        (place := tmp_path / f"some-{number}").mkdir()
        files = host.copy_some(
            tables.enriched, place, most=most, columns=["id"], statuses=statuses, below=below
        )
        assert read(files) == [(key,) for key in expected]


@pytest.mark.parametrize("file_format", ["parquet", "delta"])
def test_results_take_the_place_of_those_of_their_keys(
    spark: Any, tables: ModelTables, tmp_path: Path, file_format: str
) -> None:
    """And their failures that of the failures that these had; nothing else is left behind."""
    host = SparkHost(spark, file_format=file_format)
    first = "(1, 'r', 't', 'failed', null), (2, 'r', 't', 'failed', null)"
    second = "(2, 'r', 't', 'done', 'v'), (3, 'r', 't', 'failed', null)"
    host.write_results(
        tables,
        written(tmp_path / "r1.parquet", first, RESULTS),
        written(tmp_path / "f1.parquet", "(1, 'a'), (2, 'b'), (2, 'c')", FAILURES),
    )
    host.write_results(
        tables,
        written(tmp_path / "r2.parquet", second, RESULTS),
        written(tmp_path / "f2.parquet", "(3, 'd')", FAILURES),
    )
    assert rows(spark, tables.results, "id, enrichment_status") == [
        (1, "failed"),
        (2, "done"),
        (3, "failed"),
    ]
    assert rows(spark, tables.failures) == [(1, "a"), (3, "d")]
    there = {table.name for table in spark.catalog.listTables(tables.results.schema)}
    assert there == {tables.results.identifier, tables.failures.identifier}
    if file_format == "delta":
        # By which files without such a key stay as they are.
        log = tmp_path.parent.glob(f"sail*/**/{tables.results.identifier}-*/_delta_log/*.json")
        assert any('"MERGE"' in entry.read_text() for entry in log)
    # With another column the table is made anew.
    wider = {**RESULTS, "summary": "VARCHAR"}
    host.write_results(
        tables,
        written(tmp_path / "r3.parquet", "(9, 'r', 't', 'done', 'v', 's')", wider),
        written(tmp_path / "f3.parquet", "(9, 'e')", FAILURES),
    )
    assert rows(spark, tables.results, "id, summary") == [(9, "s")]


def write_one(spark: Any, tables: ModelTables, directory: Path, **options: Any) -> None:
    """Write a result and a failure of it."""
    failures = written(directory / "f.parquet", "(1, 'r', 'x')", OF_ROWS)
    results = written(directory / "r.parquet", "(1, 'r', 't', 'failed', null)", RESULTS)
    SparkHost(spark, **options).write_results(tables, results, failures)


def write_until_killed(port: int, session: str, tables: ModelTables, directory: Path) -> None:
    """Be killed where new results stand beside the table, and take no place yet."""
    sys.ps1 = ""
    with spark_session(port, session) as spark:
        setattr(SparkHost, "_put", lambda *_: os.kill(os.getpid(), signal.SIGKILL))  # noqa: B010
        write_one(spark, tables, directory)


def test_what_a_killed_run_has_left_is_swept(
    sail: int, tables: ModelTables, tmp_path: Path
) -> None:
    """Not while it may be a run's that still writes; and no table of anybody else, ever."""
    session = str(uuid.uuid4())
    arguments = (sail, session, tables, tmp_path)
    killed = multiprocessing.get_context("spawn").Process(target=write_until_killed, args=arguments)
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    with spark_session(sail, session) as spark:
        schema = tables.results.schema

        def there() -> set[str]:
            return {row["tableName"] for row in spark.sql(f"show tables in {schema}").collect()}

        left = there()
        assert len(left) == 2
        others = {
            f"{schema}.notes__results__new_ones",
            f"{schema}.notes__results__new_00000001_0000000g",
            f"{schema}.notes2__results__new_00000001_00000001",
            f"{schema}.notes__results__new_00000001_00000001",
        }
        for name in others:
            spark.sql(f"create table {name} as select 1 as mine")
        own = {"notes__results", "notes__failures"}
        others = {name.partition(".")[2] for name in others}
        write_one(spark, tables, tmp_path)
        assert there() == left | others | own
        clock = HastyClock()
        clock.jump(13 * 3600)
        write_one(spark, tables, tmp_path, clock=clock)
        assert there() == others | own
        assert rows(spark, tables.results, "id") == [(1,)]


def test_where_there_are_no_rows_there_is_no_file(
    spark: Any, tables: ModelTables, tmp_path: Path
) -> None:
    """And a table that is not there has no columns."""
    host = SparkHost(spark)
    assert host.columns(tables.rows) is None
    stage(spark, tables, "select 1 as id, 'r' as enrichment_row where false")
    assert host.columns(tables.rows) == {"id": "INTEGER", "enrichment_row": "VARCHAR"}
    assert host.copy_rows(tables, tmp_path).files == ()


def test_what_spark_refuses_is_an_error_of_ours(spark: Any, tables: ModelTables) -> None:
    """It names the table."""
    with pytest.raises(EnrichmentError, match=r"writing `default_enrichment`.`notes__rows` failed"):
        stage(spark, tables, "select raise_error('no') as id from range(1)")


def test_rows_come_in_batches_with_a_jvm_and_without(spark: Any) -> None:
    """Packed in Spark's own workers, where there is no client of Connect, they are the same."""
    frame = spark.sql("select id, repeat('x', 100) || id as note from range(9000)")
    tables = list(spark_arrow.arrow_tables(frame))
    packed = list(spark_arrow._packed_tables(frame))
    assert min(len(tables), len(packed)) > 1
    notes, same = ([v for t in some for v in t["note"].to_pylist()] for some in (tables, packed))
    assert len(notes) == 9_000
    assert sorted(notes) == sorted(same)


def test_large_results_are_sent_in_parts(
    spark: Any, tables: ModelTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them is larger than a message may be, as long as a row is not."""
    monkeypatch.setattr(spark_arrow, "_SENT_BYTES", 100_000)
    path = tmp_path / "r.parquet"
    select = "select i as id, repeat('x', if(i = 7, 200000, 300)) as note from range(2000) as r(i)"
    duckdb.sql(select).write_parquet(str(path))
    columns = {"id": "BIGINT", "note": "VARCHAR"}
    sizes = [table.nbytes for table in spark_arrow._parts((path,), arrow_schema(columns))]
    assert len(sizes) > 5
    assert sorted(sizes)[-2] <= 100_000
    failures = written(tmp_path / "f.parquet", "(1, 'x')", FAILURES)
    SparkHost(spark).write_results(tables, Written((path,), columns), failures)
    found = spark.sql(f"select count(*), sum(length(note)) from {qualified(tables.results)}")
    assert tuple(found.collect()[0]) == (2_000, 1_999 * 300 + 200_000)


def test_a_session_of_its_own_ends_with_the_host(spark: Any) -> None:
    """A cluster is not held while the service works; the caller's session is left to the caller."""
    SparkHost(spark).close()
    assert not spark.is_stopped
    SparkHost(spark, is_own=True).close()
    assert spark.is_stopped
