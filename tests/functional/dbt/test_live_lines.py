"""The live line: real dbt in a real pseudo-terminal, as a terminal's screen shows it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pyte
from batch_server.server import RunningEmulator
from dbt_enrich.console.console import Console
from dbt_enrich.console.progress import Progress
from dbt_enrich.state.shards import Shard, Step
from support.clock import StoppedClock
from support.dbt_project import DbtProject, azure
from support.forked_dbt import Forked

NOTES = "select i as id, 'note ' || i as note from range(9) as numbers(i)"
_LIVE = "notes_enriched: 0 of 3 batches, 0 of 9 rows"
_COLUMNS, _ROWS = 140, 40


class Screen:
    """A command in a pseudo-terminal, and what its screen shows."""

    def __init__(self, program: str, *arguments: str, directory: Path) -> None:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        self.command = Forked(
            program,
            [*arguments, "--profiles-dir", "."],
            log=Path(os.ttyname(slave)),
            directory=directory,
            environment={"TERM": "xterm", "COLUMNS": str(_COLUMNS)},
        )
        # A terminal that no process has open is gone.
        self._slave = slave
        os.set_blocking(master, False)
        self._master = master
        self._screen = pyte.Screen(_COLUMNS, _ROWS)
        self._stream = pyte.ByteStream(self._screen)

    def lines(self) -> list[str]:
        """What stands on the screen now."""
        try:
            while data := os.read(self._master, 65536):
                self._stream.feed(data)
        except (BlockingIOError, OSError):
            pass
        return [line.rstrip() for line in self._screen.display if line.strip()]

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)

    def until(self, condition: Callable[[list[str]], bool]) -> list[str]:
        """Look until the screen shows something."""
        deadline = time.monotonic() + 60
        while not condition(lines := self.lines()):
            assert time.monotonic() < deadline, "\n".join(lines)
            running = self.command.process.is_alive()
            assert running or condition(self.lines()), "\n".join(lines)
            time.sleep(0.02)
        return lines


def test_a_live_line_stands_below_dbt_s_output(emulator: RunningEmulator, tmp_path: Path) -> None:
    """While it waits; afterwards dbt's lines are as they always are."""
    project = DbtProject(tmp_path, azure(emulator.url, emulator.api_key, max_requests_per_file=3))
    project.enrichment("notes_enriched", NOTES)
    project.write("models/slow.sql", "select count(*) as n from range(1000)")
    emulator.pause()
    screen = Screen("dbt", "--no-use-colors", "run", directory=project.directory)
    lines = screen.until(lambda shown: shown[-1:] == [_LIVE])
    assert any("START sql enrichment model main.notes_enriched" in line for line in lines[:-1])
    emulator.resume()
    screen.until(lambda shown: any("Completed successfully" in line for line in shown))
    assert screen.command.wait(60) == 0
    lines = screen.lines()
    assert not any(line.startswith("notes_enriched: ") for line in lines)
    # Every line begins with dbt's time of day: nothing of ours is left on any of them.
    body = [line for line in lines if "dbt-enrich adapter" not in line]
    assert all(line[2] == line[5] == ":" for line in body), "\n".join(lines)
    assert any("9 done; 0 reused, 9 sent" in line for line in lines)


def test_status_is_watched_from_another_terminal(
    emulator: RunningEmulator, tmp_path: Path, door: str
) -> None:
    """It follows what dbt does, asks nothing of the service, and ends with Ctrl-C."""
    config = azure(emulator.url, emulator.api_key)
    project = DbtProject(tmp_path, config, door=door, stands_in=True)
    project.enrichment("notes_enriched", NOTES)
    emulator.pause()
    project.dbt("run", "--vars", "enrichment_mode: submit")
    screen = Screen("dbt-enrich", "status", "--watch", directory=project.directory)
    screen.until(lambda shown: any("notes_enriched" in line and "batch_" in line for line in shown))
    before = len(emulator.account()["calls"])
    screen.until(lambda shown: any("cost so far" in line for line in shown))
    assert len(emulator.account()["calls"]) == before
    emulator.resume()
    emulator.settle()
    project.dbt("run")
    screen.until(lambda shown: not any("batch_" in line for line in shown))
    screen.until(lambda shown: any("cost so far: USD 0.000" in line for line in shown))
    screen.type(b"\x03")
    assert screen.command.wait(60) == 0
    assert not any("Traceback" in line for line in screen.lines())


def shard(name: str, step: Step, **changes: object) -> Shard:
    """A shard of five requests."""
    values = {"owner": None, "namespace": "n", "service": "s", "task_key": "t", "requests": 5}
    return Shard(shard=name, step=step, **{**values, **changes})  # type: ignore[arg-type]


def test_the_standing_tells_files_batches_rows_and_time() -> None:
    """From what each shard was last seen to be."""
    clock = StoppedClock()
    text: list[str] = []
    progress = Progress(Console(text.append, clock=clock, name="m"))
    progress(shard("a", Step.UPLOADING))
    progress(shard("b", Step.SUBMITTED, status="validating"))
    assert progress.standing() == "uploading, 1 of 2 batches at the service"
    progress(shard("a", Step.SUBMITTED, status="validating"))
    assert progress.standing() == "validating, 0 of 2 batches, 0 of 10 rows"
    clock.advance(10)
    progress(shard("a", Step.DOWNLOADED, status="completed", completed=4, failed=1))
    assert progress.standing() == ("1 of 2 batches, 5 of 10 rows, 1 failed, 30 rows/min, 10 s left")


def test_without_a_terminal_a_minute_never_passes_in_silence() -> None:
    """And no line is written where one has just been."""
    clock = StoppedClock()
    text: list[str] = []
    progress = Progress(Console(text.append, clock=clock, name="m"))
    progress(shard("a", Step.SUBMITTED, batch_id="b", status="in_progress"))
    assert len(text) == 1
    for _ in range(3):
        clock.advance(30)
        progress.beat()
        progress.beat()
    assert text[1:] == ["m: 0 of 1 batch, 0 of 5 rows"]
