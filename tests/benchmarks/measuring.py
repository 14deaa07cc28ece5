"""Measuring: work in a fresh process, with its time, its CPU, its memory and the disk it used."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
Figures = dict[str, float]

_LOOK_SECONDS = 0.2
_MEGABYTE = 1_000_000


class UnavailableError(RuntimeError):
    """What a contender needs is not on this machine, and cannot be had."""


class Clock:
    """The figures that a contender's process takes of itself: seconds of each step, and counts."""

    def __init__(self) -> None:
        self.figures: Figures = {"imports_mb": resident_mb()}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the block's seconds to the step `name`, and those of CPU to `cpu`."""
        began, worked = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            for figure, seconds in (
                (name, time.perf_counter() - began),
                ("cpu", time.process_time() - worked),
            ):
                self.figures[figure] = self.figures.get(figure, 0.0) + seconds

    def count(self, name: str, value: float) -> None:
        """Add to a figure."""
        self.figures[name] = self.figures.get(name, 0.0) + value

    def report(self) -> None:
        """Print the figures as the process's last line, its largest memory among them."""
        print(json.dumps({**self.figures, "peak_mb": resident_mb()}), flush=True)


def resident_mb(pid: int | str = "self") -> float:
    """Return the largest resident set of a process so far, in megabytes.

    Linux hands `ru_maxrss` down from the parent process; `VmHWM` is the process's own.
    """
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 / _MEGABYTE if found else 0.0


def cpu_seconds(pid: int) -> float:
    """Return the seconds of CPU that a process and its ended children have taken (proc(5))."""
    text = Path(f"/proc/{pid}/stat").read_text()
    taken = text[text.rindex(")") + 2 :].split()[11:15]
    return sum(map(int, taken)) / os.sysconf("SC_CLK_TCK")


def size_mb(directory: Path) -> float:
    """Return how much disk the files below a directory take, in megabytes."""
    return sum(_sizes(directory)) / _MEGABYTE


def _sizes(directory: Path) -> Iterator[int]:
    """Yield the bytes of the files; one that goes away meanwhile counts nothing."""
    for root, _, names in os.walk(directory):
        for name in names:
            try:
                yield (Path(root) / name).lstat().st_size
            except OSError:
                continue


def in_fresh_process(
    arguments: Sequence[str | Path],
    *,
    python: Path | None = None,
    disk: Path | None = None,
    timeout: float = 3600.0,
    environment: dict[str, str] | None = None,
) -> Figures:
    """Run a module of the benchmarks in a process of its own and return its figures.

    Args:
        arguments: What follows `python -m`.
        python: The interpreter; this one by default.
        disk: A directory whose largest size is noted as `disk_mb` while the process runs.
        timeout: Seconds after which the process is given up.
        environment: Environment variables to add.

    Raises:
        RuntimeError: It failed; the text is the end of what it said.
    """
    command = [str(python or sys.executable), "-m", *map(str, arguments)]
    largest, deadline = 0.0, time.monotonic() + timeout
    with subprocess.Popen(
        command,
        cwd=REPOSITORY / "tests",
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while True:
            try:
                text, complained = process.communicate(timeout=_LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    process.kill()
                if disk is not None:
                    largest = max(largest, size_mb(disk))
    if process.returncode:
        raise RuntimeError(
            f"{' '.join(command[2:4])} ended with {process.returncode}: "
            f"{(complained or text)[-2000:]}"
        )
    figures: Figures = json.loads(text.splitlines()[-1])
    return {**figures, "disk_mb": largest} if disk is not None else figures
