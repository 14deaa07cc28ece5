"""What a service's reply says in its headers of when it wants to be asked again. Pure.

`Retry-After` is RFC 9110's; `retry-after-ms` is sent beside it by OpenAI and Azure. The
`x-ratelimit-*` headers are described in OpenAI's guide "Rate limits" ("Rate limits in headers").
"""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Final

# "6m0s", "1s", "20ms", "1d2h"; a number alone counts seconds.
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)")
_SECONDS: Final = {
    "d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0,
    "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9,
}  # fmt: skip
_LONGEST_SECONDS: Final = 86_400.0
_LONGEST_ASKED: Final = 3_600.0


@dataclass(frozen=True)
class Allowance:
    """What may still be sent within a span of time, as a reply says.

    Attributes:
        remaining: How many requests, or tokens, are left.
        seconds: After how many seconds all of them are there again.
        limit: How many there are then, or None where the service does not say.
    """

    remaining: float
    seconds: float
    limit: float | None = None

    def wait(self, wanted: float, since: float) -> float:
        """Return the seconds until so much may be sent.

        What was used comes back bit by bit, as far as the service says how much there is in all.

        Args:
            wanted: How much is to be sent, beside what was sent since the reply.
            since: Seconds since the reply.
        """
        if wanted <= self.remaining or since >= self.seconds:
            return 0.0
        until_all = self.seconds - since
        used = None if self.limit is None else self.limit - self.remaining
        if not used or used <= 0 or wanted > (self.limit or 0.0):
            return until_all
        back = self.seconds * (wanted - self.remaining) / used
        return min(max(back - since, 0.0), until_all)


def allowance(headers: Mapping[str, str], kind: str) -> Allowance | None:
    """Return what the `x-ratelimit-*` headers of a kind say, or None where they say nothing.

    Args:
        headers: The reply's headers, with names that are compared without case.
        kind: `requests` or `tokens`.
    """
    remaining = _number(headers.get(f"x-ratelimit-remaining-{kind}"))
    seconds = _duration(headers.get(f"x-ratelimit-reset-{kind}"))
    limit = _number(headers.get(f"x-ratelimit-limit-{kind}"))
    if remaining is None or remaining < 0:
        return None
    # Limits are of a minute where a reply does not say when they are whole again.
    return Allowance(remaining, 60.0 if seconds is None else seconds, limit)


def asked_wait(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """Return the seconds, at most an hour, that a reply asks to wait by number or date, or None.

    Args:
        headers: The reply's headers, with names that are compared without case.
        now: The time in seconds since 1970; the clock's, if None.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        seconds = _number(headers.get(name))
        if seconds is not None:
            return min(max(seconds / unit, 0.0), _LONGEST_ASKED)
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after") or "")
    except (ValueError, TypeError, OverflowError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    seconds = date.timestamp() - (time.time() if now is None else now)
    return min(max(seconds, 0.0), _LONGEST_ASKED)


def _duration(text: str | None) -> float | None:
    plain = _number(text)
    if plain is not None:
        return min(max(plain, 0.0), _LONGEST_SECONDS)
    parts = _DURATION.findall((text or "").strip())
    if not parts or "".join(f"{n}{unit}" for n, unit in parts) != (text or "").strip():
        return None
    return min(sum(float(n) * _SECONDS[unit] for n, unit in parts), _LONGEST_SECONDS)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
