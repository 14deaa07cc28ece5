"""`sync_below`: rounds of few requests go through the synchronous endpoint, and only those."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.console.console import Console
from dbt_enrich.cost.money import money_text
from dbt_enrich.errors import (
    AuthenticationError,
    AwaitTimeoutError,
    CancelledError,
    CapError,
    ConfigurationError,
    LedgerError,
)
from dbt_enrich.pipeline.cancel import cancel
from dbt_enrich.pipeline.publish.usage_relations import relations
from dbt_enrich.pipeline.wait import wait_for_batches
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.run import open_run
from dbt_enrich.state.shards import Shard, Step
from support.clock import HastyClock
from support.waiting import wait_until
from support.warehouse import Warehouse, config_for

ROWS = 6
NOTES = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"
CHAT = "POST /chat/completions"
SYNC: dict[str, Any] = {"sync_below": 100, "preview_model": "standard"}


@pytest.fixture
def warehouse(emulator: RunningEmulator, tmp_path: Path) -> Warehouse:
    """A warehouse on the emulator, whose requests do not hang for long."""
    emulator.deployments({"name": "gpt-4o-mini"}, {"name": "standard", "sku": "GlobalStandard"})
    config = config_for(emulator.url, emulator.api_key, tmp_path / "state", timeout=2)
    return Warehouse(config, clock=HastyClock())


def ledger_of(warehouse: Warehouse) -> Ledger:
    """The warehouse's ledger."""
    return Ledger(StateDirectory(warehouse.config.state_dir).made().ledger)


def shards_of(warehouse: Warehouse) -> list[Shard]:
    """What was claimed, oldest first."""
    with ledger_of(warehouse) as ledger:
        return ledger.shards.all()


def chats(emulator: RunningEmulator) -> list[int]:
    """The statuses of the synchronous requests."""
    calls = emulator.account()["calls"]
    return [call["status"] for call in calls if call["path"] == "/chat/completions"]


def assert_paid_once(emulator: RunningEmulator, rows: int = ROWS) -> None:
    """Every request was answered and paid for once, however it was asked."""
    assert Counter(emulator.account()["paid"].values()) == {1: rows}


def assert_all_done(warehouse: Warehouse) -> None:
    """Each row has its own answer."""
    assert warehouse.rows("select id, summary, enrichment_status from enriched order by id") == [
        (i, f"summary: note {i}", "done") for i in range(ROWS)
    ]


