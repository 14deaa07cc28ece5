"""A relay of a run's own: begun with it, killed under it, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from batch_server.process import ADDRESS_FILE
from batch_server.server import RunningEmulator
from dbt_enrich.config import parse_config
from dbt_enrich.errors import (
    AuthenticationError,
    CancelledError,
)
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.shards import Step
from support.synchronous import (
    CHAT,
    NOTES,
    ROWS,
    SYNC,
    assert_all_done,
    assert_paid_once,
    chats,
    ledger_of,
    refuse,
    shards_of,
    used,
    warehouse_on,
)
from support.waiting import wait_until
from support.warehouse import Warehouse, config_for


@pytest.fixture
def warehouse(emulator: RunningEmulator, tmp_path: Path) -> Warehouse:
    """A warehouse on the emulator, whose requests do not hang for long."""
    return warehouse_on(emulator, tmp_path / "state", timeout=2)


@pytest.mark.parametrize("mode", ["run", "submit"])
def test_few_requests_are_answered_at_once(
    mode: str, warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """Without file and batch at the service, by the deployment that `preview_model` names."""
    warehouse.enrich(NOTES, mode=mode, **SYNC)
    assert_all_done(warehouse)
    assert_paid_once(emulator)
    assert len(chats(emulator)) == ROWS
    assert emulator.jobs.batches() == []
    assert list(emulator.jobs.files.all()) == []
    (shard,) = shards_of(warehouse)
    assert shard.synchronous
    assert (shard.step, shard.deployment) == (Step.STORED, "standard")
    assert (shard.requests, shard.completed, shard.failed) == (ROWS, ROWS, 0)
    assert warehouse.rows("select distinct enrichment_batch_id from enriched") == [(None,)]
    state = StateDirectory(warehouse.config.state_dir)
    assert state.shard_files() == []
    # Nothing of the rows stays with the relay, either.
    assert list(state.root.glob("relay/*/files/*")) == []
    assert list(state.root.glob("relay/*/results/*")) == []
    warehouse.enrich(NOTES, **SYNC)
    assert_paid_once(emulator)


def test_an_unknown_outcome_counts_as_an_attempt(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """The row is asked once more, as the service may have been paid for it, and no other row is."""
    names = ("lost_reply", "reset", "hang", "truncated")
    emulator.faults(
        *({"name": name, "operation": CHAT, "call": call} for call, name in enumerate(names, 1))
    )
    warehouse.enrich(NOTES, **SYNC)
    assert_all_done(warehouse)
    failures = warehouse.rows("select kind, message, attempt from enriched__errors")
    assert [(kind, attempt) for kind, _, attempt in failures] == [("provider_error", 1)] * 4
    assert all(message.startswith("unknown_outcome: ") for _, message, _ in failures)
    assert all("may have been paid for all the same" in message for _, message, _ in failures)
    # A lost reply and a cut one were answered, and paid, twice.
    assert sum(emulator.account()["paid"].values()) == ROWS + 2
    assert len(chats(emulator)) == ROWS + 4


def test_a_row_without_any_outcome_is_asked_max_attempts_times(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """And then it is failed, like any other."""
    emulator.faults({"name": "lost_reply", "operation": CHAT, "times": None})
    warehouse.enrich("select 1 as id, 'note' as note", max_attempts=2, **SYNC)
    assert warehouse.statuses() == {"failed": 1}
    assert len(chats(emulator)) == 2


def test_a_refused_key_ends_the_run_and_keeps_what_came(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """The next run asks only the rows that have no reply."""
    refuse(emulator, 401, since=ROWS)
    with pytest.raises(AuthenticationError, match="HTTP 401"):
        warehouse.enrich(NOTES, **SYNC)
    assert len(emulator.account()["paid"]) == ROWS - 1
    emulator.faults()
    warehouse.restart()
    warehouse.enrich(NOTES, **SYNC)
    assert_all_done(warehouse)
    assert_paid_once(emulator)


def relay_process(warehouse: Warehouse) -> int | None:
    """The process of the relay, if it has begun."""
    for path in Path(warehouse.config.state_dir).glob(f"relay/*/{ADDRESS_FILE}"):
        return int(json.loads(path.read_text())["pid"])
    return None


def test_a_relay_that_is_killed_is_started_again(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """In the middle of it: what was answered is not asked again, what was on its way counts."""
    notes = NOTES.replace(f"range({ROWS})", "range(60)")
    emulator.faults({"name": "hang", "operation": CHAT, "call": 20})
    killed = []

    def kill() -> None:
        wait_until(lambda: len(emulator.account()["paid"]) >= 30)
        killed.append(relay_process(warehouse))
        os.kill(killed[0] or 0, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    warehouse.enrich(notes, **SYNC)
    thread.join()
    assert relay_process(warehouse) != killed[0]
    assert warehouse.statuses() == {"done": 60}
    unknown = warehouse.rows("select message from enriched__errors")
    assert all(message.startswith("unknown_outcome: ") for (message,) in unknown)
    assert 1 <= len(unknown) <= 40
    again = [key for key, times in emulator.account()["paid"].items() if times > 1]
    assert len(again) <= len(unknown)


@pytest.mark.parametrize(("via", "tier"), [("synchronous", None), ("flex", "flex")])
def test_a_whole_table(
    via: str, tier: str | None, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Of a service without any Batch API, in several files, at the price of its tier."""
    emulator.faults(
        {"name": "status", "operation": "GET /batches", "status": 404, "times": None},
        {"name": "status", "operation": CHAT, "status": 429, "times": 3, "call": None},
    )
    prices = {"gpt-4o-mini": {"input": 100, "output": 200}}
    config = parse_config(
        {
            "provider": "openai",
            "base_url": f"{emulator.url}/v1",
            "api_key": emulator.api_key,
            "state_dir": str(tmp_path / "state"),
            "max_requests_per_file": 100,
            "prices": prices,
        },
        duckdb_settings={},
    )
    warehouse = Warehouse(config)
    notes = NOTES.replace(f"range({ROWS})", "range(250)")
    plan = warehouse.enrich(notes, mode="plan", via=via).summary
    assert "250 requests to send synchronously" in plan
    warehouse.enrich(notes, via=via)
    assert warehouse.statuses() == {"done": 250}
    assert_paid_once(emulator, 250)
    assert [shard.requests for shard in shards_of(warehouse)] == [100, 100, 50]
    shards = shards_of(warehouse)
    prompt = sum(shard.prompt_tokens or 0 for shard in shards)
    completion = sum(shard.completion_tokens or 0 for shard in shards)
    full = (prompt * 100 + completion * 200) / 1e6
    paid = full / 2 if tier else full
    assert used(warehouse) == [(250, pytest.approx(paid), pytest.approx(full - paid))]
    kept = [json.loads(shard.settings or "")["parameters"] for shard in shards]
    assert kept == [{"service_tier": tier} if tier else {}] * 3
    # Nothing is asked again as it is asked in another way.
    warehouse.enrich(notes, via="synchronous" if tier else "flex")
    assert_paid_once(emulator, 250)


