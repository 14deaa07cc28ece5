"""The ledger: steps, claims, and what a second reader or a newer version finds."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dbt_enrich.errors import LedgerError, LostOwnershipError
from dbt_enrich.pipeline.run.token_quota import TokenRoom
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.migrations import MIGRATIONS
from dbt_enrich.state.shards import Shard, Step


def shard(name: str = "s", **changes: object) -> Shard:
    """A claimed shard of the task `t`."""
    values = {
        "shard": name, "step": Step.CLAIMED, "owner": "run-1", "namespace": "n",
        "service": "local", "task_key": "t", "requests": 2, **changes,
    }  # fmt: skip
    return Shard(**values)  # type: ignore[arg-type]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """An empty ledger."""
    return Ledger(tmp_path / "ledger.sqlite")


def test_each_step_is_an_event_and_the_shard_is_at_the_newest(ledger: Ledger) -> None:
    """A step changes the row and appends to the events in one transaction."""
    ledger.shards.add(shard(), detail={"attempt": 1})
    ledger.shards.record(shard(), Step.SUBMITTED, batch_id="b")
    assert ledger.shards.get("s").step == Step.SUBMITTED
    assert ledger.shards.get("s").batch_id == "b"
    assert [event["step"] for event in ledger.events.all("s")] == ["claimed", "submitted"]
    assert ledger.events.last_time("s", Step.SUBMITTED) is not None


def test_a_failed_critical_section_leaves_nothing(ledger: Ledger) -> None:
    """A claim is whole or not there at all."""
    with pytest.raises(RuntimeError), ledger.critical_section():
        ledger.shards.add(shard())
        raise RuntimeError
    assert ledger.shards.open() == []
    assert ledger.events.all() == []


def test_one_claim_at_a_time(tmp_path: Path) -> None:
    """A second claim waits for the first to commit, and then sees what it claimed."""
    path = tmp_path / "ledger.sqlite"
    first = Ledger(path)
    seen: list[int] = []

    opened, held = threading.Event(), threading.Event()

    def claim() -> None:
        with Ledger(path) as second:
            opened.set()
            held.wait(timeout=30)
            with second.critical_section():
                seen.append(len(second.shards.open()))

    thread = threading.Thread(target=claim)
    thread.start()
    assert opened.wait(timeout=30)
    with first.critical_section():
        held.set()
        thread.join(timeout=0.2)
        assert seen == []
        first.shards.add(shard())
    thread.join(timeout=30)
    assert seen == [1]


def test_models_may_open_a_new_ledger_at_once(tmp_path: Path) -> None:
    """SQLite fails at once, and does not wait, where two connections switch a file to WAL."""
    openers = 4
    for attempt in range(40):
        path = tmp_path / f"{attempt}.sqlite"
        together = threading.Barrier(openers)
        failures: list[LedgerError] = []

        def opened(path: Path, together: threading.Barrier, failures: list[LedgerError]) -> None:
            together.wait()
            try:
                Ledger(path).close()
            except LedgerError as error:
                failures.append(error)

        threads = [
            threading.Thread(target=opened, args=(path, together, failures)) for _ in range(openers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures


def test_a_shard_is_taken_over_once(ledger: Ledger) -> None:
    """Of two runs that take over from the same dead owner, one gets the shard."""
    ledger.shards.add(shard())
    assert ledger.shards.take_over(shard(), "run-2")
    assert not ledger.shards.take_over(shard(), "run-3")
    assert ledger.shards.get("s").owner == "run-2"


def test_storing_closes_the_shard_and_makes_its_files_live(ledger: Ledger) -> None:
    """A shard's requests leave the in-flight set at the moment its answers are there."""
    ledger.shards.add(shard())
    ledger.shards.store(shard(), files={"s": 1, "s-missing": 1}, prompt_tokens=7)
    assert ledger.shards.open(task_key="t") == []
    assert list(ledger.answers.live("t")) == ["s", "s-missing"]
    assert ledger.shards.get("s").prompt_tokens == 7


