"""Clocks that a test moves."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

from dbt_enrich.clock import Clock


class HastyClock(Clock):
    """The machine's clock, on which a wait passes at once: time jumps on by it.

    Whoever is waited for gets a moment to work in, so that what takes one takes few waits.

    Args:
        moment: Real seconds that a wait takes at most.

    Attributes:
        pauses: The seconds of each wait so far.
    """

    def __init__(self, moment: float = 0.02) -> None:
        self.pauses: list[float] = []
        self._moment = moment
        self._ahead = self._jump = 0.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Return the time in UTC."""
        return super().now() + timedelta(seconds=self._ahead + self._jump)

    def monotonic(self) -> float:
        """Return seconds that only ever grow."""
        return super().monotonic() + self._ahead

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for a moment, and let the rest of the wait be over."""
        began = time.monotonic()
        is_set = event.wait(min(seconds, self._moment))
        self.pauses.append(seconds)
        if not is_set:
            self.advance(max(0.0, seconds - (time.monotonic() - began)))
        return is_set

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._ahead += seconds

    def jump(self, seconds: float) -> None:
        """Set the time of day, as an administrator does: forward or back."""
        self._jump += seconds


class StoppedClock(Clock):
    """A clock on which time passes only by `advance` and by waits, which end at once."""

    def __init__(self) -> None:
        self._seconds = 1_000_000.0

    def now(self) -> datetime:
        """Return the time in UTC."""
        return datetime.fromtimestamp(self._seconds, UTC)

    def monotonic(self) -> float:
        """Return the time in seconds."""
        return self._seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Let the wait be over."""
        self.advance(seconds)
        return event.is_set()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._seconds += seconds
