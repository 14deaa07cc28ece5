"""The materialization where dbt's adapter is dbt-spark or dbt-sail, with the command in between."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from batch_server.server import RunningEmulator
from support.dbt_project import azure
from support.shared_ledger import LedgerServer
from support.spark_project import SailProject

Row = pytest.importorskip("pyspark.sql", reason="needs the extra spark (pyspark-client)").Row
NOTES = "select id, concat('note ', id) as note from range(4)"


def project_of(
    adapter: str, file_format: str, sail: int, emulator: RunningEmulator, directory: Path
) -> SailProject:
    """A project of an adapter whose tables have one format."""
    pytest.importorskip(f"dbt.adapters.{adapter}", reason=f"needs dbt-{adapter}")
    return SailProject(directory, azure(emulator.url, emulator.api_key), adapter, sail, file_format)


# A column of every kind of type, some with an odd name.
COLUMNS = {
    "price": "cast(id + 0.5 as decimal(9, 2))",
    "née": "id = 1",
    "at": "timestamp_ntz '2024-02-29 12:34:56.789'",
    "instant": "timestamp '2024-02-29 12:34:56Z'",
    "day": "date '2024-02-29'",
    "two words": "cast('x' as binary)",
    "list": "array(id, null)",
    "record": "named_struct('a b', id, 'c', array('x'))",
    "a.map": "map('k', id)",
    "nothing": "cast(null as int)",
}
SHOWN = ("note", "price", "née", "at", "instant", "day", "list", "record")


def select(note: str, rows: int) -> str:
    """Build the SELECT of so many rows with such a note."""
    values = {"the.id": "id", "note": note, **COLUMNS}
    listed = ", ".join(f"{value} as `{name}`" for name, value in values.items())
    return f"select {listed} from range({rows})"


# An output of every kind of type: what Spark has it as, an answer, and the value that comes of it.
OUTPUTS = {
    "summary": ("varchar", "string", "née \\\u0000 `'", "née \\\u0000 `'"),
    "tone": ("enum('so-so', 'it''s')", "string", "it's", "it's"),
    "small": ("tinyint", "tinyint", -7, -7),
    "huge": ("hugeint", "string", 123, "123"),
    "large": ("ubigint", "decimal(20,0)", 2**53, Decimal(2**53)),
    "about": ("double", "double", 0.1, 0.1),
    "exact": ("decimal(10,2)", "decimal(10,2)", 1.5, Decimal("1.50")),
    "is_it": ("boolean", "boolean", True, True),
    "on_day": ("date", "date", "2024-02-29", date(2024, 2, 29)),
    "hour": ("time", "string", "12:34:56", "12:34:56"),
    "when": (
        "timestamp",
        "timestamp_ntz",
        "2024-02-29T12:34:56",
        datetime.fromisoformat("2024-02-29T12:34:56"),
    ),
    "labels": ("enum('a', 'b')[]", "array<string>", ["a", "b"], ["a", "b"]),
    "things": (
        'struct("a b" integer, c varchar[])[]',
        "array<struct<a b:int,c:array<string>>>",
        [{"a b": 1, "c": ["x"]}],
        [Row(**{"a b": 1, "c": ["x"]})],
    ),
}


def test_dbt_stages_and_publishes_and_the_command_works(
    sail: int, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Each row is sent once, and what fails is named; a table is renamed, or replaced."""
    project = project_of("sail", "parquet", sail, emulator, tmp_path)
    emulator.rules(
        [
            {"match": "note 3", "refusal": "no"},
            {"match": "", "answer": {name: answer for name, (_, _, answer, _) in OUTPUTS.items()}},
        ]
    )
    columns = [{"name": name, "data_type": kind} for name, (kind, *_) in OUTPUTS.items()]
    user = "; ".join(f"{{{name}}}" for name in SHOWN)
    meta = {"user": user, "output": [*OUTPUTS], "max_attempts": 1}
    config = "unique_key = 'the.id', file_format = 'parquet'"
    notes = select("concat('note ', id)", 4)
    project.enrichment("notes", notes, config=config, meta=meta, columns=columns)
    project.command("run", exits=4)
    assert project.statuses() == {"done": 3, "failed": 1}
    with project.session() as spark:
        table = spark.table("notes.notes")
        kinds = {field.name: field.dataType.simpleString() for field in table.schema.fields}
        row = table.where("`the.id` = 2").collect()[0]
    assert [kinds[name] for name in OUTPUTS] == [kind for _, kind, _, _ in OUTPUTS.values()]
    assert [row[name] for name in OUTPUTS] == [value for *_, value in OUTPUTS.values()]
    assert project.rows("select `the.id`, kind from notes.notes__errors") == [(3, "refusal")]
    # A changed row alone is sent; another is gone, with its failed attempt.
    notes = select("if(id = 1, 'more', concat('note ', id))", 3)
    project.enrichment("notes", notes, config=config, meta=meta, columns=columns)
    project.command("run")
    assert project.statuses() == {"done": 3}
    assert project.rows("select `the.id`, kind from notes.notes__errors") == []
    assert len(emulator.account()["paid"]) == 5
    assert set(emulator.account()["paid"].values()) == {1}
    assert [row[1] for row in project.rows("show tables in notes")] == ["notes", "notes__errors"]


