"""`sync_below` and `via`: what goes one by one through the synchronous endpoint, by the relay."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from batch_server.process import ADDRESS_FILE
from batch_server.server import RunningEmulator
from dbt_enrich.config import parse_config
from dbt_enrich.console.console import Console
from dbt_enrich.cost.money import money_text
from dbt_enrich.errors import (
    AuthenticationError,
    AwaitTimeoutError,
    CancelledError,
    CapError,
    ConfigurationError,
    TransientError,
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
from support.warehouse import Warehouse, config_for, summary_task

ROWS = 6
NOTES = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"
CHAT = "POST /chat/completions"
SYNC: dict[str, Any] = {"sync_below": 100, "preview_model": "standard"}


@pytest.fixture
def warehouse(emulator: RunningEmulator, tmp_path: Path) -> Warehouse:
    """A warehouse on the emulator, whose requests do not hang for long."""
    emulator.deployments({"name": "gpt-4o-mini"}, {"name": "standard", "sku": "GlobalStandard"})
    config = config_for(emulator.url, emulator.api_key, tmp_path / "state", timeout=2)
    return Warehouse(config)


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


WAYS: dict[str, tuple[dict[str, Any], str, bool]] = {
    "prompt": ({"fault": "content_filter_prompt"}, "content_filter", False),
    "answer": ({"fault": "content_filter_answer"}, "content_filter", False),
    "refusal": ({"fault": "refusal"}, "refusal", False),
    "truncated": ({"fault": "truncated"}, "truncated", False),
    "broken": ({"fault": "broken_json"}, "invalid_json", True),
    "shape": ({"fault": "wrong_shape"}, "schema_mismatch", True),
    "choices": ({"fault": "no_choices"}, "invalid_json", True),
    "bad": ({"status": 400}, "provider_error", False),
    "odd": ({"status": 422}, "provider_error", False),
    "late": ({"status": 408}, "provider_error", True),
    "down": ({"status": 500}, "provider_error", True),
    "gateway": ({"status": 502}, "provider_error", True),
}


@pytest.mark.parametrize("mode", ["run", "submit"])
def test_failures_have_the_names_that_a_batch_gives_them(
    mode: str, warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """And are asked again, at once, by the same rules; none is waited out by asking it twice."""
    emulator.rules(
        [
            rule
            for name, (fault, _, _) in WAYS.items()
            for rule in (
                {"match": f"note {name}", "times": 1, **fault},
                {"match": f"note {name}", "answer": {"summary": f"summary: note {name}"}},
            )
        ]
    )
    rows = ", ".join(f"('{name}', 'note {name}')" for name in WAYS)
    notes = f"select * from (values {rows}) as notes(id, note)"
    warehouse.enrich(notes, mode=mode, **SYNC)
    failures = dict(warehouse.rows("select id, kind from enriched__errors"))
    assert failures == {name: kind for name, (_, kind, _) in WAYS.items()}
    again = sum(once_more for _, _, once_more in WAYS.values())
    assert warehouse.statuses() == {"done": again, "failed": len(WAYS) - again}
    assert [shard.requests for shard in shards_of(warehouse)] == [len(WAYS), again]


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


def refuse(emulator: RunningEmulator, status: int, *, since: int) -> None:
    """Refuse every synchronous request from one on."""
    emulator.faults(
        *(
            {"name": "status", "operation": CHAT, "status": status, "call": call}
            for call in range(since, 500)
        )
    )


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
    with pytest.raises(ConfigurationError, match=r"'gpt-4o-mini' answers no single"):
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
    refuse(emulator, 503, since=3)
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
    (error,) = thread.failures  # type: ignore[attr-defined]
    assert isinstance(error, CancelledError)
    assert "the next dbt run asks the other rows" in str(error)
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


def test_flex_and_another_tier_are_refused(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """Before anything is sent, with both fields."""
    task = summary_task(parameters={"service_tier": "priority"})
    with pytest.raises(ConfigurationError, match=r"via is flex.*service_tier is 'priority'"):
        warehouse.enrich(NOTES, task, via="flex", preview_model="standard")
    assert emulator.account()["calls"] == []


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
