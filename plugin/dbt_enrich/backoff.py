"""Pauses between tries, which grow while what stands in the way is still there."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

PATIENCE_SECONDS: Final = 900.0
"""How long a service in trouble is waited for where the user says nothing of it."""


@dataclass
class Backoff:
    """The pauses between tries.

    Attributes:
        first: Seconds of the first pause.
        longest: Seconds of the longest.
        growth: By which each pause is longer than the one before.
        jitter: The share of a pause by which it may be longer, so that those who began to wait at
            once do not come back at once.
    """

    first: float
    longest: float
    growth: float = 2.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        self._next = self.first

    def pause(self, *, asked: float | None = None, longest: float | None = None) -> float:
        """Return the seconds of the next pause.

        Args:
            asked: The least that the service asks for, or None.
            longest: The longest pause now, or None for the usual one.
        """
        longest = self.longest if longest is None else longest
        usual = min(self._next, longest)
        self._next = min(self._next * self.growth, longest)
        return max(usual * random.uniform(1.0, 1.0 + self.jitter), asked or 0.0)  # noqa: S311

    def reset(self) -> None:
        """Begin again with the first pause."""
        self._next = self.first
