"""How many requests one deployment is sent at once, and when the next one may go. Pure.

Nothing here waits or reads a clock: the time is handed in, as seconds that only grow. The number
of requests in flight is found as TCP finds its window (RFC 5681): it grows with each answer, by
one for each at first and later by one for all in flight, and is halved when the service says that
it is too much. Where replies name what is left (`x-ratelimit-*`), no more than that is sent.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from batch_server.responders.reply_headers import Allowance, allowance, asked_wait

MOST_IN_FLIGHT: Final = 128
_FIRST_IN_FLIGHT: Final = 4.0
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 60.0
# What is left of a wait may be less than a clock tells.
_SHORTEST_WAIT: Final = 0.001
_GROWTH: Final = 2.0
_JITTER: Final = 0.2
# Of a new answer's tokens in the mean.
_SHARE_OF_NEW: Final = 0.1
_BYTES_PER_TOKEN: Final = 4


@dataclass
class _Kept:
    """An allowance, when it was heard of, and what was sent since."""

    allowance: Allowance
    at: float
    sent: float = 0.0

    def wait(self, wanted: float, now: float) -> float:
        since = now - self.at
        # A limit of a day, or a header that is wrong, must not stop everything: a refusal tells.
        return min(self.allowance.wait(self.sent + wanted, since), max(_LONGEST_PAUSE - since, 0.0))


class Pace:
    """When the next request to one deployment may be sent.

    Args:
        most: Requests in flight at once, at most.
        chance: Makes pauses differ, so that those who began to wait at once do not come back at
            once.

    Attributes:
        in_flight: Requests that were sent and have not come back.
        failing_since: Since when nothing was answered, or None.
    """

    def __init__(self, *, most: int = MOST_IN_FLIGHT, chance: random.Random | None = None) -> None:
        self.in_flight = 0
        self.failing_since: float | None = None
        self._most = most
        self._chance = chance or random.Random()  # noqa: S311
        self._window = min(_FIRST_IN_FLIGHT, float(most))
        # Above so many in flight the window grows slowly; unknown before the first refusal.
        self._threshold = math.inf
        self._until = 0.0
        self._pause = _FIRST_PAUSE
        self._tokens: float | None = None
        self._number = 0
        self._cut_at = 0
        self._requests_left: _Kept | None = None
        self._tokens_left: _Kept | None = None

    @property
    def window(self) -> int:
        """How many requests may be in flight now."""
        return max(1, int(self._window))

    def wait(self, now: float, size: int) -> float:
        """Return the seconds until a request may be sent; infinity: not before another comes back.

        Args:
            now: The time in seconds.
            size: The request's bytes.
        """
        if self.in_flight >= self.window:
            return math.inf
        waits = [self._until - now]
        if self._requests_left is not None:
            waits.append(self._requests_left.wait(1.0, now))
        if self._tokens_left is not None:
            waits.append(self._tokens_left.wait(self._expected_tokens(size), now))
        longest = max(waits)
        return max(longest, _SHORTEST_WAIT) if longest > 0 else 0.0

    def sent(self, size: int) -> int:
        """Count a request that is sent now; return its number, for what becomes of it.

        Args:
            size: The request's bytes.
        """
        self.in_flight += 1
        self._number += 1
        if self._requests_left is not None:
            self._requests_left.sent += 1.0
        if self._tokens_left is not None:
            self._tokens_left.sent += self._expected_tokens(size)
        return self._number

    def back(self) -> None:
        """Count a request that is in flight no more; its outcome is told beside this."""
        self.in_flight -= 1

    def answered(
        self, now: float, headers: Mapping[str, str], tokens: int | None, *, was_full: bool
    ) -> None:
        """Learn from a reply of a service that works.

        Args:
            now: The time in seconds.
            headers: The reply's headers.
            tokens: What the request took of them, as the reply says, or None.
            was_full: Whether as many were in flight as may be.
        """
        self.failing_since = None
        self._pause = _FIRST_PAUSE
        if tokens is not None:
            share = 1.0 if self._tokens is None else _SHARE_OF_NEW
            self._tokens = (1 - share) * (self._tokens or 0.0) + share * tokens
        self._learn(now, headers)
        if was_full:
            step = 1.0 if self._window < self._threshold else 1.0 / self._window
            self._window = min(self._window + step, float(self._most))

    def busy(self, now: float, headers: Mapping[str, str], number: int) -> None:
        """Learn from a reply that says: too much, or not now.

        Args:
            now: The time in seconds.
            headers: The reply's headers.
            number: The request's.
        """
        self._learn(now, headers)
        self._holds_back(now, asked_wait(headers))
        self._cut(number, self._window / 2)

    def troubled(self, now: float, number: int, headers: Mapping[str, str] | None = None) -> None:
        """Learn that the service, or the way to it, is in trouble: one at a time, for a while.

        Args:
            now: The time in seconds.
            number: The request's.
            headers: The reply's headers, if there was one.
        """
        self._holds_back(now, asked_wait(headers or {}))
        self._cut(number, 1.0)

    def _holds_back(self, now: float, asked: float | None) -> None:
        """Let nothing go for a while; requests that were in flight together make one pause."""
        if self.failing_since is None:
            self.failing_since = now
        pause = asked or 0.0
        if now >= self._until:
            spread = self._chance.uniform(1.0, 1.0 + _JITTER)
            pause = max(pause, self._pause * spread if asked is None else self._pause / 4)
            self._pause = min(self._pause * _GROWTH, _LONGEST_PAUSE)
        self._until = max(self._until, now + pause)

    def _cut(self, number: int, window: float) -> None:
        """Make the window smaller, once for all that were sent before it was."""
        if number <= self._cut_at:
            return
        self._cut_at = self._number
        self._threshold = max(self._window / 2, 1.0)
        self._window = max(window, 1.0)

    def _learn(self, now: float, headers: Mapping[str, str]) -> None:
        self._requests_left = _newest(self._requests_left, allowance(headers, "requests"), now)
        self._tokens_left = _newest(self._tokens_left, allowance(headers, "tokens"), now)
        # What is in flight may not be in the reply's count, and is not to be sent again.
        if self._requests_left is not None and self._requests_left.at == now:
            self._requests_left.sent = max(self.in_flight - 1.0, 0.0)
        if self._tokens_left is not None and self._tokens_left.at == now:
            self._tokens_left.sent = max(self.in_flight - 1.0, 0.0) * (self._tokens or 0.0)

    def _expected_tokens(self, size: int) -> float:
        return self._tokens if self._tokens is not None else size / _BYTES_PER_TOKEN


def _newest(known: _Kept | None, heard: Allowance | None, now: float) -> _Kept | None:
    return known if heard is None else _Kept(heard, now)
