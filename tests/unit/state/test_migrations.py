"""Ledgers of earlier versions, as they were written, opened by this one.

Each file of `ledgers/` is the dump of a ledger as the migration of its name left it. A migration
that is added needs a dump of its own; a dump that is there is never written again.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.migrations import MIGRATIONS
from dbt_enrich.state.shards import Step

LEDGERS = Path(__file__).parent / "ledgers"
NAMES = [name for name, _ in MIGRATIONS]


def restored(name: str, path: Path) -> Path:
    """Write the ledger of an earlier version."""
    ledger = path / "ledger.sqlite"
    with sqlite3.connect(ledger) as connection:
        connection.executescript((LEDGERS / f"{name}.sql").read_text())
    return ledger


def schema_of(path: Path) -> set[tuple[str, str]]:
    """The tables' columns, in the order in which `select *` would not matter."""
    with sqlite3.connect(path) as connection:
        tables = connection.execute("select name from sqlite_master where type = 'table'")
        return {
            (table, column[1])
            for (table,) in tables.fetchall()
            for column in connection.execute(f"pragma table_info({table})").fetchall()
        }


def test_each_version_has_its_dump() -> None:
    """So that none can be forgotten."""
    assert sorted(path.stem for path in LEDGERS.glob("*.sql")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_earlier_ledger_is_read_and_gone_on_with(name: str, tmp_path: Path) -> None:
    """Its answers are live, its batches in flight are driven on, its intents are known."""
    with Ledger(restored(name, tmp_path)) as ledger:
        assert [shard.shard for shard in ledger.shards.open(task_key="t1")] == ["s2", "s3"]
        assert list(ledger.answers.live("t1")) == ["s1", "s1-missing"]
        assert ledger.tasks.outputs("t1") == [{"name": "summary", "data_type": "varchar"}]
        stored = ledger.shards.get("s1")
        assert (stored.requests, stored.prompt_tokens, stored.batch_id) == (3, 90, "batch_1")
        assert ledger.events.last_time("s3", Step.CREATING) is not None
        assert len(ledger.events.all()) == 22
        ledger.shards.record(ledger.shards.get("s3"), Step.SUBMITTED, batch_id="batch_3")
        ledger.shards.store(ledger.shards.get("s2"), files={"s2": 2}, prompt_tokens=60)
        ledger.shards.request_cancel("s3")
        ledger.quotas.learn("azure:x", "d", max_enqueued_tokens=10, source="header")
        assert [shard.shard for shard in ledger.shards.open()] == ["s3"]


@pytest.mark.parametrize("name", NAMES)
def test_an_earlier_ledger_becomes_what_a_new_one_is(name: str, tmp_path: Path) -> None:
    """Every table and column; an edited migration would leave them apart."""
    old = restored(name, tmp_path)
    Ledger(old).close()
    new = tmp_path / "new.sqlite"
    Ledger(new).close()
    assert schema_of(old) == schema_of(new)
