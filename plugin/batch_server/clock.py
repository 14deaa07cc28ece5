"""The emulator's time, which tests move on instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Seconds since 1970, as far ahead of another clock as it was set.

    Args:
        now: The clock that it follows.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._ahead = 0.0

    def __call__(self) -> float:
        """Return the time in seconds since 1970."""
        return self._now() + self._ahead

    def advance(self, seconds: float) -> None:
        """Move on, or back by a negative number of seconds."""
        self._ahead += seconds
