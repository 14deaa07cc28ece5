"""The ledger: steps, claims, and what a second reader or a newer version finds."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dbt_enrich.errors import LedgerError, LostOwnershipError
from dbt_enrich.pipeline.run.token_quota import TokenRoom
from dbt_enrich.state.ledger import _COPIED, Ledger
from dbt_enrich.state.migrations import MIGRATIONS
from dbt_enrich.state.shards import Shard, ShardChanges, Step
from dbt_enrich.state.tables.contents import Content
from dbt_enrich.state.tables.publications import Publication
from dbt_enrich.state.tables.stops import Stop
from support.shared_ledger import OpenLedger


def shard(name: str = "s", **changes: object) -> Shard:
    """A claimed shard of the task `t`."""
    values = {
        "shard": name, "step": Step.CLAIMED, "owner": "run-1", "namespace": "n",
        "service": "local", "task_key": "t", "requests": 2, **changes,
    }  # fmt: skip
    return Shard(**values)  # type: ignore[arg-type]


@pytest.fixture
def ledger(open_ledger: OpenLedger) -> Ledger:
    """An empty ledger."""
    return open_ledger()


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


def test_one_claim_at_a_time(open_ledger: OpenLedger) -> None:
    """A second claim waits for the first to commit, and then sees what it claimed."""
    first = open_ledger()
    seen: list[int] = []

    opened, held = threading.Event(), threading.Event()

    def claim() -> None:
        with open_ledger() as second:
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


def test_models_may_open_a_new_ledger_at_once(new_ledger: Callable[[], OpenLedger]) -> None:
    """SQLite fails at once, and does not wait, where two connections switch a file to WAL."""
    openers = 4
    for _ in range(8):
        open_one = new_ledger()
        together = threading.Barrier(openers)
        failures: list[LedgerError] = []

        def opened(
            open_one: OpenLedger, together: threading.Barrier, failures: list[LedgerError]
        ) -> None:
            together.wait()
            try:
                open_one().close()
            except LedgerError as error:
                failures.append(error)

        threads = [
            threading.Thread(target=opened, args=(open_one, together, failures))
            for _ in range(openers)
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
    renamed = {"images": {"columns": ["photo"]}}
    ledger.tasks.add("t", enrichment="other", document=renamed, outputs=[])
    assert ledger.tasks.outputs("t") == [{"name": "a"}]
    task = ledger.tasks.get("t")
    assert task is not None
    assert (task.enrichment, task.document) == ("e", renamed)
    assert ledger.tasks.outputs("u") is None


def test_a_ledger_of_a_newer_version_is_refused(open_ledger: OpenLedger) -> None:
    """It is not touched, and the message says to upgrade."""
    open_ledger()._connection.write(
        "insert into migrations values (?, 'm999_future', '2099-01-01')", (len(MIGRATIONS) + 1,)
    )
    with pytest.raises(LedgerError, match="newer dbt-enrich.*pip install -U"):
        open_ledger()


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    """A file that is no database gives one sentence with its path and the fix."""
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(LedgerError, match=r"ledger\.sqlite cannot be opened"):
        Ledger(path)


def test_migrations_are_applied_once_and_named_apart(open_ledger: OpenLedger) -> None:
    """Each migration's number is its place, and opening again applies none."""
    names = [name for name, _ in MIGRATIONS]
    assert names == sorted(set(names))
    open_ledger()
    applied = open_ledger()._connection.read("select number, name from migrations order by number")
    assert [tuple(row.values()) for row in applied] == list(enumerate(names, start=1))


def test_only_its_owner_reads_the_ledger(tmp_path: Path) -> None:
    """The file holds prompts and must not be world-readable."""
    Ledger(tmp_path / "ledger.sqlite").close()
    assert (tmp_path / "ledger.sqlite").stat().st_mode & 0o077 == 0


def test_times_come_from_the_clock(open_ledger: OpenLedger) -> None:
    """The clock is injected, so that tests need not wait."""
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    ledger = open_ledger(lambda: moment)
    ledger.shards.add(shard())
    assert ledger.events.last_time("s", Step.CLAIMED) == moment


@pytest.mark.parametrize(("source", "limit"), [("header", 10), ("refusal", None)])
def test_a_limit_that_a_refusal_told_is_forgotten_after_a_day(
    source: str, limit: int | None, open_ledger: OpenLedger
) -> None:
    """It may have been raised, and no reply would say so."""
    moments = [datetime(2026, 1, 2, tzinfo=UTC)]
    ledger = open_ledger(lambda: moments[-1])
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