@pytest.mark.matrix
def test_more_rows_than_partition_rows_stay_in_spark(
    sail: int, emulator: RunningEmulator, ledgers: LedgerServer, tmp_path: Path
) -> None:
    """The command has its partitions do the work, and says of it what it says of one machine's.

    Where they cannot reach the state, it refuses before anything is sent.
    """
    project = project_of("sail", "parquet", sail, emulator, tmp_path)
    config = "unique_key = 'id', file_format = 'parquet'"
    alone = {**azure(emulator.url, emulator.api_key), "partition_rows": 3}
    project.configure(alone)
    project.enrichment("notes", NOTES, config=config)
    output = project.command("run", exits=1)
    assert "model 'notes' has more new rows than partition_rows" in output
    assert "share the state" in output
    assert emulator.account()["paid"] == {}
    keys = ledgers.new()
    project.configure(
        {
            **alone,
            "state": {
                "ledger": keys.ledger.get_secret_value(),
                "ledger_schema": keys.ledger_schema,
                "files": keys.files,
            },
        }
    )
    plan = project.command("plan")
    assert [line.split()[:2] for line in plan.splitlines() if "notes" in line][:1] == [
        ["notes", "4"]
    ]
    emulator.rules([{"match": "note 2", "refusal": "no"}])
    output = project.command("run", exits=4)
    assert "notes: 0 done, 4 pending; 0 reused, 4 sent" in output
    assert "notes: 3 done, 1 failed (refusal 1); 3 reused, 0 sent" in output
    assert "1 of 4 answered rows failed, a larger share than warn_failed_share" in output
    assert project.statuses() == {"done": 3, "failed": 1}
    assert project.rows("select id, kind from notes.notes__errors") == [(2, "refusal")]
    # Beside those rows new ones are due, more than partition_rows; one of them is done by another.
    twelve = "select id, concat('note ', id % 7) as note from range(12)"
    project.enrichment("notes", twelve, config=config)
    output = project.command("run", exits=4)
    assert "; 3 more are done" in output
    assert project.statuses() == {"done": 10, "failed": 2}
    assert set(emulator.account()["custom_ids"].values()) == {1}
    assert len(emulator.account()["custom_ids"]) == 7


@pytest.mark.matrix
def test_rows_are_merged_into_a_table_of_delta(
    sail: int, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """The new ones in place of those of their keys; a bare `dbt run` sends nothing before."""
    project = project_of("spark", "delta", sail, emulator, tmp_path)
    emulator.rules([{"match": "note 3", "refusal": "no"}])
    config = "unique_key = 'id', file_format = 'delta', contract = {'enforced': true}"
    meta = {"publish": "merge", "max_attempts": 1, "output": ["summary", "tone"]}
    kinds = {"id": "bigint", "note": "string", "summary": "varchar", "tone": "enum('a', 'b')"}
    columns = [{"name": name, "data_type": kind} for name, kind in kinds.items()]
    project.enrichment("notes", NOTES, config=config, meta=meta, columns=columns)
    output = project.dbt("run")
    assert "notes: 4 rows are pending; `dbt-enrich run --select notes` sends and" in output
    assert emulator.account()["paid"] == {}
    project.command("run", exits=4)
    assert project.statuses() == {"done": 3, "failed": 1}
    emulator.rules([])
    changed = (
        "select id, concat('note ', id, if(id = 2, ' more', '')) as note from range(2, 6) "
        "{% if dbt_enrich.is_incremental() %}where id in (2, 5){% endif %}"
    )
    project.enrichment("notes", changed, config=config, meta=meta, columns=columns)
    project.command("run", exits=4)
    texts = {2: "note 2 more", 0: "note 0", 1: "note 1", 5: "note 5"}
    assert project.rows("select id, summary from notes.notes") == [
        (i, f"summary: {texts[i]}" if i in texts else None) for i in (0, 1, 2, 3, 5)
    ]
    assert project.rows("select id, kind from notes.notes__errors") == [(3, "refusal")]
    assert set(emulator.account()["paid"].values()) == {1}
    assert [row[1] for row in project.rows("show tables in notes")] == ["notes", "notes__errors"]
