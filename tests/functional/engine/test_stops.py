"""A run whose answers fail alike stops before the rest is paid, and goes on once that is fixed."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.console.console import Console
from dbt_enrich.errors import StoppedError
from dbt_enrich.pipeline.rounds import Exchange
from dbt_enrich.pipeline.wait import wait_for_batches
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.shards import Step
from support.dbt_project import DbtProject, azure
from support.warehouse import Warehouse, config_for, summary_task

ROWS = 60
NOTES = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"
NO_JSON = {"match": "", "content": "no json"}
REFUSED = {
    "match": "",
    "status": 400,
    "error": {"code": "unsupported_parameter", "message": "'max_tokens' is not supported"},
}


def warehouse_for(emulator: RunningEmulator, tmp_path: Path, **changes: Any) -> Warehouse:
    """A warehouse of three batches on two deployments."""
    given = {
        "max_requests_per_file": 20,
        "deployments": {"gpt-4o-mini": ["west", "east"]},
        **changes,
    }
    return Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state", **given))


def ledger_of(warehouse: Warehouse) -> Ledger:
    """The ledger, for looking at."""
    return Ledger(warehouse.config.state_dir / "ledger.sqlite")


def asked(emulator: RunningEmulator) -> int:
    """Requests that the service has dealt with."""
    return sum(emulator.account()["custom_ids"].values())


def stops(warehouse: Warehouse, **options: Any) -> str:
    """Run, and return the words with which the run is stopped."""
    warehouse.restart()
    with pytest.raises(StoppedError) as stopped:
        warehouse.enrich(NOTES, **options)
    return str(stopped.value)


def lift(warehouse: Warehouse) -> None:
    """What `dbt-enrich retry` does."""
    with ledger_of(warehouse) as ledger:
        assert ledger.stops.lift(enrichment="model.tests.enriched") == 1


def test_the_rest_is_neither_sent_nor_paid(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Batches in flight on two deployments end, and nothing is final: the fix asks every row."""
    emulator.rules([NO_JSON])
    emulator.endings({"stuck": True, "call": 2}, {"stuck": True, "call": 2})
    warehouse = warehouse_for(emulator, tmp_path)
    text = stops(warehouse)
    assert "20 of 20 answers failed in the same way (invalid_json)" in text
    assert text.count("[id = ") == 3
    assert "dbt-enrich retry --select enriched --kind invalid_json" in text
    statuses = sorted(batch["status"] for batch in emulator.jobs.batches())
    assert statuses == ["cancelled", "cancelled", "completed"]
    assert sum(emulator.account()["paid"].values()) == 20
    with ledger_of(warehouse) as ledger:
        assert not ledger.shards.open()
    # Nothing was changed: it is said again, before anything is sent.
    files = len(emulator.jobs.batches())
    assert "nothing has changed since: nothing was sent" in stops(warehouse)
    assert "nothing was sent" in stops(warehouse, mode="submit")
    assert len(emulator.jobs.batches()) == files
    emulator.rules([])
    lift(warehouse)
    warehouse.restart()
    warehouse.enrich(NOTES, max_attempts=1)
    assert warehouse.statuses() == {"done": ROWS}
    paid = emulator.account()["paid"]
    assert sorted(paid.values()) == [1] * 40 + [2] * 20


FIXES: dict[str, dict[str, Any]] = {
    "retry": {"max_tokens": 9},
    "parameter": {"max_completion_tokens": 9},
}


@pytest.mark.parametrize("fix", FIXES)
def test_after_a_fix_all_is_asked_and_without_one_it_is_stopped_again(
    emulator: RunningEmulator, tmp_path: Path, fix: str
) -> None:
    """A fix that is none costs one more round, not one at each run."""
    emulator.rules([REFUSED])
    warehouse = warehouse_for(emulator, tmp_path, max_requests_per_file=100)
    task = summary_task(parameters={"max_tokens": 9})
    stops(warehouse, task=task)
    assert asked(emulator) == ROWS
    fixed = summary_task(parameters=FIXES[fix])
    if fix == "retry":
        lift(warehouse)
    stops(warehouse, task=fixed)
    assert "nothing was sent" in stops(warehouse, task=fixed)
    assert asked(emulator) == 2 * ROWS
    emulator.rules([])
    lift(warehouse)
    warehouse.restart()
    warehouse.enrich(NOTES, fixed, max_attempts=1)
    assert warehouse.statuses() == {"done": ROWS}


