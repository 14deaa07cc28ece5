"""Timings: where the time and the memory of one run go, stage by stage.

Stages overlap: files are uploaded while others are written. A stage's seconds are those in which at
least one of its spans lasted, so that four uploads at once are not counted four times.
"""

from __future__ import annotations

import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from dbt_enrich.clock import MACHINE_CLOCK, Clock
from dbt_enrich.console.console import Console
from dbt_enrich.environment import timings_wanted

_LOOK_SECONDS = 0.02
_MEGABYTE = 1_000_000
_HEAD = f"{'stage':<10}{'rows':>13}{'MB':>11}{'seconds':>11}{'rows/s':>12}{'peak MB':>9}"


class Stage(StrEnum):
    """The stages of a run, in their order."""

    STAGE = "stage"
    CLAIM = "claim"
    WRITE = "write"
    UPLOAD = "upload"
    WAIT = "wait"
    DOWNLOAD = "download"
    LOAD = "load"
    PUBLISH = "publish"
    TABLE = "table"


@dataclass
class Span:
    """What one stretch of a stage dealt with; filled in by the stage itself.

    Attributes:
        rows: Rows.
        bytes: Bytes written, sent or read.
    """

    rows: int = 0
    bytes: int = 0


@dataclass
class StageTimes:
    """What a stage took in all.

    Attributes:
        rows: Rows that it dealt with; a row that was sent twice counts twice.
        bytes: Bytes that it wrote, sent or read.
        seconds: Seconds in which it was at work.
        peak_bytes: The process's largest memory seen meanwhile, or 0 where it was not measured.
    """

    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0
    _lasting: int = field(default=0, repr=False)
    _since: float = field(default=0.0, repr=False)

    @property
    def is_lasting(self) -> bool:
        """Whether a span of the stage has not ended."""
        return self._lasting > 0

    def begin(self, now: float) -> None:
        """Note that a span begins."""
        if not self._lasting:
            self._since = now
        self._lasting += 1

    def end(self, now: float, span: Span) -> None:
        """Note that a span ends, and what it dealt with."""
        self._lasting -= 1
        if not self._lasting:
            self.seconds += now - self._since
        self.rows += span.rows
        self.bytes += span.bytes


class Timings:
    """The spans of one run, which several threads may begin and end.

    Args:
        clock: The time.
        watches_memory: Whether the process's memory is looked at while spans last.
    """

    def __init__(self, clock: Clock = MACHINE_CLOCK, *, watches_memory: bool = False) -> None:
        self._clock = clock
        self._began = self._clock.monotonic()
        self._stages: dict[Stage, StageTimes] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        if watches_memory:
            threading.Thread(target=self._watch, name="memory", daemon=True).start()

    @contextmanager
    def span(self, stage: Stage, *, rows: int = 0, size: int = 0) -> Iterator[Span]:
        """Count the block's seconds for a stage.

        Args:
            stage: The stage.
            rows: Rows that it deals with, where they are known before.
            size: Its bytes, where they are known before.

        Yields:
            The span, to fill in what is known only afterwards.
        """
        span = Span(rows, size)
        with self._lock:
            times = self._stages.setdefault(stage, StageTimes())
            times.begin(self._clock.monotonic())
        try:
            yield span
        finally:
            with self._lock:
                times.end(self._clock.monotonic(), span)

    def stages(self) -> dict[Stage, StageTimes]:
        """Return what each stage took so far, in the order of the stages."""
        with self._lock:
            return {stage: self._stages[stage] for stage in Stage if stage in self._stages}

    def lines(self) -> list[str]:
        """Return the table that a user reads."""
        rows = [
            f"{stage:<10}{times.rows:>13,}{times.bytes / _MEGABYTE:>11,.1f}{times.seconds:>11,.2f}"
            f"{_rate(times):>12}{_peak(times):>9}"
            for stage, times in self.stages().items()
        ]
        whole = self._clock.monotonic() - self._began
        return [_HEAD, *rows, f"{'together':<34}{whole:>11,.2f}  (stages overlap)"]

    def close(self) -> None:
        """Look at the memory no more."""
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            size = _resident_bytes()
            with self._lock:
                for times in self._stages.values():
                    if times.is_lasting:
                        times.peak_bytes = max(times.peak_bytes, size)


@contextmanager
def logged_timings(console: Console) -> Iterator[Timings]:
    """Take the timings of the block, and say them at its end if the user wants to read them."""
    is_wanted = timings_wanted()
    timings = Timings(console.clock, watches_memory=is_wanted)
    try:
        yield timings
    finally:
        timings.close()
        for line in timings.lines() if is_wanted else []:
            console.say(line)


def _resident_bytes() -> int:
    """Return the process's memory now; where the system does not say it, its largest so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # macOS counts bytes, others kilobytes (getrusage(2)).
        return largest if sys.platform == "darwin" else largest * 1024
    return pages * resource.getpagesize()


def _rate(times: StageTimes) -> str:
    return f"{times.rows / times.seconds:,.0f}" if times.rows and times.seconds else ""


def _peak(times: StageTimes) -> str:
    return f"{times.peak_bytes / _MEGABYTE:,.0f}" if times.peak_bytes else ""
