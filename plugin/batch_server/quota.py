"""Quotas: the tokens that batches hold, and how often a client may call."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from batch_server.checking import Deployment, LineError
from batch_server.errors import WireError

# The service's own estimate is made from the number of characters.
BYTES_PER_TOKEN = 4


def held_tokens(batches: Iterable[dict[str, Any]], deployment: str) -> int:
    """Return the tokens that open batches hold of a deployment's quota."""
    return sum(
        int(batch.get("tokens") or 0) for batch in batches if batch.get("deployment") == deployment
    )


def token_limit_exceeded(deployment: Deployment) -> LineError:
    """Return the error of a batch that finds no room."""
    limit = deployment.max_enqueued_tokens or 0
    spoken = f"{limit // 1000}K" if limit >= 1000 and limit % 1000 == 0 else str(limit)
    return LineError(
        "token_limit_exceeded",
        "The number of enqueued tokens has surpassed the configured limit of "
        f"{spoken} for the deployment '{deployment.name}'. Please either increase the limit or "
        "try again once the current jobs have finished.",
    )


@dataclass
class RateLimit:
    """How often an operation may be called.

    Attributes:
        operation: `METHOD path-beginning` of the calls that count, such as `POST /batches`.
        calls: Calls that are let through in a span of time.
        seconds: The span.
    """

    operation: str
    calls: int
    seconds: float
    times: deque[float] = field(default_factory=deque)

    def __post_init__(self) -> None:
        if self.calls < 1 or self.seconds <= 0:
            raise ValueError("a rate limit lets through at least one call in a span of time")


class RateLimits:
    """The rate limits that are set.

    Args:
        clock: The time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._limits: list[RateLimit] = []
        self._lock = threading.Lock()

    def declare(self, documents: list[dict[str, Any]]) -> None:
        """Replace the limits.

        Raises:
            ValueError: A limit lets nothing through.
            TypeError: A key is unknown.
        """
        limits = [RateLimit(**document) for document in documents]
        with self._lock:
            self._limits = limits

    def check(self, method: str, path: str) -> None:
        """Count a call, or refuse it with a Retry-After."""
        now = self._clock()
        with self._lock:
            for limit in self._limits:
                wanted, _, beginning = limit.operation.partition(" ")
                if wanted not in ("", method) or not path.startswith(beginning):
                    continue
                while limit.times and limit.times[0] <= now - limit.seconds:
                    limit.times.popleft()
                if len(limit.times) >= limit.calls:
                    wait = max(1, round(limit.times[0] + limit.seconds - now))
                    raise WireError(
                        429,
                        "tooManyRequests",
                        f"Too many requests. Please retry after {wait} seconds.",
                        {"Retry-After": str(wait)},
                    )
                limit.times.append(now)
