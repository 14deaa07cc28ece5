"""Time, which is handed in wherever a test would want to move it."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Final


class Clock:
    """The machine's clock. May be used from several threads."""

    def now(self) -> datetime:
        """Return the time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that only ever grow, for durations."""
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until an event is set, for so many seconds at most; say whether it is set."""
        return event.wait(seconds)


MACHINE_CLOCK: Final = Clock()