@pytest.mark.parametrize("mode", ["run", "submit"])
def test_few_requests_are_answered_at_once(
    mode: str, warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """Without file and batch, by the deployment that `preview_model` names."""
    warehouse.enrich(NOTES, mode=mode, **SYNC)
    assert_all_done(warehouse)
    assert_paid_once(emulator)
    assert len(chats(emulator)) == ROWS
    assert emulator.jobs.batches() == []
    assert list(emulator.jobs.files.all()) == []
    (shard,) = shards_of(warehouse)
    assert shard.synchronous
    assert (shard.step, shard.deployment, shard.batch_id) == (Step.STORED, "standard", None)
    assert (shard.requests, shard.completed, shard.failed) == (ROWS, ROWS, 0)
    assert warehouse.rows("select distinct enrichment_batch_id from enriched") == [(None,)]
    state = StateDirectory(warehouse.config.state_dir)
    assert state.shard_files() == []
    warehouse.enrich(NOTES, **SYNC)
    assert_paid_once(emulator)


@pytest.mark.parametrize(("below", "batches"), [(ROWS, 1), (ROWS + 1, 0)])
def test_as_many_as_the_bound_go_into_a_batch(
    below: int, batches: int, warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """`sync_below` is the first number that does."""
    warehouse.enrich(NOTES, sync_below=below, preview_model="standard")
    assert_all_done(warehouse)
    assert len(emulator.jobs.batches()) == batches


def test_leftovers_of_a_batch_are_asked_at_once(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """A later round of few rows, with the message of the validator."""
    emulator.rules(
        [
            {"match": "note 2", "times": 1, "fault": "wrong_shape"},
            {"match": "note 2", "answer": {"summary": "summary: note 2"}},
        ]
    )
    warehouse.enrich(NOTES, sync_below=2, preview_model="standard")
    assert_all_done(warehouse)
    assert [shard.synchronous for shard in shards_of(warehouse)] == [False, True]
    assert warehouse.rows("select kind from enriched__errors") == [("schema_mismatch",)]
    assert chats(emulator) == [200]


@pytest.mark.parametrize("mode", ["run", "submit"])
@pytest.mark.parametrize(
    ("rule", "kind", "again"),
    [
        ({"fault": "content_filter_prompt"}, "content_filter", False),
        ({"fault": "content_filter_answer"}, "content_filter", False),
        ({"fault": "refusal"}, "refusal", False),
        ({"fault": "truncated"}, "truncated", False),
        ({"fault": "broken_json"}, "invalid_json", True),
        ({"fault": "wrong_shape"}, "schema_mismatch", True),
        ({"fault": "no_choices"}, "invalid_json", True),
        ({"status": 400}, "provider_error", False),
        ({"status": 422}, "provider_error", False),
        ({"status": 408}, "provider_error", True),
        ({"status": 500}, "provider_error", True),
        ({"status": 502}, "provider_error", True),
    ],
    ids=str,
)
def test_failures_have_the_names_that_a_batch_gives_them(
    rule: dict[str, Any],
    kind: str,
    again: bool,
    mode: str,
    warehouse: Warehouse,
    emulator: RunningEmulator,
) -> None:
    """And are asked again, at once, by the same rules."""
    emulator.rules(
        [
            {"match": "note 1", "times": 1, **rule},
            {"match": "note 1", "answer": {"summary": "summary: note 1"}},
        ]
    )
    warehouse.enrich(NOTES, mode=mode, **SYNC)
    assert warehouse.rows("select distinct kind from enriched__errors") == [(kind,)]
    failed = {} if again else {"failed": 1}
    assert warehouse.statuses() == {"done": ROWS - (not again), **failed}
    assert [shard.requests for shard in shards_of(warehouse)] == [ROWS, *([1] if again else [])]


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_waited_for_and_pays_nothing_twice(
    status: int, warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """As its Retry-After says; none of it counts as an attempt."""
    emulator.faults(
        {"name": "status", "operation": CHAT, "status": status, "retry_after": "0.2", "times": 5}
    )
    began = time.monotonic()
    warehouse.enrich(NOTES, max_attempts=1, **SYNC)
    assert time.monotonic() - began >= 0.2
    assert_all_done(warehouse)
    assert_paid_once(emulator)
    assert chats(emulator).count(status) == 5
    assert any("trying again" in line for line in warehouse.log)


@pytest.mark.parametrize("name", ["lost_reply", "reset", "hang", "truncated"])
def test_an_unknown_outcome_counts_as_an_attempt(
    name: str, warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """The row is asked once more, as the service may have been paid for it, and no other row is."""
    emulator.faults({"name": name, "operation": CHAT, "times": 1})
    warehouse.enrich(NOTES, **SYNC)
    assert_all_done(warehouse)
    ((kind, message, attempt),) = warehouse.rows(
        "select kind, message, attempt from enriched__errors"
    )
    assert (kind, attempt) == ("provider_error", 1)
    assert message.startswith("unknown_outcome: ")
    assert "may have been paid for all the same" in message
    paid = emulator.account()["paid"]
    assert sum(paid.values()) == ROWS + (name in ("lost_reply", "truncated"))
    assert len(chats(emulator)) == ROWS + 1


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
    emulator.faults({"name": "status", "operation": CHAT, "status": 401, "call": 6})
    with pytest.raises(AuthenticationError):
        warehouse.enrich(NOTES, **SYNC)
    assert len(emulator.account()["paid"]) == ROWS - 1
    warehouse.restart()
    warehouse.enrich(NOTES, **SYNC)
    assert_all_done(warehouse)
    assert_paid_once(emulator)


@pytest.mark.parametrize("mode", ["run", "submit", "plan"])
def test_azure_without_a_deployment_for_it_is_refused(
    mode: str, warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """Before anything is sent, with the field and the fix."""
    with pytest.raises(ConfigurationError, match=r"'enriched'.*sync_below.*preview_model"):
        warehouse.enrich(NOTES, mode=mode, sync_below=10)
    assert emulator.account()["calls"] == []


def test_a_batch_deployment_for_it_is_named(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """Azure says only when it is asked; nothing is paid."""
    with pytest.raises(ConfigurationError, match=r"sync_below.*'gpt-4o-mini' answers no single"):
        warehouse.enrich(NOTES, sync_below=10, preview_model="gpt-4o-mini")
    assert emulator.account()["paid"] == {}


@pytest.mark.parametrize(("below", "batches"), [(3, 1), (4, 0)])
def test_a_pack_is_one_request(
    below: int, batches: int, warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """Three packs of two rows, of which each has its own answer and its share of the tokens."""
    warehouse.enrich(NOTES, sync_below=below, preview_model="standard", rows_per_request=2)
    assert_all_done(warehouse)
    assert len(emulator.jobs.batches()) == batches
    assert len(chats(emulator)) == (0 if batches else 3)


def test_a_pack_that_fails_is_asked_again_row_by_row(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """At once as well."""
    emulator.rules([{"match": "note 0", "times": 1, "content": "sorry"}])
    warehouse.enrich(NOTES, rows_per_request=3, **SYNC)
    assert_all_done(warehouse)
    assert [(shard.requests, shard.rows) for shard in shards_of(warehouse)] == [(2, 6), (3, 3)]
    assert warehouse.rows("select distinct kind from enriched__errors") == [("pack_failed",)]


def test_it_costs_the_synchronous_price(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """In the plan, the cap, the usage and the table's comment; it saves nothing."""
    prices = {"gpt-4o-mini": {"input": 100, "output": 200}}
    warehouse.restart(warehouse.config.model_copy(update={"prices": prices}))
    plan = warehouse.enrich(NOTES, mode="plan", **SYNC).summary
    assert "6 requests to send synchronously" in plan
    assert "(saves USD 0.00)" in plan
    batch = warehouse.enrich(NOTES, mode="plan").summary
    assert cost_in(plan) == pytest.approx(2 * cost_in(batch), abs=0.011)
    with pytest.raises(CapError, match="max_cost"):
        warehouse.enrich(NOTES, max_cost=cost_in(plan) * 0.7, **SYNC)
    assert emulator.account()["paid"] == {}
    outcome = warehouse.enrich(NOTES, **SYNC)
    (shard,) = shards_of(warehouse)
    prompt, completion = shard.prompt_tokens or 0, shard.completion_tokens or 0
    paid = (prompt * 100 + completion * 200) / 1e6
    assert f"cost so far {money_text(paid, 'USD')}, saved" in outcome.comment
    assert used(warehouse) == [(ROWS, pytest.approx(paid), 0.0)]


def cost_in(plan: str) -> float:
    """The cost that a plan says."""
    return float(plan.split("USD ")[1].split(" ")[0].replace(",", ""))


def used(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    """What the relations say of usage; every shard of it is marked as synchronous."""
    with open_run(warehouse.config) as run:
        made = relations(run, warehouse.config)
        marks = run.workspace.rows(f"select distinct synchronous, batch_id from ({made.batches})")
        assert marks == [(True, None)]
        return run.workspace.rows(f"select requests, cost, saved from ({made.usage})")


def hung(emulator: RunningEmulator, warehouse: Warehouse, **options: Any) -> threading.Thread:
    """Start a run whose first two requests are answered, and whose others are refused for now."""
    emulator.faults(
        *(
            {"name": "status", "operation": CHAT, "status": 503, "call": call}
            for call in range(3, 2000)
        )
    )
    failures: list[BaseException] = []

    def run() -> None:
        try:
            warehouse.enrich(NOTES, **SYNC, **options)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.failures = failures  # type: ignore[attr-defined]
    thread.start()
    wait_until(lambda: any(shard.completed == 2 for shard in shards_of(warehouse)))
    return thread


def test_an_interrupted_run_keeps_what_came(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """And the next one asks the rest."""
    thread = hung(emulator, warehouse)
    warehouse.engine.cancelled.set()
    thread.join(timeout=30)
    assert [type(e) for e in thread.failures] == [CancelledError]  # type: ignore[attr-defined]
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
    paid = len(emulator.account()["paid"])
    assert paid < 80
    emulator.faults()
    warehouse.restart()
    warehouse.enrich(notes, mode="collect", **SYNC)
    assert warehouse.statuses() == {"done": paid, "pending": 80 - paid}


@pytest.mark.parametrize("mode", ["run", "submit"])
def test_await_timeout_takes_in_what_came(
    mode: str, warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """The other rows are pending, and asked by the next run as if they never had been."""
    hung(emulator, warehouse, mode=mode, await_timeout=1.5).join(timeout=30)
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
    with pytest.raises(Exception, match="HTTP 503"):
        warehouse.enrich(NOTES, mode="submit", **SYNC)
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


def left_behind(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """Leave a conversation behind in which all but one row were answered."""
    emulator.faults({"name": "status", "operation": CHAT, "status": 401, "call": ROWS})
    with pytest.raises(AuthenticationError):
        warehouse.enrich(NOTES, **SYNC)
    emulator.faults()
    (shard,) = shards_of(warehouse)
    assert shard.step == Step.ANSWERING


@pytest.mark.parametrize("how", ["wait", "cancel", "collect", "without", "changed"])
def test_what_a_run_left_behind_is_taken_in(
    how: str, warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """By every command, whatever is configured now; the row without a reply is new again."""
    left_behind(warehouse, emulator)
    warehouse.restart()
    match how:
        case "wait":
            waited = wait_for_batches(
                warehouse.config, "tests", models=(), timeout=20, console=Console(print),
                cancelled=threading.Event(),
            )  # fmt: skip
            assert waited.stored == ROWS - 1
        case "cancel":
            assert (
                cancel(warehouse.config, "tests", models=(), wait=20, console=Console(print)).kept
                == ROWS - 1
            )
        case "collect":
            warehouse.enrich(NOTES, mode="collect")
            assert warehouse.statuses() == {"done": ROWS - 1, "pending": 1}
        case "without":
            warehouse.enrich(NOTES)
            assert [batch["requests"] for batch in emulator.jobs.batches()] == [1]
    warehouse.enrich(NOTES, **SYNC)
    assert_all_done(warehouse)
    assert_paid_once(emulator)
    assert all(shard.is_closed for shard in shards_of(warehouse))


class FullDisk:
    """The module `os` on a disk that is full in the middle of the third line."""

    def __init__(self) -> None:
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write two lines, then a part of one, then nothing."""
        self.writes += 1
        if self.writes > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(descriptor, data[:40] if self.writes == 3 else data)


def test_a_full_disk_ends_the_run_and_leaves_whole_lines(
    warehouse: Warehouse, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written before counts; nothing else is taken for a reply."""
    with monkeypatch.context() as patched:
        patched.setattr("dbt_enrich.files.os", FullDisk())
        with pytest.raises(LedgerError, match="No space left"):
            warehouse.enrich(NOTES, **SYNC)
    (shard,) = shards_of(warehouse)
    path = StateDirectory(warehouse.config.state_dir).response(shard.shard, "output")
    assert len(path.read_bytes().splitlines()) == 2
    assert path.read_bytes().endswith(b"\n")
    warehouse.restart()
    warehouse.enrich(NOTES, **SYNC)
    assert_all_done(warehouse)
