"""Money as it is written."""

from __future__ import annotations

import pytest
from dbt_enrich.cost.money import money_text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0.0, "USD 0.00"),
        (1234.567, "USD 1,234.57"),
        (23.0, "USD 23.00"),
        (0.19, "USD 0.19"),
        (0.01, "USD 0.01"),
        (0.00999, "USD 0.01"),
        (0.0421, "USD 0.042"),
        (0.00042, "USD 0.00042"),
        (0.00000123, "USD 0.0000012"),
        (-0.0042, "USD -0.0042"),
        (None, "?"),
    ],
)
def test_a_small_amount_is_told_from_nothing(amount: float | None, text: str) -> None:
    """Two of its digits are shown."""
    assert money_text(amount, "USD") == text
