"""A few requests of a new task go first, and the others once they are home and well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.environment import REPORTS_VARIABLE
from dbt_enrich.errors import ConfigurationError, StoppedError
from dbt_enrich.pipeline.rounds import Exchange
from dbt_enrich.task.from_yaml import options_from_yaml
from support.warehouse import Warehouse, config_for

ROWS = 30
NOTES = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"


@pytest.fixture
def warehouse(emulator: RunningEmulator, tmp_path: Path) -> Warehouse:
    """A warehouse with two deployments."""
    both = {"gpt-4o-mini": ["west", "east"]}
    return Warehouse(
        config_for(emulator.url, emulator.api_key, tmp_path / "state", deployments=both)
    )


def asked(emulator: RunningEmulator) -> int:
    """Requests that the service has dealt with."""
    return sum(emulator.account()["custom_ids"].values())


def assert_each_once(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """Every row is done, and was paid for once."""
    assert warehouse.statuses() == {"done": ROWS}
    assert set(emulator.account()["paid"].values()) == {1}
    assert len(emulator.account()["paid"]) == ROWS


def test_in_a_run_the_rest_follows(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """And a task that has answers needs no canary: new rows go at once."""
    warehouse.enrich(NOTES, canary=4)
    assert len(emulator.jobs.batches()) == 2
    assert_each_once(warehouse, emulator)
    warehouse.enrich("select i as id, 'more ' || i as note from range(9) as t(i)", canary=4)
    assert len(emulator.jobs.batches()) == 3


def test_submit_sends_the_canary_and_later_the_rest(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """Nothing while it is out; whichever command takes it in, the next submit goes on."""
    emulator.pause()
    for _ in range(2):
        warehouse.enrich(NOTES, mode="submit", canary=4)
        warehouse.restart()
    assert len(emulator.jobs.batches()) == 1
    emulator.resume()
    emulator.settle()
    assert asked(emulator) == 4
    warehouse.enrich(NOTES, mode="collect", canary=4)
    assert warehouse.statuses() == {"done": 4, "pending": ROWS - 4}
    warehouse.restart()
    warehouse.enrich(NOTES, mode="submit", canary=4)
    emulator.settle()
    warehouse.enrich(NOTES, mode="collect", canary=4)
    assert_each_once(warehouse, emulator)


@pytest.mark.parametrize("last_claim", [1, 2])
def test_a_kill_between_canary_and_rest(
    warehouse: Warehouse,
    emulator: RunningEmulator,
    monkeypatch: pytest.MonkeyPatch,
    last_claim: int,
) -> None:
    """After the canary was claimed, or as its answers are there: each row is sent once."""
    claim = Exchange._claim
    claims: list[Any] = []

    def killed(exchange: Exchange, *found: Any) -> Any:
        claims.append(claim(exchange, *found) if len(claims) < last_claim else None)
        if len(claims) == last_claim:
            raise KeyboardInterrupt
        return claims[-1]

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Exchange, "_claim", killed)
        warehouse.enrich(NOTES, canary=4)
    warehouse.restart()
    warehouse.enrich(NOTES, canary=4)
    assert len(emulator.jobs.batches()) == 2
    assert_each_once(warehouse, emulator)


def test_a_canary_that_fails_stops_the_run(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """Also one of fewer than twenty; after the fix it is a canary again."""
    emulator.rules([{"match": "", "content": "no json"}])
    with pytest.raises(StoppedError, match="4 of 4"):
        warehouse.enrich(NOTES, canary=4)
    assert asked(emulator) == 4
    emulator.rules([])
    warehouse.restart()
    warehouse.enrich(NOTES, canary=4, max_failed_share=1)
    assert warehouse.statuses() == {"done": ROWS}


def test_a_canary_that_was_lost_is_sent_again(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """An expired batch says nothing of the others."""
    emulator.endings({"status": "expired", "call": 1})
    warehouse.enrich(NOTES, mode="submit", canary=4)
    emulator.settle()
    warehouse.enrich(NOTES, mode="submit", canary=4)
    emulator.settle()
    assert asked(emulator) <= 8
    warehouse.enrich(NOTES, canary=4)
    assert_each_once(warehouse, emulator)


def test_packs_and_single_requests(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """A canary of packs is of so many packs; one that sync_below takes is answered at once."""
    warehouse.enrich(NOTES, rows_per_request=3, canary=2, mode="submit")
    emulator.settle()
    assert asked(emulator) == 2
    warehouse.enrich(NOTES, rows_per_request=3, canary=2)
    assert warehouse.statuses() == {"done": ROWS}
    assert asked(emulator) == ROWS // 3
    batches = len(emulator.jobs.batches())
    others = "select i as id, 'other ' || i as note from range(30) as numbers(i)"
    warehouse.enrich(
        others, table="others", canary=4, sync_below=5, preview_model="west", mode="submit"
    )
    # The rest of a round that was answered at once follows at once.
    assert len(emulator.jobs.batches()) == batches + 1


def test_a_plan_counts_and_recommends_it(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a new task would ask more than 10,000 rows."""
    reports = tmp_path / "reports.jsonl"
    monkeypatch.setenv(REPORTS_VARIABLE, str(reports))
    many = "select i as id, 'note ' || i as note from range(10_001) as numbers(i)"
    found = []
    for select, canary in ((NOTES, None), (NOTES, 4), (many, None)):
        warehouse.enrich(select, mode="plan", canary=canary)
        plan = json.loads(reports.read_text().splitlines()[-1])["plan"]
        found.append((plan["canary"], plan["recommends_canary"]))
    assert found == [(None, False), (4, False), (None, True)]
    assert "enrichment.canary: 200" in warehouse.log[-1]


@pytest.mark.parametrize(
    ("key", "value"),
    [("canary", 0), ("canary", "a"), ("max_failed_share", 1.5), ("max_failed_share", -1)],
)
def test_a_wrong_value_is_named(key: str, value: object) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigurationError, match=f"enrichment.{key}"):
        options_from_yaml("notes", {key: value})
