"""Runners with a ledger in common: each request is sent once, also where one of them is frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from batch_server.server import RunningEmulator
from support.runner import Runner, Work
from support.shared_ledger import LedgerServer, document

_LEASE, _LONG = 1.5, 60.0


@pytest.fixture
def runner(
    emulator: RunningEmulator, ledgers: LedgerServer, tmp_path: Path
) -> Iterator[Callable[..., Runner]]:
    """Starts runners on one ledger and one bucket, each on a machine of its own."""
    made: list[Runner] = []
    state = document(ledgers.new())

    def start(select: str, *, freeze: str = "", lease: float = _LEASE) -> Runner:
        directory = tmp_path / f"machine-{len(made)}"
        work = Work(emulator.url, emulator.api_key, directory, state, lease, freeze, select)
        made.append(Runner(work))
        return made[-1]

    yield start
    for one in made:
        one.kill()


def notes(first: int, rows: int) -> str:
    """Return the SELECT of some notes."""
    return f"select i as id, 'note ' || i as note from range({first}, {first + rows}) as n(i)"


def assert_paid_once(emulator: RunningEmulator, rows: int) -> None:
    """Each of so many requests was answered, and paid for once."""
    paid = emulator.account()["paid"]
    assert len(paid) == rows
    assert set(paid.values()) == {1}


@pytest.mark.parametrize(
    "moment", ["uploading:after", "creating:before", "creating:after", "submitted:before"]
)
def test_a_runner_that_was_frozen_past_its_lease_sends_nothing(
    moment: str, runner: Callable[..., Runner], emulator: RunningEmulator
) -> None:
    """Another one has taken its requests over: before and after each intent, it leaves them."""
    frozen, other = runner(notes(0, 6), freeze=moment), runner(notes(0, 6))
    frozen.begin()
    frozen.wait_until_frozen()
    other.begin()
    assert other.statuses() == {"done": 6}
    frozen.thaw()
    assert frozen.statuses() == {"done": 6}
    assert_paid_once(emulator, 6)


def test_a_runner_that_was_frozen_for_a_moment_goes_on(
    runner: Callable[..., Runner], emulator: RunningEmulator
) -> None:
    """Within its lease it is its own, and nobody else's."""
    frozen = runner(notes(0, 6), freeze="creating:after")
    frozen.begin()
    frozen.wait_until_frozen()
    frozen.thaw()
    assert frozen.statuses() == {"done": 6}
    assert_paid_once(emulator, 6)
    assert len(emulator.jobs.batches()) == 1


@pytest.mark.parametrize("moment", ["exported:after", "downloaded:after"])
def test_what_a_lost_machine_had_on_its_disk_is_had_again(
    moment: str, runner: Callable[..., Runner], emulator: RunningEmulator
) -> None:
    """A request file that was not sent is written anew, an answer's is downloaded again."""
    lost, other = runner(notes(0, 6), freeze=moment), runner(notes(0, 6))
    lost.begin()
    lost.wait_until_frozen()
    lost.kill()
    other.begin()
    assert other.statuses() == {"done": 6}
    assert_paid_once(emulator, 6)


def test_two_runners_at_once_send_each_row_once(
    runner: Callable[..., Runner], emulator: RunningEmulator
) -> None:
    """A third of their rows is both's: whoever claims it sends it, and both have all answers."""
    rows = 3_000
    selects = notes(0, rows), notes(rows // 2, rows)
    both = [runner(select, lease=_LONG) for select in selects]
    for one in both:
        one.begin()
    for one in both:
        assert one.statuses() == {"done": rows}
    assert_paid_once(emulator, rows + rows // 2)
