"""Numbers in sentences, in plain English."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as `1 row` and `18,210 rows`.

    Args:
        number: How many there are.
        noun: What they are, one of them.
        plural: Several of them; the noun with an s by default.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
