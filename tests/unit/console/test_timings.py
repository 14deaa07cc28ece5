"""Timings: seconds in which a stage was at work, with what it dealt with."""

from __future__ import annotations

import mmap
import threading

import pytest
from dbt_enrich.console.console import Console
from dbt_enrich.console.timings import Stage, Timings, logged_timings
from dbt_enrich.environment import TIMINGS_VARIABLE
from support.clock import StoppedClock


@pytest.fixture
def clock() -> StoppedClock:
    """The clock of the timings, moved by hand."""
    return StoppedClock()


def test_spans_of_a_stage_that_overlap_are_counted_once(clock: StoppedClock) -> None:
    """Two uploads at once take as long as the union of both; a pause between does not count."""
    timings = Timings(clock)
    first, second = timings.span(Stage.UPLOAD, rows=10, size=5), timings.span(Stage.UPLOAD, rows=7)
    first.__enter__()
    clock.advance(1)
    second.__enter__()
    clock.advance(2)
    first.__exit__(None, None, None)
    clock.advance(4)
    second.__exit__(None, None, None)
    clock.advance(8)
    with timings.span(Stage.UPLOAD) as third:
        clock.advance(16)
        third.bytes = 100
    (times,) = timings.stages().values()
    assert times.seconds == pytest.approx(1 + 2 + 4 + 16)
    assert (times.rows, times.bytes) == (17, 105)


def test_a_span_that_fails_is_counted_and_the_table_is_in_the_order_of_the_stages(
    clock: StoppedClock,
) -> None:
    """Whoever looks for lost time needs the seconds of what failed most of all."""
    timings = Timings(clock)
    with timings.span(Stage.WAIT):
        clock.advance(5)
    with pytest.raises(RuntimeError), timings.span(Stage.STAGE, rows=1_000, size=2_000_000):
        clock.advance(2)
        raise RuntimeError
    head, stage, wait, together = timings.lines()
    assert head.split() == ["stage", "rows", "MB", "seconds", "rows/s", "peak", "MB"]
    assert stage.split() == ["stage", "1,000", "2.0", "2.00", "500"]
    assert wait.split() == ["wait", "0", "0.0", "5.00"]
    assert together.split()[:2] == ["together", "7.00"]


def test_the_memory_is_that_of_the_stage_not_of_all_before_it() -> None:
    """What a stage gave back is not held against the next one."""
    looked = threading.Event()
    timings = Timings(watches_memory=True)
    # Of its own: an allocator may serve a new object from memory that it holds already.
    with timings.span(Stage.STAGE), mmap.mmap(-1, 200_000_000) as held:
        held.write(b"x" * len(held))
        looked.wait(0.3)
    with timings.span(Stage.LOAD):
        looked.wait(0.3)
    timings.close()
    peaks = {stage: times.peak_bytes for stage, times in timings.stages().items()}
    assert peaks[Stage.STAGE] - peaks[Stage.LOAD] > 150_000_000


@pytest.mark.parametrize(("value", "lines"), [("1", 3), ("0", 0), ("", 0)])
def test_the_log_has_them_only_where_they_are_wanted(
    monkeypatch: pytest.MonkeyPatch, value: str, lines: int
) -> None:
    """By the variable, which `dbt run` has no option for."""
    monkeypatch.setenv(TIMINGS_VARIABLE, value)
    text: list[str] = []
    with logged_timings(Console(text.append)) as timings, timings.span(Stage.CLAIM):
        pass
    assert len(text) == lines
