"""Failed rows are asked again once what they were sent with is another, and not before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.environment import REPORTS_VARIABLE
from dbt_enrich.state.ledger import Ledger
from support.warehouse import Warehouse, config_for, summary_task

NOTES = "select i as id, 'note ' || i as note from range(4) as numbers(i)"
REFUSED = {
    "match": "note 1",
    "status": 400,
    "error": {"code": "unsupported_parameter", "message": "'max_tokens' is not supported"},
}
COMMAND = "dbt-enrich retry --select enriched --kind provider_error"


def warehouse_for(emulator: RunningEmulator, tmp_path: Path, **changes: Any) -> Warehouse:
    """A warehouse whose Azure resource is the emulator."""
    return Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state", **changes))


def limited(**parameters: Any) -> Any:
    """The task with parameters that are no part of its identity."""
    return summary_task(parameters=parameters or {"max_tokens": 50})


def sent(warehouse: Warehouse) -> int:
    """Requests that the last run sent."""
    return int(warehouse.log[-1].split(" sent")[0].rsplit(" ", 1)[1].replace(",", ""))


def asked(emulator: RunningEmulator) -> int:
    """Requests that the service has dealt with."""
    return sum(emulator.account()["custom_ids"].values())


def other_host(emulator: RunningEmulator) -> dict[str, Any]:
    """The same resource at another address."""
    return {"endpoint": emulator.url.replace("127.0.0.1", "localhost")}


def lose_state(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """Lose the state directory, and the batches at the service with it."""
    for batch in emulator.jobs.batches():
        emulator.forget(batch["id"])
    shutil.rmtree(warehouse.config.state_dir)
    warehouse.restart()


CHANGES: dict[str, Callable[[RunningEmulator], tuple[dict[str, Any], Any]]] = {
    "parameter": lambda _: ({}, limited(max_completion_tokens=50)),
    "larger limit": lambda _: ({}, limited(max_tokens=60)),
    "deployment": lambda _: ({"deployments": {"gpt-4o-mini": ["newer"]}}, limited()),
    "deployment more": lambda _: ({"deployments": {"gpt-4o-mini": ["older", "b"]}}, limited()),
    "api_version": lambda _: ({"api_version": "2024-10-21"}, limited()),
    "endpoint": lambda emulator: (other_host(emulator), limited()),
}


@pytest.mark.parametrize("changed", CHANGES)
def test_a_fix_outside_the_identity_wakes_failed_rows(
    emulator: RunningEmulator, tmp_path: Path, changed: str
) -> None:
    """Those rows alone, without another command; where the fix is none, once and no more."""
    emulator.rules([REFUSED])
    older: dict[str, Any] = {"deployments": {"gpt-4o-mini": ["older"]}}
    warehouse = warehouse_for(emulator, tmp_path, **older)
    warehouse.enrich(NOTES, limited())
    assert COMMAND in warehouse.log[-1]
    config, task = CHANGES[changed](emulator)
    given = {**older, "endpoint": emulator.url, **config}
    fixed = config_for(emulator.url, emulator.api_key, tmp_path / "state", **given)
    for expected in (1, 0):
        warehouse.restart(fixed)
        warehouse.enrich(NOTES, task)
        assert sent(warehouse) == expected
        assert warehouse.statuses() == {"done": 3, "failed": 1}
    # What was tried before is no fix either.
    warehouse.restart(config_for(emulator.url, emulator.api_key, tmp_path / "state", **older))
    warehouse.enrich(NOTES, limited())
    assert sent(warehouse) == 0
    emulator.rules([])
    warehouse.enrich(NOTES, limited(max_completion_tokens=99))
    assert warehouse.statuses() == {"done": 4}


def test_a_woken_row_has_all_its_attempts(emulator: RunningEmulator, tmp_path: Path) -> None:
    """And two models that ask the same with other settings do not wake each other for ever."""
    emulator.rules([{"match": "note 1", "content": "no json"}])
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, limited())
    assert asked(emulator) == 3 + 3
    warehouse.enrich(NOTES, limited(max_tokens=60))
    assert asked(emulator) == 3 + 3 + 3
    for _ in range(2):
        warehouse.enrich(NOTES, limited(), table="other")
        warehouse.enrich(NOTES, limited(max_tokens=60))
    assert asked(emulator) == 3 + 3 + 3
    attempts = warehouse.rows("select attempt from enriched__errors order by 1")
    assert attempts == [(n,) for n in range(1, 7)]


def test_one_of_several_deployments_wakes_nothing(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """A row that one of a queue refused is not asked at every run as there is another."""
    emulator.rules([REFUSED])
    queue = {"deployments": {"gpt-4o-mini": ["west", "east", "north"]}}
    warehouse = warehouse_for(emulator, tmp_path, max_requests_per_file=2, **queue)
    warehouse.enrich(NOTES, limited())
    (note,) = warehouse.rows("select distinct sent_with from enriched__errors")
    refused_by = json.loads(note[0])["deployment"]
    rest = [name for name in queue["deployments"]["gpt-4o-mini"] if name != refused_by]
    state = tmp_path / "state"
    # A deployment less, where it is not the one that refused, is no fix; in another order neither.
    for names, expected in (([rest[0], refused_by], 0), (rest, 1)):
        config = {"deployments": {"gpt-4o-mini": names}}
        warehouse.restart(config_for(emulator.url, emulator.api_key, state, **config))
        warehouse.enrich(NOTES, limited())
        assert sent(warehouse) == expected


def test_woken_rows_are_packed_again(emulator: RunningEmulator, tmp_path: Path) -> None:
    """A refused parameter fails every pack; the fix asks packs, not each row alone."""
    emulator.rules([{**REFUSED, "match": ""}])
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, limited(), rows_per_request=2)
    refused = asked(emulator)
    emulator.rules([])
    warehouse.enrich(NOTES, limited(max_completion_tokens=50), rows_per_request=2)
    assert warehouse.statuses() == {"done": 4}
    assert asked(emulator) - refused == 2


def test_nobody_s_settings_wake_nothing(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Answers of an earlier version, and of a lost state directory with an earlier table."""
    emulator.rules([{"match": "note 1", "content": "no json"}])
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, limited())
    with Ledger(tmp_path / "state" / "ledger.sqlite") as ledger:
        ledger._connection.write("update answers set settings = null")
        ledger._connection.write("update batches set settings = null")
    warehouse.enrich(NOTES, limited(max_completion_tokens=50))
    assert sent(warehouse) == 0
    warehouse.rows("alter table enriched__errors drop column sent_with")
    lose_state(warehouse, emulator)
    warehouse.enrich(NOTES, limited(max_completion_tokens=50))
    assert sent(warehouse) == 0
    assert COMMAND.replace("provider_error", "invalid_json") in warehouse.log[-1]