@pytest.mark.parametrize(
    ("rule", "way"),
    [
        ({"fault": "refusal"}, "refusal"),
        ({"fault": "content_filter_prompt"}, "content_filter 400"),
        ({"fault": "truncated"}, "truncated"),
        ({"fault": "wrong_shape"}, "schema_mismatch"),
        ({"content": "no json"}, "invalid_json"),
        ({"status": 400, "error": {"code": "bad", "message": "x"}}, "provider_error 400 bad"),
        ({"status": 503, "error": {"message": "busy"}}, "provider_error 503"),
    ],
)
def test_each_kind_of_failure_stops_after_its_first_answers(
    emulator: RunningEmulator, tmp_path: Path, rule: dict[str, Any], way: str
) -> None:
    """Also those that would be asked again: no row is sent a second time."""
    emulator.rules([{"match": "", **rule}])
    warehouse = warehouse_for(emulator, tmp_path, max_requests_per_file=100)
    assert f"({way}" in stops(warehouse)
    assert asked(emulator) == ROWS


@pytest.mark.parametrize(
    ("rules", "options"),
    [
        ([NO_JSON], {"max_failed_share": 1}),
        # Half of them, and two halves that fail in two ways.
        ([{"match": f"note {n}", "content": "no"} for n in (1, 2)], {}),
        (
            [
                *({"match": f"note {n}", "content": "no"} for n in (1, 2)),
                {"match": "", "fault": "refusal"},
            ],
            {},
        ),
    ],
)
def test_what_is_borne_is_published(
    emulator: RunningEmulator, tmp_path: Path, rules: list[dict[str, Any]], options: dict[str, Any]
) -> None:
    """By the user's word, or as no single way takes more than the share."""
    emulator.rules(rules)
    warehouse = warehouse_for(emulator, tmp_path, max_requests_per_file=100)
    rows = "select i as id, 'note ' || (i % 4) as note, i from range(40) as numbers(i)"
    warehouse.enrich(rows, summary_task(user="{note} {i}"), max_attempts=2, **options)
    assert warehouse.statuses()["failed"] >= 20


