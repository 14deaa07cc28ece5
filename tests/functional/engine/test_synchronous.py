"""`sync_below` and `via`: which requests go one by one, and what becomes of each answer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.cost.money import money_text
from dbt_enrich.errors import (
    CapError,
    ConfigurationError,
)
from support.synchronous import (
    CHAT,
    NOTES,
    ROWS,
    SYNC,
    SharedRelay,
    assert_all_done,
    assert_paid_once,
    chats,
    shards_of,
    used,
)
from support.warehouse import Warehouse, summary_task


@pytest.fixture
def emulator(relayed: SharedRelay) -> RunningEmulator:
    """The service, as if new."""
    return relayed.cleared()


@pytest.fixture
def warehouse(emulator: RunningEmulator, relayed: SharedRelay, tmp_path: Path) -> Warehouse:
    """A warehouse whose relay outlives the test."""
    return relayed.warehouse(tmp_path / "state")


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


def test_flex_and_another_tier_are_refused(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """Before anything is sent, with both fields."""
    task = summary_task(parameters={"service_tier": "priority"})
    with pytest.raises(ConfigurationError, match=r"via is flex.*service_tier is 'priority'"):
        warehouse.enrich(NOTES, task, via="flex", preview_model="standard")
    assert emulator.account()["calls"] == []


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
