"""`enrich(spark, df, …)` over Sail and real HTTP: what is sent, and what comes of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.config import PluginConfig
from dbt_enrich.errors import ConfigurationError, InputError
from dbt_enrich.spark import enrich, failed_attempts
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.options import EnrichmentOptions
from dbt_enrich.task.schema import OutputColumn
from support.shared import SharedState
from support.warehouse import Warehouse, config_for, summary_task

NOTES = "select id, 'note ' || id as note from range(5)"


# A value of each type in Spark's SQL and in DuckDB's: the edges of what both hold.
TYPES = (
    ("'née 🦆👩‍👩‍👧'", "'née 🦆👩‍👩‍👧'"),
    ("'e\u0301 \u00e9 \ufffd\U0010ffff'", "'e\u0301 \u00e9 \ufffd\U0010ffff'"),
    ("'a\"b\\n\\t\\\\'", "'a\"b' || chr(10) || chr(9) || chr(92)"),
    ("concat('a', char(0), 'b')", "'a' || chr(0) || 'b'"),
    ("cast(-128 as tinyint)", "(-128)::tinyint"),
    ("cast(-32768 as smallint)", "(-32768)::smallint"),
    ("9223372036854775807", "9223372036854775807"),
    ("cast(0.1 as decimal(1,1))", "0.1::decimal(1,1)"),
    ("cast(-1.50 as decimal(9,2))", "(-1.50)::decimal(9,2)"),
    ("cast(12345678901234 as decimal(18,0))", "12345678901234::decimal(18,0)"),
    (
        "cast('1234567890123456789012345678.0123456789' as decimal(38,10))",
        "'1234567890123456789012345678.0123456789'::decimal(38,10)",
    ),
    ("cast(0 as decimal(38,18))", "0::decimal(38,18)"),
    ("cast(0.1 as float)", "0.1::float"),
    ("cast(16777217 as float)", "16777217::float"),
    ("0.1D", "0.1::double"),
    ("-0.0D", "-0.0::double"),
    ("1e300D", "1e300::double"),
    ("1e-7D", "1e-7::double"),
    ("cast('NaN' as double)", "'nan'::double"),
    ("cast('-Infinity' as float)", "'-inf'::float"),
    ("true", "true"),
    ("date'0001-01-01'", "date '0001-01-01'"),
    ("date'9999-12-31'", "date '9999-12-31'"),
    ("timestamp_ntz'2024-02-29 12:00:00.5'", "timestamp '2024-02-29 12:00:00.5'"),
    ("timestamp_ntz'1969-12-31 23:59:59.999999'", "timestamp '1969-12-31 23:59:59.999999'"),
    ("timestamp'2024-02-29 12:00:00.5+02:00'", "timestamptz '2024-02-29 12:00:00.5+02:00'"),
    ("timestamp'1900-01-01 00:00:00Z'", "timestamptz '1900-01-01 00:00:00Z'"),
    ("array('a', null)", "['a', null]"),
    ("array(array('a'), array())", "[['a'], []]"),
    ("array(cast('NaN' as double), -0.0D)", "['nan'::double, -0.0::double]"),
    ("named_struct('x', cast(null as int), 'Y z', 'q')", "{'x': null::int, 'Y z': 'q'}"),
    (
        "array(named_struct('d', date'2024-01-01', 'n', cast(1.5 as decimal(3,1))))",
        "[{'d': date '2024-01-01', 'n': 1.5::decimal(3,1)}]",
    ),
    ("map('k', array(1, 2), 'a', array())", "map {'k': [1, 2], 'a': []::int[]}"),
    ("map(2, true, 1, false)", "map {2: true, 1: false}"),
    (
        "named_struct('m', map('a', 0.1D), 'f', cast(0.1 as float))",
        "{'m': map {'a': 0.1::double}, 'f': 0.1::float}",
    ),
)


def selects_of_types() -> tuple[str, str]:
    """Return the SELECTs of one row with all of `TYPES`, in Spark's SQL and in DuckDB's."""
    spark, duck = (
        ", ".join(f"{pair[at]} as c{number}" for number, pair in enumerate(TYPES)) for at in (0, 1)
    )
    return f"select 1 as id, {spark}", f"select 1 as id, {duck}"


class Notebook:
    """A session of Spark in which DataFrames are enriched.

    Attributes:
        log: The lines that the user has read.
    """

    def __init__(self, spark: Any, config: PluginConfig) -> None:
        self.spark = spark
        self.config = config
        self.log: list[str] = []

    def enrich(
        self,
        select: str = NOTES,
        task: EnrichmentTask | None = None,
        *,
        unique_key: str | tuple[str, ...] = "id",
        table: str = "notes",
        partition_rows: int = 10_000_000,
        file_format: str | None = None,
        **options: Any,
    ) -> Any:
        """Enrich what a SELECT of Spark yields."""
        return enrich(
            self.spark,
            self.spark.sql(select),
            task or summary_task(),
            unique_key=unique_key,
            table=table,
            options=EnrichmentOptions(**options),
            config=self.config,
            partition_rows=partition_rows,
            file_format=file_format,
            log=self.log.append,
        )


def rows(frame: Any, *columns: str) -> list[tuple[Any, ...]]:
    """Return a DataFrame's rows, in order."""
    return sorted(tuple(row) for row in frame.select(*columns).collect())


