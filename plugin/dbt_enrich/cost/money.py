"""Money as messages and tables write it."""

from __future__ import annotations

import math

_UNKNOWN = "?"


def money_text(amount: float | None, currency: str) -> str:
    """Write an amount in two decimals, or in as many as show two digits of a small one.

    Args:
        amount: The amount, or None if it is unknown.
        currency: What it is in.
    """
    if amount is None:
        return _UNKNOWN
    whole, _, decimals = f"{amount:,.{_decimals(amount)}f}".partition(".")
    return f"{currency} {whole}.{decimals.rstrip('0'):0<2}"


def _decimals(amount: float) -> int:
    if not amount or not math.isfinite(amount):
        return 2
    return max(2, 1 - math.floor(math.log10(abs(amount))))
