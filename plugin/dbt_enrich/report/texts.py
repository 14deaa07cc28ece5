"""Untrusted texts made harmless to look at: what would steer the reader's screen is spelled out."""

from __future__ import annotations

import re
from datetime import datetime

# Controls, and what turns the direction of text or hides in it (Unicode's Bidi_Control, and the
# invisible ones that tell no two texts apart): https://www.unicode.org/reports/tr9/
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: object) -> str:
    """Return a text with its steering characters spelled out, such as `[U+202E]`."""
    return _STEERING.sub(lambda match: f"[U+{ord(match.group()):04X}]", str(text))


def number(value: float) -> str:
    """Write a number as people do: thousands apart, and no more digits than it has."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.1f}"


def money_text(value: float | None, currency: str) -> str:
    """Write an amount; small ones with the digits that tell them from nothing."""
    if value is None:
        return "unknown"
    digits = 2 if abs(value) >= 1 or value == 0 else 4
    return f"{currency} {value:,.{digits}f}"


def moment(at: datetime) -> str:
    """Write a time of UTC to the minute."""
    return f"{at:%Y-%m-%d %H:%M} UTC"