def test_every_column_of_a_shard_comes_back_as_it_was(ledger: Ledger) -> None:
    """Numbers, truth, texts with what SQL, formats and Postgres take for something else."""
    whole = shard(
        rows=3, synchronous=True, uploads_sought=False, max_failed_share=0.25, least_answers=7,
        settings='{"a": "100% ?x :y %s"}', error="it\\'s \"quoted\"\nü", requests=2**40,
    )  # fmt: skip
    ledger.shards.add(whole, detail={"why": "50% :now ?"})
    found = ledger.shards.get("s")
    assert replace(found, created_at="", updated_at="") == whole
    assert ledger.events.all("s")[0]["detail"] == '{"why": "50% :now ?"}'
    changes: ShardChanges = {"error": None, "completed": 2, "max_failed_share": None}
    changed = ledger.shards.change(whole, **changes)
    assert (changed.error, changed.completed, changed.max_failed_share) == (None, 2, None)


def test_what_is_looked_for_is_found(ledger: Ledger) -> None:
    """By name, batch, task, service and time; nothing is found by nothing."""
    ledger.shards.add(shard("a", service="x"))
    ledger.shards.add(shard("b", owner=None, batch_id="batch"))
    ledger.shards.add(shard("c", input_file_id="file"))
    ledger.shards.record(ledger.shards.get("c"), Step.RELEASED)
    assert [one.shard for one in ledger.shards.named(["a", "c", "z"])] == ["a", "c"]
    assert ledger.shards.named([]) == []
    assert ledger.shards.knows(batch_id="batch")
    assert ledger.shards.knows(shard="a")
    assert not ledger.shards.knows(batch_id="a", shard="batch")
    assert not ledger.shards.knows()
    assert [one.shard for one in ledger.shards.open(service="x", task_key="t")] == ["a"]
    assert [one.shard for one in ledger.shards.closed_with_input("local")] == ["c"]
    ledger.shards.forget_input("c")
    assert ledger.shards.closed_with_input("local") == []
    assert ledger.shards.all(since=datetime.now(UTC) + timedelta(hours=1)) == []
    assert ledger.shards.take_over(ledger.shards.get("b"), "run-2") is not None


def test_what_is_put_again_stands_in_its_place(ledger: Ledger) -> None:
    """One row for each table, limit, relation and forgotten task: the newest."""
    for number in (1, 2):
        ledger.publications.put(Publication("e", "n", "m", "t", {"done": number}, ask_again=("x",)))
        ledger.contents.put(Content("r", str(number), frozenset({"f"}), {"done": (1, "2", "3")}))
        ledger.quotas.learn("s", "d", max_enqueued_tokens=number, source="header")
        ledger.answers.add("f", task_key="t", answers=2**33)
        assert ledger.answers.count() == 2**33
        assert ledger.answers.forget("t") == ["f"]
    (publication,) = ledger.publications.all()
    assert (publication.counts, publication.ask_again) == ({"done": 2}, ("x",))
    content = ledger.contents.get("r")
    assert content is not None
    assert (content.basis, content.rows) == ("2", {"done": (1, "2", "3")})
    limit = ledger.quotas.get("s", "d")
    assert limit is not None
    assert limit.max_enqueued_tokens == 2
    assert list(ledger.answers.forgotten()) == ["t"]
    assert ledger.answers.count() == 0


def test_a_stop_is_of_its_task_until_it_is_lifted(ledger: Ledger) -> None:
    """It has the task's batches cancelled, and is lifted by the task or by its model."""
    ledger.shards.add(shard())
    ledger.tasks.add("t", enrichment="e", document={}, outputs=[])
    ledger.stops.add(Stop("t", None, "{}", "invalid_json", None, "", 3, 4, "too many"))
    assert ledger.shards.get("s").cancel_requested_at is not None
    assert ledger.stops.of("t")[0].lifted_at is None
    assert ledger.stops.lift(enrichment="other") == 0
    assert ledger.stops.lift(enrichment="e") == 1
    assert ledger.stops.lift(task_key="t") == 0
    ledger.retries.add("e", ["invalid_json", "missing"])
    assert set(ledger.retries.of("e")) == {"invalid_json", "missing"}
    assert ledger.enrichments() == {"e"}
    assert ledger.askers("t") == {"e"}


def test_a_step_without_its_next_is_found(ledger: Ledger) -> None:
    """An upload that got no reply left a file at the service."""
    for name in ("lost", "whole"):
        ledger.shards.add(shard(name))
        ledger.shards.record(shard(name), Step.UPLOADING)
    ledger.shards.record(shard("whole"), Step.UPLOADED, input_file_id="f")
    assert ledger.events.shards_without_next(Step.UPLOADING, Step.UPLOADED) == ["lost"]
    assert ledger.events.newest() == 5
    ledger.statuses.add("lost", {"validating": None})
    ledger.statuses.add("lost", {"validating": datetime(2020, 1, 1, tzinfo=UTC)})
    assert ledger.statuses.of("lost")["validating"].year > 2020


def test_every_table_is_copied_or_known_not_to_be(tmp_path: Path) -> None:
    """A new one is forgotten by no move of a state."""
    path = tmp_path / "ledger.sqlite"
    with Ledger(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
    left_out = {"contents", "identity", "leases", "locks", "migrations", "sqlite_sequence"}
    assert {name for (name,) in found} - left_out == set(_COPIED)
