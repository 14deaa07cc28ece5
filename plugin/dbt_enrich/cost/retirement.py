"""Retirement: the day on which a provider ends a model, named in time."""

from __future__ import annotations

from datetime import UTC, date, datetime

from dbt_enrich.cost.prices import PriceTable

_WARNED_DAYS = 90


def retirement_warning(
    table: PriceTable, model: str, seller: str, today: date | None = None
) -> str | None:
    """Say that a model ends within 90 days, or has ended, or return None.

    Args:
        table: The provider's prices, with the days on which its models end.
        model: The logical model name.
        seller: The provider's name in a sentence.
        today: The day, in UTC; today by default.
    """
    ends = table.retires.get(model)
    if ends is None:
        return None
    days = (ends - (today or datetime.now(UTC).date())).days
    if days > _WARNED_DAYS:
        return None
    if days < 0:
        return f"{model} ended at {seller} on {ends}, by the price table of {table.as_of}"
    left = f"in {days} days" if days > 1 else ("tomorrow" if days else "today")
    return f"{model} ends at {seller} on {ends}, {left}, by the price table of {table.as_of}"
