"""When a shard is looked at next, a little later each time."""

from __future__ import annotations

from dataclasses import dataclass, field

from dbt_enrich.backoff import Backoff
from dbt_enrich.errors import TransientError, UnreadableReplyError

FIRST_DELAY = 0.2
_OUTAGE_SECONDS = 60.0
# A proxy in trouble answers with a page of its own for a moment; a wrong address always does.
_MOST_UNREADABLE = 5


@dataclass
class Due:
    """When a shard is looked at next, how long the wait after that is, and what stood in the way.

    Attributes:
        at: When it is looked at next, on the monotonic clock.
        backoff: The waits after that.
        refusals: How often the quota on tokens refused its batch.
        told: Whether the user was told that it waits for room.
        failing_since: Since when the service cannot be reached, or None.
        error: What the service, or the network, said last.
        unreadable: How many replies in a row were not of a Batch API.
        transfers_seen: How many transfers had ended when the shard began to wait for one; None
            where it waits for a time.
    """

    at: float = 0.0
    backoff: Backoff = field(
        default_factory=lambda: Backoff(FIRST_DELAY, _OUTAGE_SECONDS, growth=1.5)
    )
    refusals: int = 0
    told: bool = False
    failing_since: float | None = None
    error: TransientError | None = None
    unreadable: int = 0
    transfers_seen: int | None = None

    def later(self, now: float, *, asked: float = 0.0, longest: float | None = None) -> None:
        """Put the next look off, a little further each time.

        Args:
            now: The time on the monotonic clock.
            asked: Seconds that it is put off at least.
            longest: Seconds that it is put off at most by itself; by default as in an outage.
        """
        self.at = now + self.backoff.pause(asked=asked, longest=longest)

    def fails(self, now: float, error: TransientError) -> None:
        """Record that the service could not be reached.

        Raises:
            UnreadableReplyError: Something else answers in its place, again and again.
        """
        self.unreadable = self.unreadable + 1 if isinstance(error, UnreadableReplyError) else 0
        if self.unreadable >= _MOST_UNREADABLE:
            raise error
        self.error = error
        self.failing_since = self.failing_since or now

    def works(self) -> None:
        """Record that the service answered."""
        self.error = self.failing_since = None
        self.unreadable = 0
