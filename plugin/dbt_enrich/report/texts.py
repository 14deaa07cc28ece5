"""Untrusted texts made harmless to look at: what would steer the reader's screen is spelled out."""

from __future__ import annotations

import re
from datetime import datetime

from dbt_enrich.cost.money import money_text
from dbt_enrich.report.contents import ModelReport

# Controls, and what turns the direction of text or hides in it (Unicode's Bidi_Control, and the
# invisible ones that tell no two texts apart): https://www.unicode.org/reports/tr9/
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: object) -> str:
    """Return a text with its steering characters spelled out, such as `[U+202E]`."""
    lines = str(text).replace("\r\n", "\n")
    return _STEERING.sub(lambda match: f"[U+{ord(match.group()):04X}]", lines)


def shown(value: str | None) -> str:
    """Return a value as a label, also where there is nothing to see."""
    if value is None:
        return "(null)"
    return visible(value) if value.strip() else "(empty)"


def number(value: float) -> str:
    """Write a number as people do: thousands apart, and no more digits than it has."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.1f}"


def amount(value: float | None, currency: str) -> str:
    """Write an amount of money, or that it is unknown."""
    return "unknown" if value is None else money_text(value, currency)


def moment(at: datetime) -> str:
    """Write a time of UTC to the minute."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def copied_sentence(model: ModelReport) -> str:
    """Say of how many rows the answers were counted, where the table has more."""
    return (
        f"Answers and messages are of {number(model.copied or 0)} of {number(model.sampled_of)} "
        "rows, taken by their keys; statuses, versions and kinds of failure are counted of all."
    )