def statuses(frame: Any) -> dict[str, int]:
    """Return how many rows have which status."""
    return {row[0]: row[1] for row in frame.groupBy("enrichment_status").count().collect()}


def paid(emulator: RunningEmulator) -> dict[str, int]:
    """How often each request was answered, by request_key."""
    return dict(emulator.account()["request_keys"])


@pytest.fixture
def notebook(spark: Any, emulator: RunningEmulator, tmp_path: Path) -> Notebook:
    """A notebook whose Azure resource is the emulator."""
    return Notebook(spark, config_for(emulator.url, emulator.api_key, tmp_path / "state"))


@pytest.mark.parametrize("file_format", ["parquet", "delta"])
def test_each_row_gets_its_own_answer_once(
    notebook: Notebook, emulator: RunningEmulator, file_format: str
) -> None:
    """A second call sends nothing, and copies no row out of Spark."""
    found = notebook.enrich(file_format=file_format)
    expected = [(i, f"note {i}", f"summary: note {i}", "done") for i in range(5)]
    assert rows(found, "id", "note", "summary", "enrichment_status") == expected
    notebook.log.clear()
    again = notebook.enrich(file_format=file_format)
    assert rows(again, "id", "note", "summary", "enrichment_status") == expected
    assert set(paid(emulator).values()) == {1}
    assert notebook.log[-1] == (
        "notes: 5 done; 5 reused, 0 sent, 0 input and 0 output tokens; nothing new"
    )


