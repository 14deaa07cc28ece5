"""Runs that go one by one and end early: what came is kept, and the next run asks the rest."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.console.console import Console
from dbt_enrich.errors import (
    AwaitTimeoutError,
    CancelledError,
    TransientError,
)
from dbt_enrich.pipeline.cancel import cancel
from dbt_enrich.pipeline.wait import wait_for_batches
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.shards import Shard
from support.clock import HastyClock
from support.synchronous import (
    CHAT,
    NOTES,
    ROWS,
    SYNC,
    SharedRelay,
    assert_all_done,
    assert_paid_once,
    chats,
    hung,
    shards_of,
)
from support.waiting import wait_until
from support.warehouse import Warehouse


@pytest.fixture
def emulator(relayed: SharedRelay) -> RunningEmulator:
    """The service, as if new."""
    return relayed.cleared()


@pytest.fixture
def warehouse(emulator: RunningEmulator, relayed: SharedRelay, tmp_path: Path) -> Warehouse:
    """A warehouse whose relay outlives the test."""
    return relayed.warehouse(tmp_path / "state")


def test_an_interrupted_run_keeps_what_came(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """And the next one asks the rest."""
    thread = hung(emulator, warehouse)
    warehouse.engine.cancelled.set()
    thread.join(timeout=30)
    (error,) = thread.failures  # type: ignore[attr-defined]
    assert isinstance(error, CancelledError)
    assert "the next run asks the other rows" in str(error)
    emulator.faults()
    warehouse.restart()
    warehouse.enrich(NOTES, **SYNC)
    assert_all_done(warehouse)
    assert_paid_once(emulator)


def test_replies_on_their_way_are_stayed_for(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """An interrupted run has paid for them."""
    notes = NOTES.replace(f"range({ROWS})", "range(80)")
    emulator.faults({"name": "slow", "operation": CHAT, "times": None, "delay": 0.3})

    def run() -> None:
        with pytest.raises(CancelledError):
            warehouse.enrich(notes, **SYNC)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: len(emulator.account()["paid"]) >= 2)
    warehouse.engine.cancelled.set()
    thread.join(timeout=30)
    emulator.faults()
    warehouse.restart()
    wait_for_batches(
        warehouse.config, "tests", models=(), timeout=60, console=Console(print),
        cancelled=threading.Event(),
    )  # fmt: skip
    warehouse.enrich(notes, mode="collect", **SYNC)
    paid = len(emulator.account()["paid"])
    assert 2 <= paid < 80
    assert warehouse.statuses() == {"done": paid, "pending": 80 - paid}


@pytest.mark.parametrize("mode", ["run", "submit"])
def test_await_timeout_takes_in_what_came(
    mode: str, warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """The other rows are pending, and asked by the next run as if they never had been."""
    clock = HastyClock(moment=60)
    warehouse = Warehouse(warehouse.config, clock=clock)
    thread = hung(emulator, warehouse, mode=mode, await_timeout=500)
    clock.advance(600)
    thread.join(timeout=60)
    assert warehouse.statuses() == {"done": 2, "pending": 4}
    assert [shard.requests for shard in shards_of(warehouse)] == [2]
    with pytest.raises(AwaitTimeoutError):
        warehouse.enrich(NOTES, await_timeout=0.3, on_await_timeout="error", **SYNC)
    emulator.faults()
    warehouse.enrich(NOTES, **SYNC)
    assert_all_done(warehouse)
    assert_paid_once(emulator)


def test_submit_does_not_wait_for_ever(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """It fails with what the service says; nothing is lost or paid."""
    emulator.faults({"name": "status", "operation": CHAT, "status": 503, "times": None})
    hasty = Warehouse(warehouse.config, clock=HastyClock())
    with pytest.raises(TransientError, match="HTTP 503"):
        hasty.enrich(NOTES, mode="submit", **SYNC)
    emulator.faults()
    warehouse.enrich(NOTES, mode="submit", **SYNC)
    assert_all_done(warehouse)
    assert_paid_once(emulator)


def test_cancel_ends_a_run_that_asks(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """It takes in what came and asks no more; the other rows are pending."""
    thread = hung(emulator, warehouse)
    result = cancel(warehouse.config, "tests", models=(), wait=20, console=Console(print))
    thread.join(timeout=30)
    assert (result.batches, result.waiting) == (1, 1)
    assert warehouse.statuses() == {"done": 2, "pending": 4}
    emulator.faults()
    warehouse.restart()
    warehouse.enrich(NOTES, **SYNC)
    assert_all_done(warehouse)
    assert_paid_once(emulator)


@pytest.mark.parametrize("how", ["wait", "cancel", "collect", "without", "changed"])
def test_what_a_run_left_behind_is_taken_in(
    how: str, warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """By every command, whatever is configured now; the rows without a reply are new again."""
    thread = hung(emulator, warehouse)
    warehouse.engine.cancelled.set()
    thread.join(timeout=30)
    emulator.faults()
    warehouse.restart()
    match how:
        case "wait":
            waited = wait_for_batches(
                warehouse.config, "tests", models=(), timeout=20, console=Console(print),
                cancelled=threading.Event(),
            )  # fmt: skip
            assert waited.stored == 2
        case "cancel":
            found = cancel(warehouse.config, "tests", models=(), wait=20, console=Console(print))
            assert found.kept == 2
        case "collect":
            warehouse.enrich(NOTES, mode="collect")
            assert warehouse.statuses() == {"done": 2, "pending": ROWS - 2}
        case "without":
            warehouse.enrich(NOTES)
            assert [batch["requests"] for batch in emulator.jobs.batches()] == [ROWS - 2]
    warehouse.enrich(NOTES, **SYNC)
    assert_all_done(warehouse)
    assert_paid_once(emulator)
    assert all(shard.is_closed for shard in shards_of(warehouse))


def test_an_earlier_version_s_conversation_is_taken_in(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """It had asked without a batch, and was killed at the step `answering`."""
    thread = hung(emulator, warehouse)
    warehouse.engine.cancelled.set()
    thread.join(timeout=30)
    emulator.faults()
    (shard,) = shards_of(warehouse)
    store = StateDirectory(warehouse.config.state_dir)
    replies = [
        {
            "custom_id": f"{key}-1",
            "response": {"status_code": 200, "body": answer_of(key)},
            "error": None,
        }
        for key in manifest_keys(warehouse, shard)[:3]
    ]
    text = "".join(json.dumps(reply) + "\n" for reply in replies)
    store.response(shard.shard, "output").write_text(text)
    with sqlite3.connect(store.ledger) as ledger:
        ledger.execute("update batches set step = 'answering', batch_id = null, status = null")
    asked = len(chats(emulator))
    warehouse.restart()
    warehouse.enrich(NOTES, **SYNC)
    assert warehouse.statuses() == {"done": ROWS}
    assert len(chats(emulator)) == asked + ROWS - 3
    assert warehouse.rows("select count(*) from enriched where summary = 'of old'") == [(3,)]


def answer_of(key: str) -> dict[str, Any]:
    """A reply as the service gave it."""
    message = {"role": "assistant", "content": json.dumps({"summary": "of old"})}
    return {"id": key, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def manifest_keys(warehouse: Warehouse, shard: Shard) -> list[str]:
    """The request keys that a shard holds."""
    path = StateDirectory(warehouse.config.state_dir).manifest(shard.shard)
    found = warehouse.rows(f"select request_key from read_parquet('{path}') order by 1")
    return [str(key).replace("-", "") for (key,) in found]
