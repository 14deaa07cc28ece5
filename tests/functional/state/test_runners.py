"""Runners with a ledger in common: each request is sent once, also where one of them is frozen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from support.shared_ledger import LedgerServer

_LEASE, _LONG = 1.5, 60.0
_TESTS = Path(__file__).parents[2]


class Runner:
    """A process that enriches notes.

    Args:
        settings: As `runner.run` takes them.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("runner.py")), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(_TESTS)},
        )

    def begin(self) -> None:
        """Have it begin, once it is ready."""
        assert self.process.stdout is not None
        assert self.process.stdin is not None
        assert self.process.stdout.readline() == "ready\n", self.process.communicate()
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def wait_until_frozen(self) -> None:
        """Wait until it has stopped itself."""
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), self.process.communicate()

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.process.pid, signal.SIGCONT)

    def outcome(self) -> dict[str, Any]:
        """Return what became of its rows."""
        out, err = self.process.communicate(timeout=200)
        assert self.process.returncode == 0, err
        found: dict[str, Any] = json.loads(out)
        return found


@pytest.fixture
def runner(
    emulator: RunningEmulator, ledgers: LedgerServer, tmp_path: Path
) -> Iterator[Callable[..., Runner]]:
    """Starts runners on one ledger and one bucket, each on a machine of its own."""
    made: list[Runner] = []
    keys = ledgers.new()

    def start(select: str, *, freeze: str = "", lease: float = _LEASE) -> Runner:
        made.append(
            Runner(
                {
                    "url": emulator.url,
                    "key": emulator.api_key,
                    "state_dir": str(tmp_path / f"machine-{len(made)}"),
                    "ledger": keys.ledger.get_secret_value(),
                    "ledger_schema": keys.ledger_schema,
                    "files": keys.files,
                    "lease": lease,
                    "freeze": freeze,
                    "select": select,
                }
            )
        )
        return made[-1]

    yield start
    for one in made:
        with suppress(ProcessLookupError):
            one.process.kill()
        one.process.communicate()


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
    assert other.outcome()["statuses"] == {"done": 6}
    frozen.thaw()
    assert frozen.outcome()["statuses"] == {"done": 6}
    assert_paid_once(emulator, 6)


def test_a_runner_that_was_frozen_for_a_moment_goes_on(
    runner: Callable[..., Runner], emulator: RunningEmulator
) -> None:
    """Within its lease it is its own, and nobody else's."""
    frozen = runner(notes(0, 6), freeze="creating:after")
    frozen.begin()
    frozen.wait_until_frozen()
    frozen.thaw()
    assert frozen.outcome()["statuses"] == {"done": 6}
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
    lost.process.kill()
    other.begin()
    assert other.outcome()["statuses"] == {"done": 6}
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
        assert one.outcome()["statuses"] == {"done": rows}
    assert_paid_once(emulator, rows + rows // 2)