def test_a_task_is_noted_once(ledger: Ledger) -> None:
    """What a task's outputs were does not change when another YAML has its key."""
    ledger.tasks.add("t", enrichment="e", document={}, outputs=[{"name": "a"}])
    ledger.tasks.add("t", enrichment="e", document={}, outputs=[])
    assert ledger.tasks.outputs("t") == [{"name": "a"}]
    assert ledger.tasks.outputs("u") is None


def test_a_ledger_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """It is not touched, and the message says to upgrade."""
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(
            "insert into migrations values (?, 'm999_future', '2099-01-01')",
            (len(MIGRATIONS) + 1,),
        )
    with pytest.raises(LedgerError, match="newer dbt-enrich.*pip install -U"):
        Ledger(path)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    """A file that is no database gives one sentence with its path and the fix."""
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(LedgerError, match=r"ledger\.sqlite cannot be opened"):
        Ledger(path)


def test_migrations_are_applied_once_and_named_apart(tmp_path: Path) -> None:
    """Each migration's number is its place, and opening again applies none."""
    names = [name for name, _ in MIGRATIONS]
    assert names == sorted(set(names))
    path = tmp_path / "ledger.sqlite"
    for _ in range(2):
        Ledger(path).close()
    with sqlite3.connect(path) as connection:
        applied = connection.execute("select number, name from migrations").fetchall()
    assert applied == [(number, name) for number, name in enumerate(names, start=1)]


def test_only_its_owner_reads_the_ledger(tmp_path: Path) -> None:
    """The file holds prompts and must not be world-readable."""
    Ledger(tmp_path / "ledger.sqlite").close()
    assert (tmp_path / "ledger.sqlite").stat().st_mode & 0o077 == 0


def test_times_come_from_the_clock(tmp_path: Path) -> None:
    """The clock is injected, so that tests need not wait."""
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    ledger = Ledger(tmp_path / "ledger.sqlite", clock=lambda: moment)
    ledger.shards.add(shard())
    assert ledger.events.last_time("s", Step.CLAIMED) == moment


@pytest.mark.parametrize(("source", "limit"), [("header", 10), ("refusal", None)])
def test_a_limit_that_a_refusal_told_is_forgotten_after_a_day(
    source: str, limit: int | None, tmp_path: Path
) -> None:
    """It may have been raised, and no reply would say so."""
    moments = [datetime(2026, 1, 2, tzinfo=UTC)]
    ledger = Ledger(tmp_path / "ledger.sqlite", clock=lambda: moments[-1])
    room = TokenRoom(ledger, lambda _: None)
    ledger.quotas.learn("azure:x", "d", max_enqueued_tokens=10, source=source)
    moments.append(moments[0] + timedelta(days=1))
    assert room.limit("azure:x", "d") == 10
    moments.append(moments[-1] + timedelta(seconds=1))
    assert room.limit("azure:x", "d") == limit


def test_only_its_owner_moves_a_shard(ledger: Ledger) -> None:
    """What the previous owner writes leaves no trace, neither step nor event nor answers."""
    ledger.shards.add(shard())
    assert ledger.shards.take_over(shard(), "run-2")
    moves: list[Callable[[], object]] = [
        lambda: ledger.shards.record(shard(), Step.SUBMITTED, batch_id="b"),
        lambda: ledger.shards.change(shard(), completed=1),
        lambda: ledger.shards.store(shard(), files={"s": 2}),
    ]
    for move in moves:
        with pytest.raises(LostOwnershipError, match="shard s of 2 requests was taken over by"):
            move()
    assert ledger.shards.get("s").step == Step.CLAIMED
    assert len(ledger.events.all()) == 1
    assert ledger.answers.count() == 0
    assert ledger.shards.record(shard(owner="run-2"), Step.EXPORTED).step == Step.EXPORTED


def test_a_closed_shard_is_moved_no_more(ledger: Ledger) -> None:
    """Its requests may be another shard's by now, whose it was does not matter."""
    ledger.shards.add(shard())
    ledger.shards.record(shard(), Step.RELEASED)
    with pytest.raises(LostOwnershipError, match="was released by another run"):
        ledger.shards.record(shard(), Step.CREATING)
    assert ledger.shards.take_over(shard(), "run-2") is None
    assert ledger.shards.get("s").step == Step.RELEASED