def test_two_models_share_one_relay(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """The small one is answered while the large one is on its way."""
    many = "select i as id, 'many ' || i as note from range(400) as numbers(i)"
    emulator.faults({"name": "slow", "operation": CHAT, "times": None, "delay": 0.05})
    options = {"via": "synchronous", "preview_model": "standard"}
    threads = [
        threading.Thread(
            target=warehouse.enrich, args=(select,), kwargs={"table": table, **options}
        )
        for select, table in ((many, "many"), (NOTES, "few"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ledger_of(warehouse) as ledger:
        ended = {
            shard.requests: ledger.events.last_time(shard.shard, Step.STORED)
            for shard in ledger.shards.all()
        }
    assert ended[ROWS] < ended[400]  # type: ignore[operator]


def test_no_text_of_rows_stays_where_it_may_not(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Not with the relay either, also where a run was interrupted."""
    emulator.deployments({"name": "standard", "sku": "GlobalStandard"})
    config = config_for(
        emulator.url, emulator.api_key, tmp_path / "state", store_inputs=False, timeout=2
    )
    warehouse = Warehouse(config)
    options: dict[str, Any] = {"via": "synchronous", "preview_model": "standard"}
    emulator.faults({"name": "status", "operation": CHAT, "status": 503, "times": None})
    thread = threading.Thread(target=lambda: _interrupted(warehouse, **options))
    thread.start()
    wait_until(lambda: len(chats(emulator)) >= 4)
    warehouse.engine.cancelled.set()
    thread.join(timeout=60)
    emulator.faults()
    warehouse.restart()
    warehouse.enrich(NOTES, **options)
    assert_all_done(warehouse)
    kept = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    texts = [path for path in kept if b"note 3" in path.read_bytes() and path.suffix != ".parquet"]
    assert [path for path in texts if path.parent.name != "answers"] == []


def _interrupted(warehouse: Warehouse, **options: Any) -> None:
    with pytest.raises(CancelledError):
        warehouse.enrich(NOTES, **options)
