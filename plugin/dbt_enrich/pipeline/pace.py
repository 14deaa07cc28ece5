"""Pace: when a shard is looked at next, a little later each time."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from dbt_enrich.errors import TransientError

FIRST_DELAY = 0.2


@dataclass
class Due:
    """When a shard is looked at next, how long the wait after that is, and what stood in the way.

    Attributes:
        at: When it is looked at next, on the monotonic clock.
        delay: Seconds of the wait after that.
        refusals: How often the quota on tokens refused its batch.
        told: Whether the user was told that it waits for room.
        failing_since: Since when the service cannot be reached, or None.
        error: What the service, or the network, said last.
    """

    at: float = 0.0
    delay: float = FIRST_DELAY
    refusals: int = 0
    told: bool = False
    failing_since: float | None = None
    error: TransientError | None = None

    def later(self, most: float, *, least: float = 0.0) -> None:
        """Put the next look off, a little further each time, with jitter."""
        wait = max(self.delay, least)
        self.at = time.monotonic() + wait * random.uniform(0.9, 1.1)  # noqa: S311
        self.delay = min(self.delay * 1.5, most)

    def fails(self, error: TransientError) -> None:
        """Note that the service could not be reached."""
        self.error = error
        self.failing_since = self.failing_since or time.monotonic()

    def works(self) -> None:
        """Note that the service answered."""
        self.error = self.failing_since = None
