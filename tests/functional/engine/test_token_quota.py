"""Quotas: batches wait for room, are sent again on the same file, and are cut where too big."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator, running_emulator
from dbt_enrich.errors import AwaitTimeoutError, BatchFailedError, LedgerError
from dbt_enrich.files import settle
from dbt_enrich.pipeline.run import deployments as spread
from dbt_enrich.pipeline.run.token_quota import estimated_tokens
from dbt_enrich.services.parse import limit_in
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.shards import Step
from dbt_enrich.workspace import key_ranges as key_parts
from support.clock import HastyClock
from support.waiting import wait_until
from support.warehouse import Warehouse, config_for, summary_task

NOTES = "select i as id, 'note ' || i as note from range(20) as numbers(i)"


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[RunningEmulator]:
    """An emulator."""
    with running_emulator(tmp_path / "emulator") as running:
        yield running


def warehouse_for(emulator: RunningEmulator, tmp_path: Path, **changes: Any) -> Warehouse:
    """A warehouse whose files hold at most five requests."""
    given = {"max_requests_per_file": 5, **changes}
    config = config_for(emulator.url, emulator.api_key, tmp_path / "state", **given)
    return Warehouse(config, clock=HastyClock())


def ledger_of(warehouse: Warehouse) -> Ledger:
    """The warehouse's ledger."""
    return Ledger(StateDirectory(warehouse.config.state_dir).ledger)


def shard_tokens(emulator: RunningEmulator, tmp_path: Path) -> int:
    """Tokens of one file of five requests."""
    probe = Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "probe"))
    probe.enrich("select i as id, 'probe ' || i as note from range(5) as numbers(i)", mode="submit")
    (shard,) = ledger_of(probe).shards.open()
    emulator.settle()
    return estimated_tokens(shard.bytes)


def paid_once(emulator: RunningEmulator, prefix: int = 20) -> None:
    """Each request was answered once, and none is left out."""
    paid = emulator.account()["paid"]
    assert set(paid.values()) == {1}
    assert len(paid) >= prefix


def refusals(emulator: RunningEmulator) -> int:
    """How often the creation of a batch was refused."""
    return sum(
        call["status"] == 400 and call["path"] == "/batches"
        for call in emulator.account()["calls"]
        if call["method"] == "POST"
    )


def enriched_within(
    files: float, emulator: RunningEmulator, tmp_path: Path
) -> tuple[Warehouse, int]:
    """Enrich 20 rows where a limit of so many files of five is known: nothing is refused."""
    limit = int(shard_tokens(emulator, tmp_path) * files)
    emulator.deployments({"name": "gpt-4o-mini", "max_enqueued_tokens": limit})
    warehouse = warehouse_for(emulator, tmp_path, max_enqueued_tokens=limit)
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": 20}
    paid_once(emulator)
    assert refusals(emulator) == 0
    return warehouse, limit


@pytest.mark.parametrize("quota_fails", ["create", "later"])
def test_batches_queue_behind_a_limit_that_nobody_told(
    emulator: RunningEmulator, tmp_path: Path, quota_fails: str
) -> None:
    """It is learned from the refusal or from the headers, and every row is answered once."""
    tokens = shard_tokens(emulator, tmp_path)
    emulator.deployments(
        {
            "name": "gpt-4o-mini",
            "max_enqueued_tokens": int(tokens * 1.5),
            "quota_fails": quota_fails,
        }
    )
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": 20}
    paid_once(emulator)
    learned = ledger_of(warehouse).quotas.get(
        f"azure:{emulator.url.removeprefix('http://')}", "gpt-4o-mini"
    )
    assert learned is not None
    assert learned.max_enqueued_tokens == int(tokens * 1.5)


def test_a_known_limit_is_kept_without_a_refusal(emulator: RunningEmulator, tmp_path: Path) -> None:
    """A batch is created only when there is room for it."""
    enriched_within(2.5, emulator, tmp_path)