def test_keys_are_those_of_duckdb(
    notebook: Notebook, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """What was answered for a table of DuckDB is not asked again for a DataFrame of the same."""
    task = summary_task(user=" ".join(f"{{c{number}}}" for number in range(len(TYPES))))
    spark, duck = selects_of_types()
    warehouse = Warehouse(notebook.config)
    warehouse.enrich(duck, task)
    found = notebook.enrich(spark, task)
    assert statuses(found) == {"done": 1}
    assert list(paid(emulator).values()) == [1]
    keys = warehouse.rows("select replace(cast(enrichment_key as varchar), '-', '') from enriched")
    assert rows(found, "enrichment_key") == keys


def test_changed_rows_alone_are_asked(notebook: Notebook, emulator: RunningEmulator) -> None:
    """The others keep their answers; a row that is gone is gone."""
    notebook.enrich()
    changed = f"select id, if(id = 3, 'changed', note) as note from ({NOTES}) where id > 0"
    found = notebook.enrich(changed)
    assert len(paid(emulator)) == 6
    assert (3, "summary: changed") in rows(found, "id", "summary")
    assert statuses(found) == {"done": 4}


@pytest.mark.parametrize("partition_rows", [10_000_000, 10], ids=["on-one-machine", "in-parts"])
def test_rows_that_differ_each_time_are_those_that_were_asked(
    notebook: Notebook,
    emulator: RunningEmulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    partition_rows: int,
) -> None:
    """They are written once, so that no answer stands beside another text."""
    SharedState(tmp_path / "bucket", monkeypatch)
    found = notebook.enrich(
        "select id, 'note ' || uuid() as note from range(20)", partition_rows=partition_rows
    )
    assert all(summary == f"summary: {note}" for note, summary in rows(found, "note", "summary"))
    assert statuses(found) == {"done": 20}
    assert len(paid(emulator)) == 20


@pytest.mark.parametrize("partition_rows", [10_000_000, 4], ids=["on-one-machine", "in-parts"])
def test_a_changed_task_leaves_rows_stale_until_it_is_answered(
    notebook: Notebook,
    emulator: RunningEmulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    partition_rows: int,
) -> None:
    """They keep their previous outputs, or show none with `on_pending: null`."""
    SharedState(tmp_path / "bucket", monkeypatch)
    few: dict[str, Any] = {"partition_rows": partition_rows}
    notebook.enrich(**few)
    emulator.pause()
    task = summary_task(system="Be short.")
    # A plan shows it too, though it writes nothing.
    assert statuses(notebook.enrich(task=task, mode="plan", **few)) == {"stale": 5}
    found = notebook.enrich(task=task, mode="submit", **few)
    assert statuses(found) == {"stale": 5}
    assert [value for _, value in rows(found, "id", "summary")] == [
        f"summary: note {i}" for i in range(5)
    ]
    found = notebook.enrich(task=task, mode="submit", on_pending="null", **few)
    assert statuses(found) == {"pending": 5}
    assert {value for (value,) in rows(found, "summary")} == {None}
    emulator.resume()
    emulator.settle()
    assert statuses(notebook.enrich(task=task, mode="collect", **few)) == {"done": 5}
    assert set(paid(emulator).values()) == {1}


def test_plan_sends_nothing_and_says_what_would_be_sent(
    notebook: Notebook, emulator: RunningEmulator
) -> None:
    """The rows come back as what is known of them."""
    found = notebook.enrich(mode="plan")
    assert statuses(found) == {"pending": 5}
    assert [f.dataType.simpleString() for f in found.schema if f.name == "summary"] == ["string"]
    assert paid(emulator) == {}
    assert any("5 rows" in line or "5 new" in line for line in notebook.log), notebook.log


def test_failed_rows_are_named(notebook: Notebook, emulator: RunningEmulator) -> None:
    """Each failed attempt is a row of its own, for as long as the row has the text that failed."""
    with pytest.raises(ConfigurationError, match=r"no row of notes failed yet"):
        failed_attempts(notebook.spark, "notes")
    emulator.rules([{"match": "note 2", "refusal": "no"}])
    found = notebook.enrich()
    assert statuses(found) == {"done": 4, "failed": 1}
    assert rows(failed_attempts(notebook.spark, "notes"), "id", "kind") == [(2, "refusal")]
    changed = f"select id, if(id = 2, 'other', note) as note from ({NOTES})"
    assert statuses(notebook.enrich(changed)) == {"done": 5}
    assert failed_attempts(notebook.spark, "notes").count() == 0


def test_skipped_and_optional_texts(notebook: Notebook, emulator: RunningEmulator) -> None:
    """A row without its text is not sent."""
    select = "select id, if(id = 1, null, if(id = 2, '  ', note)) as note from (" + NOTES + ")"
    found = notebook.enrich(select)
    assert statuses(found) == {"done": 3, "skipped": 2}
    assert len(paid(emulator)) == 3


def test_outputs_have_the_types_that_spark_has_for_them(notebook: Notebook) -> None:
    """An enum is a text, a vector an array."""
    outputs = (
        OutputColumn(name="kind", data_type="enum('a', 'b')", description="Which"),
        OutputColumn(name="n", data_type="utinyint", description="How many"),
        OutputColumn(name="day", data_type="date", description="When"),
        OutputColumn(
            name="parts", data_type="struct(name varchar, size integer)[]", description="P"
        ),
    )
    found = notebook.enrich(task=summary_task(outputs=outputs))
    kinds = {field.name: field.dataType.simpleString() for field in found.schema}
    assert [kinds[output.name] for output in outputs] == [
        "string",
        "smallint",
        "date",
        "array<struct<name:string,size:int>>",
    ]
    assert kinds["enriched_at"] == "timestamp"
    assert statuses(found) == {"done": 5}
    assert all(kind in ("a", "b") for (kind,) in rows(found, "kind"))


def test_lost_work_tables_and_a_lost_state_cost_nothing(
    notebook: Notebook, emulator: RunningEmulator
) -> None:
    """Each is made good from the other."""
    notebook.enrich()
    for kind in ("rows", "results", "failures"):
        notebook.spark.sql(f"drop table default_enrichment.notes__{kind}")
    assert statuses(notebook.enrich()) == {"done": 5}
    shutil.rmtree(notebook.config.state_dir)
    # A changed row has the engine look at results; the others are done in Spark.
    assert statuses(notebook.enrich()) == {"done": 5}
    assert set(paid(emulator).values()) == {1}


def test_many_rows_stream_through(notebook: Notebook, emulator: RunningEmulator) -> None:
    """100,000 of them, of which a thousand are different, out of Spark and back into it."""
    select = (
        "select id, 'note ' || (id % 1000) as note, repeat('x', 50) as other from range(100000)"
    )
    found = notebook.enrich(select)
    assert statuses(found) == {"done": 100_000}
    assert found.where("summary <> 'summary: ' || note or length(other) <> 50").count() == 0
    assert len(paid(emulator)) == 1_000


@pytest.mark.parametrize(
    ("select", "given", "message"),
    [
        (NOTES, {"unique_key": "nope"}, "unique_key names the column 'nope'"),
        ("select 1 as id, 'a' as note from range(2)", {}, "'id' is not unique: the value 1 stands"),
        ("select null as id, 'a' as note", {}, "'id' is null in 1 row"),
        (NOTES, {"partition_rows": 4}, "more new rows than partition_rows.*share the state"),
        (NOTES, {"table": "a.b.c.d"}, "no name of the form table, schema.table"),
        (
            "select id, note, 1 as enrichment_status from (" + NOTES + ")",
            {},
            "has the column 'enrichment_status'",
        ),
        (
            "select id, interval '1' day as note from range(2)",
            {},
            "the column 'note', whose type interval day has no fixed rendering",
        ),
        ("select 1 as id, time'12:00:00' as note", {}, r"whose type time\(6\) has no fixed"),
        ("select 1 as id, X'00' as note", {}, "has the type BLOB, which has no fixed rendering"),
        ("select 1 as id", {}, "names the column 'note'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    notebook: Notebook, emulator: RunningEmulator, select: str, given: Any, message: str
) -> None:
    """By one sentence that names it."""
    with pytest.raises((ConfigurationError, InputError), match=message):
        notebook.enrich(select, **given)
    assert paid(emulator) == {}


def test_columns_that_only_spark_has_stay_where_no_text_needs_them(notebook: Notebook) -> None:
    """They never leave as anything but texts, and come back as they are."""
    found = notebook.enrich(f"select *, interval '3' day as wait, X'00ff' as raw from ({NOTES})")
    assert statuses(found) == {"done": 5}
    kinds = {field.name: field.dataType.simpleString() for field in found.schema}
    assert kinds["wait"].startswith("interval day")
    assert kinds["raw"] == "binary"


def test_without_a_configuration_it_says_where_one_goes(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the notebook, or in the call."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"holds no dbt_enrich\.yml"):
        enrich(spark, spark.sql(NOTES), summary_task(), unique_key="id", table="notes")


def test_more_rows_than_partition_rows_stay_in_spark(
    notebook: Notebook, emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its partitions write and read files: what comes of the rows is what one machine makes."""
    shared = SharedState(tmp_path / "bucket", monkeypatch)
    error = {"code": "content_filter", "message": "It is filtered"}
    emulator.rules([{"match": "note 42", "status": 400, "error": error}])
    select = (
        "select id, if(id = 7, null, concat('note ', cast(id % 250 as string))) as note, "
        "date'2026-01-02' as day from range(300)"
    )
    frame = notebook.enrich(select, partition_rows=100)
    assert statuses(frame) == {"done": 297, "failed": 2, "skipped": 1}
    columns = ("id", "day", "summary", "enrichment_status", "enrichment_error", "enrichment_key")
    found = rows(frame, *columns)
    failed = rows(failed_attempts(notebook.spark, "notes"), "id", "kind", "message")
    assert [row[0] for row in failed] == [42, 292]
    assert set(emulator.account()["custom_ids"].values()) == {1}
    assert [one.key for kind in ("requests", "responses") for one in shared.bucket.list(kind)] == []
    again = notebook.enrich(select)
    assert any(", 0 sent" in line for line in notebook.log[-2:])
    assert rows(again, *columns) == found
    assert rows(failed_attempts(notebook.spark, "notes"), "id", "kind", "message") == failed


def test_what_a_partition_refuses_is_said_as_on_one_machine(
    spark: Any, emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the same sentence, of the same class; nothing is sent, and no file stays."""
    shared = SharedState(tmp_path / "bucket", monkeypatch)
    config = config_for(
        emulator.url, emulator.api_key, tmp_path / "state", max_bytes_per_file=2_000
    )
    select = "select id, if(id = 3, repeat('long ', 1000), 'short') as note from range(5)"
    with pytest.raises(InputError, match="the row with id = 3 makes a request of"):
        Notebook(spark, config).enrich(select, partition_rows=4)
    assert emulator.account()["custom_ids"] == {}
    assert list(shared.bucket.list("requests")) == []
