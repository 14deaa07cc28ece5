"""Money as messages and tables write it."""

from __future__ import annotations

import math

_UNKNOWN = "?"
# Less than a token costs anywhere: what differs by less does so by rounding.
_MOST_DECIMALS = 12


def money_text(amount: float | None, currency: str, *, beside: float | None = None) -> str:
    """Write an amount in two decimals, or in as many as show two digits of a small one.

    Args:
        amount: The amount, or None if it is unknown.
        currency: What it is in.
        beside: Another amount of the same sentence, from which it must differ.
    """
    if amount is None:
        return _UNKNOWN
    decimals = _decimals(amount)
    if beside is not None:
        decimals = max(decimals, _decimals_apart(amount, beside))
    written = round(amount, decimals) or 0.0
    whole, _, digits = f"{written:,.{decimals}f}".partition(".")
    return f"{currency} {whole}.{digits.rstrip('0'):0<2}"


def _decimals(amount: float) -> int:
    if not round(amount, _MOST_DECIMALS) or not math.isfinite(amount):
        return 2
    return min(max(2, 1 - math.floor(math.log10(abs(amount)))), _MOST_DECIMALS)


def _decimals_apart(amount: float, beside: float) -> int:
    places = range(2, _MOST_DECIMALS + 1)
    return next((n for n in places if round(amount, n) != round(beside, n)), 2)