def test_few_answers_stop_nothing(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Nineteen say too little."""
    emulator.rules([NO_JSON])
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(f"select * from ({NOTES}) where id < 19")
    assert warehouse.statuses() == {"failed": 19}


def test_rows_that_fail_twice_are_not_counted_twice(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Two in five fail for good: their second and third answers make no majority of failures."""
    emulator.rules([{"match": "note 1", "content": "no"}, {"match": "note 2", "content": "no"}])
    warehouse = warehouse_for(emulator, tmp_path, max_requests_per_file=100)
    rows = "select i as id, 'note ' || (i % 5) as note, i from range(50) as numbers(i)"
    for mode in ("submit", "submit", "submit", "collect"):
        warehouse.enrich(rows, summary_task(user="{note} {i}"), mode=mode)
        emulator.settle()
    assert warehouse.statuses() == {"done": 30, "failed": 20}


def test_overruling_lets_what_was_stopped_be(emulator: RunningEmulator, tmp_path: Path) -> None:
    """The attempts count then as they would have: rows that are never asked again are not."""
    emulator.rules([{"match": "", "fault": "refusal"}])
    warehouse = warehouse_for(emulator, tmp_path, max_requests_per_file=100)
    stops(warehouse)
    warehouse.restart()
    warehouse.enrich(NOTES, max_failed_share=1)
    assert warehouse.statuses() == {"failed": ROWS}
    assert asked(emulator) == ROWS


def test_an_outage_that_stopped_a_run_stops_no_other(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """The next run asks all of it, with all attempts."""
    emulator.rules([{"match": "", "status": 503, "error": {"message": "busy"}}])
    warehouse = warehouse_for(emulator, tmp_path, max_requests_per_file=100)
    stops(warehouse, max_attempts=1)
    stops(warehouse, max_attempts=1)
    emulator.rules([])
    warehouse.restart()
    warehouse.enrich(NOTES, max_attempts=1)
    assert warehouse.statuses() == {"done": ROWS}


@pytest.mark.parametrize("mode", ["submit", "collect"])
def test_what_was_submitted_stops_whoever_takes_it_in(
    emulator: RunningEmulator, tmp_path: Path, mode: str
) -> None:
    """The model fails once; `collect` then publishes what is there, and the last table stays."""
    warehouse = warehouse_for(emulator, tmp_path, max_requests_per_file=20)
    emulator.endings({"stuck": True, "call": 3})
    emulator.rules([NO_JSON])
    warehouse.enrich(NOTES, mode="submit")
    stuck = 0
    while stuck < 2:
        stuck = sum(batch["status"] == "completed" for batch in emulator.jobs.batches())
    stops(warehouse, mode=mode)
    assert warehouse.statuses() == {"pending": ROWS}
    emulator.settle()
    warehouse.restart()
    warehouse.enrich(NOTES, mode="collect")
    assert warehouse.statuses() == {"failed": ROWS}
    assert asked(emulator) == 40
    assert "nothing was sent" in stops(warehouse, mode="submit")


def test_a_kill_before_the_batches_are_cancelled(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run cancels them by the ledger's word, and keeps what they finished."""

    def killed(_: Exchange) -> None:
        raise KeyboardInterrupt

    emulator.rules([NO_JSON])
    emulator.endings({"stuck": True, "call": 2}, {"stuck": True, "call": 2})
    warehouse = warehouse_for(emulator, tmp_path)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Exchange, "_wind_down", killed)
        warehouse.enrich(NOTES)
    emulator.rules([])
    assert "nothing was sent" in stops(warehouse)
    statuses = sorted(batch["status"] for batch in emulator.jobs.batches())
    assert statuses == ["cancelled", "cancelled", "completed"]
    with ledger_of(warehouse) as ledger:
        assert not ledger.shards.open()
    lift(warehouse)
    warehouse.restart()
    warehouse.enrich(NOTES, max_attempts=1)
    assert warehouse.statuses() == {"done": ROWS}


def test_cancelled_batches_that_are_still_out_after_the_fix(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run takes them in and asks their rows in the same breath."""
    emulator.rules([NO_JSON])
    emulator.endings({"stuck": True, "call": 3})
    warehouse = warehouse_for(emulator, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Exchange, "_wind_down", lambda _: None)
        stops(warehouse)
    emulator.rules([])
    lift(warehouse)
    warehouse.restart()
    warehouse.enrich(NOTES, max_attempts=1)
    assert warehouse.statuses() == {"done": ROWS}


def test_wait_stops_too(emulator: RunningEmulator, tmp_path: Path) -> None:
    """It cancels what is in flight, keeps what is finished, and the next run says why."""
    emulator.rules([NO_JSON])
    emulator.endings({"stuck": True, "call": 3})
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, mode="submit")
    with pytest.raises(StoppedError, match="20 of 20"):
        wait_for_batches(
            warehouse.config, "tests", models=(), timeout=600,
            console=Console(warehouse.log.append), cancelled=threading.Event(),
        )  # fmt: skip
    assert asked(emulator) == 40
    with ledger_of(warehouse) as ledger:
        assert not ledger.shards.open()
        assert len(ledger.shards.all()) == 3
    assert "nothing was sent" in stops(warehouse, mode="submit")


def test_answers_that_wait_brought_home_are_looked_at(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Where nothing is left to send: refusals are asked again by nobody, and are no success."""
    emulator.rules([{"match": "", "fault": "refusal"}])
    warehouse = warehouse_for(emulator, tmp_path, max_requests_per_file=100)
    warehouse.enrich(NOTES, mode="submit", max_failed_share=1)
    wait_for_batches(
        warehouse.config, "tests", models=(), timeout=600, console=Console(warehouse.log.append),
        cancelled=threading.Event(),
    )  # fmt: skip
    assert f"{ROWS} of {ROWS}" in stops(warehouse)


def test_single_requests_stop_while_they_are_asked(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Not after the last of them."""
    emulator.rules([REFUSED])
    warehouse = warehouse_for(emulator, tmp_path, max_requests_per_file=5000)
    rows = "select i as id, 'note ' || i as note from range(2000) as numbers(i)"
    with pytest.raises(StoppedError):
        warehouse.enrich(rows, sync_below=5000, preview_model="west")
    with ledger_of(warehouse) as ledger:
        (shard,) = ledger.shards.all()
        assert shard.step == Step.STORED
        assert 20 <= shard.requests < 2000


def test_the_command_and_dbt_say_so(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Exit code 1 and dbt's error, by `plan` too; the table stays; `retry` lets it go on."""
    project = DbtProject(tmp_path, azure(emulator.url, emulator.api_key))
    project.enrichment("notes", NOTES)
    emulator.rules([NO_JSON])
    assert "60 of 60 answers failed in the same way" in project.command("run", exits=1)
    planned = project.command("plan", exits=1)
    assert "a run would refuse: model 'notes': 60 of 60" in planned
    assert project.rows("select distinct enrichment_status from notes") == [("pending",)]
    assert "a run was stopped" in project.command("retry", "--select", "notes")
    emulator.rules([])
    project.command("run")
    assert project.rows("select distinct enrichment_status from notes") == [("done",)]