def test_a_lost_state_directory_keeps_what_was_sent_with(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """The errors table holds it: final rows stay so, until a setting is another."""
    emulator.rules([{"match": "note 1", "content": "no json"}, {**REFUSED, "match": "note 2"}])
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, limited())
    for task, expected in ((limited(), 0), (limited(max_tokens=60), 3 + 1)):
        lose_state(warehouse, emulator)
        warehouse.enrich(NOTES, task)
        assert sent(warehouse) == expected


@pytest.mark.parametrize("status", [429, 503])
def test_an_outage_is_final_for_no_row(
    emulator: RunningEmulator, tmp_path: Path, status: int
) -> None:
    """One that outlasts max_attempts: each later run asks its rows once more, and no other row."""
    busy = {"match": "note 1", "status": status, "error": {"message": "busy"}}
    emulator.rules([busy, {**REFUSED, "match": "note 2"}])
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES)
    assert sent(warehouse) == 4 + 2
    assert "1 failed for good" in warehouse.log[-1]
    assert warehouse.rows(
        "select id, retry_with from enriched__errors group by all order by 1"
    ) == [
        (1, None),
        (2, COMMAND),
    ]
    warehouse.restart()
    warehouse.enrich(NOTES)
    assert sent(warehouse) == 1
    emulator.rules([])
    warehouse.restart()
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": 3, "failed": 1}
    assert sent(warehouse) == 1


def test_final_rows_are_named_with_their_command(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the run's last line, in the plan, and in the errors table; no key is in any of them."""
    emulator.rules([REFUSED])
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, limited())
    assert COMMAND in warehouse.log[-1]
    ((sent_with, retry_with),) = warehouse.rows(
        "select sent_with, retry_with from enriched__errors"
    )
    assert retry_with == COMMAND
    assert json.loads(sent_with) == {
        "api_version": None,
        "deployment": "gpt-4o-mini",
        "deployments": ["gpt-4o-mini"],
        "endpoint": emulator.url,
        "parameters": {"max_tokens": 50},
        "url": "/chat/completions",
    }
    reports = tmp_path / "reports.jsonl"
    monkeypatch.setenv(REPORTS_VARIABLE, str(reports))
    warehouse.enrich(NOTES, limited(), mode="plan")
    plan = json.loads(reports.read_text().splitlines()[-1])["plan"]
    assert (plan["requests"], plan["failed_for_good"]) == (0, {"provider_error": 1})
    assert COMMAND in warehouse.log[-1]
    assert emulator.api_key not in "\n".join(warehouse.log) + sent_with
    warehouse.enrich(NOTES, limited(max_completion_tokens=50), mode="plan")
    plan = json.loads(reports.read_text().splitlines()[-1])["plan"]
    assert (plan["requests"], plan["again"], plan["failed_for_good"]) == (1, 1, {})