def test_files_are_cut_so_that_two_find_room_at_once(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Where the usual ones would go one after the other."""
    warehouse, limit = enriched_within(1.6, emulator, tmp_path)
    # The probe's batch, of five, was adopted.
    shards = [shard for shard in ledger_of(warehouse).shards.all() if shard.requests != 5]
    assert sum(shard.requests for shard in shards) == 20
    largest = max(estimated_tokens(shard.bytes) for shard in shards)
    assert 2 * largest <= limit < 3 * largest


@pytest.mark.parametrize("quota_fails", ["create", "later"])
def test_one_request_that_no_quota_has_room_for_is_named(
    emulator: RunningEmulator, tmp_path: Path, quota_fails: str
) -> None:
    """However the service refuses it, and soon."""
    emulator.deployments(
        {"name": "gpt-4o-mini", "max_enqueued_tokens": 20, "quota_fails": quota_fails}
    )
    warehouse = warehouse_for(emulator, tmp_path)
    with pytest.raises(BatchFailedError, match="one request of .* is larger than the tokens"):
        warehouse.enrich("select 1 as id, 'note' as note", await_timeout=60)
    assert emulator.account()["paid"] == {}


def test_a_batch_that_is_too_big_alone_is_cut(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Until it fits, and no request is lost or doubled by it."""
    tokens = shard_tokens(emulator, tmp_path)
    emulator.deployments({"name": "gpt-4o-mini", "max_enqueued_tokens": tokens // 2 + 50})
    warehouse = warehouse_for(emulator, tmp_path, max_requests_per_file=100)
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": 20}
    paid_once(emulator)
    assert any("sending it in two" in line for line in warehouse.log)
    steps = [event["step"] for event in ledger_of(warehouse).events.all()]
    assert Step.RELEASED in steps
    files = StateDirectory(warehouse.config.state_dir).root / "requests"
    assert list(files.iterdir()) == []


def test_the_next_run_cuts_its_files_to_the_limit(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """So that none is refused for its size."""
    tokens = shard_tokens(emulator, tmp_path)
    limit = tokens // 2 + 50
    emulator.deployments({"name": "gpt-4o-mini", "max_enqueued_tokens": limit})
    warehouse = warehouse_for(
        emulator, tmp_path, max_requests_per_file=100, max_enqueued_tokens={"gpt-4o-mini": limit}
    )
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": 20}
    assert refusals(emulator) == 0
    assert not any("sending it in two" in line for line in warehouse.log)


def test_one_row_that_no_quota_holds_is_named(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Instead of waiting for ever."""
    emulator.deployments({"name": "gpt-4o-mini", "max_enqueued_tokens": 100})
    warehouse = warehouse_for(emulator, tmp_path)
    with pytest.raises(BatchFailedError, match="larger than the tokens that the deployment"):
        warehouse.enrich("select 1 as id, repeat('x', 5000) as note")
    assert emulator.account()["paid"] == {}


def test_submit_leaves_what_finds_no_room_to_the_next_run(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """And returns, rather than wait for room for a day."""
    tokens = shard_tokens(emulator, tmp_path)
    emulator.deployments({"name": "gpt-4o-mini", "max_enqueued_tokens": int(tokens * 1.5)})
    emulator.pause()
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, mode="submit")
    assert warehouse.statuses() == {"pending": 20}
    assert any("to the next run, as the quota has no room" in line for line in warehouse.log)
    emulator.resume()
    warehouse.restart()
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": 20}
    paid_once(emulator)


def waiting_submit(emulator: RunningEmulator, tmp_path: Path, **changes: Any) -> Warehouse:
    """A warehouse with one batch at the service, and three files there that wait for room."""
    tokens = shard_tokens(emulator, tmp_path)
    emulator.deployments({"name": "gpt-4o-mini", "max_enqueued_tokens": int(tokens * 1.5)})
    emulator.pause()
    warehouse = warehouse_for(emulator, tmp_path, **changes)
    warehouse.enrich(NOTES, mode="submit")
    warehouse.restart()
    return warehouse


def uploads(emulator: RunningEmulator) -> int:
    """How many files the service was sent."""
    calls = emulator.account()["calls"]
    return sum(call["method"] == "POST" and call["path"] == "/files" for call in calls)


@pytest.mark.parametrize("rows_of_part", [3, key_parts.ROWS_OF_PART])
def test_files_that_wait_for_room_are_not_uploaded_anew(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_of_part: int
) -> None:
    """Each run goes on with what an earlier one wrote and uploaded."""
    monkeypatch.setattr(key_parts, "ROWS_OF_PART", rows_of_part)
    warehouse = waiting_submit(emulator, tmp_path)
    before = uploads(emulator)
    for _ in range(2):
        warehouse.enrich(NOTES, mode="submit")
        warehouse.restart()
    emulator.resume()
    emulator.settle()
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": 20}
    paid_once(emulator)
    assert before <= uploads(emulator) <= 1 + 4


@pytest.mark.parametrize("change", ["rows", "limit"])
def test_what_waits_for_room_is_written_anew_where_it_would_not_be_the_same(
    emulator: RunningEmulator, tmp_path: Path, change: str
) -> None:
    """Rows that are gone are not paid for, and a new token limit goes into every request."""
    warehouse = waiting_submit(emulator, tmp_path)
    rows = NOTES.replace("range(20)", "range(19)") if change == "rows" else NOTES
    task = summary_task(parameters={"max_tokens": 77} if change == "limit" else {})
    warehouse.enrich(rows, task, mode="submit")
    store = StateDirectory(warehouse.config.state_dir)
    shards = ledger_of(warehouse).shards.open()
    waiting = [shard for shard in shards if shard.step == Step.UPLOADED]
    texts = [store.requests(shard.shard).read_text() for shard in waiting]
    assert sum(shard.requests for shard in shards) == (19 if change == "rows" else 20)
    assert sum(shard.requests for shard in waiting) > 10
    assert all(('"max_tokens":77' in text) == (change == "limit") for text in texts)
    assert not any('"note 19"' in text for text in texts) or change == "limit"
    warehouse.restart()
    emulator.resume()
    emulator.settle()
    warehouse.enrich(rows, task)
    assert set(warehouse.statuses()) == {"done"}
    paid_once(emulator, prefix=19)


def test_two_models_share_the_room(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Two runs on one state directory count each other's batches."""
    tokens = shard_tokens(emulator, tmp_path)
    emulator.deployments({"name": "gpt-4o-mini", "max_enqueued_tokens": int(tokens * 1.5)})
    houses = [warehouse_for(emulator, tmp_path) for _ in range(2)]
    other = NOTES.replace("note '", "other '")
    threads = [
        threading.Thread(target=house.enrich, args=(rows,))
        for house, rows in zip(houses, (NOTES, other), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=600)
    assert [house.statuses() for house in houses] == [{"done": 20}, {"done": 20}]
    paid_once(emulator, 40)


def test_a_file_that_the_service_lost_is_uploaded_again(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """While its batch waits for room."""
    emulator.transitions(file={"kind": "polls", "amount": 3})
    emulator.faults(
        {
            "name": "status",
            "operation": "GET /files/",
            "status": 404,
            "code": "notFound",
            # For longer than a file may take to be listed.
            "times": 60,
        }
    )
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": 20}
    paid_once(emulator)
    assert any("uploading it again" in line for line in warehouse.log)


@pytest.mark.parametrize("what", ["pending", "error"])
def test_a_hung_service_ends_in_await_timeout(
    emulator: RunningEmulator, tmp_path: Path, what: str
) -> None:
    """With rows pending, or with a failed model, as told; the next run collects."""
    emulator.endings(stuck=True)
    warehouse = warehouse_for(emulator, tmp_path)
    options: dict[str, Any] = {"await_timeout": 0.5, "on_await_timeout": what}
    if what == "error":
        with pytest.raises(AwaitTimeoutError, match="the next run collects"):
            warehouse.enrich(NOTES, **options)
    else:
        warehouse.enrich(NOTES, **options)
        assert warehouse.statuses() == {"pending": 20}
    emulator.endings()
    for batch in emulator.jobs.batches():
        record = emulator.jobs.storage.get("batch", batch["id"])
        assert record is not None
        emulator.jobs.storage.put("batch", {**record, "ending": {}})
    warehouse.restart()
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": 20}
    paid_once(emulator)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("surpassed the configured limit of 30K for the deployment", 30_000),
        ("the configured limit of 5B for", 5_000_000_000),
        ("limit of 90,000 for", 90_000),
        ("limit of 1.5M.", 1_500_000),
        ("limit of  for", None),
        ("quota", None),
        ("limit of ,,, x", None),
    ],
)
def test_limits_are_read_out_of_refusals(text: str, limit: int | None) -> None:
    """In the units that the service writes."""
    assert limit_in(text) == limit


def deployments_of_batches(emulator: RunningEmulator) -> list[str]:
    """Where batches were created, those that found no room left out."""
    created = [batch for batch in emulator.jobs.batches() if batch["status"] != "failed"]
    return sorted(b["deployment"] for b in created if b["deployment"] != "gpt-4o-mini")


def test_several_deployments_share_the_work(emulator: RunningEmulator, tmp_path: Path) -> None:
    """By their size, where it is known."""
    emulator.deployments({"name": "small"}, {"name": "large"})
    warehouse = warehouse_for(
        emulator,
        tmp_path,
        deployments={"gpt-4o-mini": ["small", "large"]},
        max_enqueued_tokens={"small": 10_000, "large": 30_000},
    )
    warehouse.enrich(NOTES)
    assert deployments_of_batches(emulator) == ["large", "large", "large", "small"]
    paid_once(emulator)


@pytest.mark.parametrize("quota_fails", ["create", "later"])
@pytest.mark.parametrize("mode", ["run", "submit"])
def test_what_finds_no_room_goes_to_another_deployment(
    emulator: RunningEmulator, tmp_path: Path, mode: str, quota_fails: str
) -> None:
    """Rather than wait for the first one to be done."""
    tokens = shard_tokens(emulator, tmp_path)
    full = {"max_enqueued_tokens": int(tokens * 1.5), "quota_fails": quota_fails}
    emulator.deployments({"name": "first", **full}, {"name": "second"})
    warehouse = warehouse_for(emulator, tmp_path, deployments={"gpt-4o-mini": ["first", "second"]})
    emulator.pause()
    run = threading.Thread(target=warehouse.enrich, args=(NOTES,), kwargs={"mode": mode})
    run.start()
    wait_until(lambda: len(deployments_of_batches(emulator)) == 4)
    assert deployments_of_batches(emulator) == ["first", "second", "second", "second"]
    emulator.resume()
    run.join(timeout=600)
    emulator.settle()
    warehouse.enrich(NOTES)
    assert warehouse.rows("select count(*) from enriched where enrichment_status = 'done'") == [
        (20,)
    ]
    paid_once(emulator)


def test_a_crash_while_a_file_moves_leaves_no_request_with_the_wrong_deployment(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger still knows the other deployment, the file names another, and it moves again."""
    tokens = shard_tokens(emulator, tmp_path)
    emulator.deployments(
        {"name": "first", "max_enqueued_tokens": tokens // 5}, {"name": "second"}, {"name": "third"}
    )

    def crash(temporary: Path, path: Path) -> None:
        settle(temporary, path)
        raise LedgerError("the machine was switched off")

    monkeypatch.setattr(spread, "settle", crash)
    before = warehouse_for(emulator, tmp_path, deployments={"gpt-4o-mini": ["first", "second"]})
    with pytest.raises(LedgerError, match="switched off"):
        before.enrich(NOTES)
    monkeypatch.undo()
    store = StateDirectory(before.config.state_dir)
    torn = [
        shard
        for shard in ledger_of(before).shards.open()
        if shard.deployment == "first"
        and '"model":"second"' in store.requests(shard.shard).read_text()
    ]
    assert len(torn) == 1
    previous = {batch["id"] for batch in emulator.jobs.batches()}
    after = warehouse_for(emulator, tmp_path, deployments={"gpt-4o-mini": ["first", "third"]})
    after.enrich(NOTES)
    assert after.statuses() == {"done": 20}
    created = [batch for batch in emulator.jobs.batches() if batch["id"] not in previous]
    assert {batch["deployment"] for batch in created} <= {"first", "third"}
    paid_once(emulator)


def test_a_row_that_looks_like_a_request_is_moved_as_it_is(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Only the body's own model changes."""
    tokens = shard_tokens(emulator, tmp_path)
    emulator.deployments({"name": "first", "max_enqueued_tokens": tokens // 5}, {"name": "second"})
    warehouse = warehouse_for(
        emulator,
        tmp_path,
        deployments={"gpt-4o-mini": ["first", "second"]},
        max_requests_per_file=1,
    )
    hostile = '"body":{"model":"first"'
    warehouse.enrich(f"select i as id, '{hostile}' || i as note from range(4) as numbers(i)")
    assert warehouse.rows("select summary from enriched order by id") == [
        (f"summary: {hostile}{i}",) for i in range(4)
    ]
