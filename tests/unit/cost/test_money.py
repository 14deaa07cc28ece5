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
        (0.0003, "USD 0.0003"),
        (0.00995, "USD 0.01"),
        (-0.0042, "USD -0.0042"),
        (-0.0, "USD 0.00"),
        (3 * 0.1 - 0.3, "USD 0.00"),
        (0.3 - 3 * 0.1, "USD 0.00"),
        (None, "?"),
    ],
)
def test_a_small_amount_is_told_from_nothing(amount: float | None, text: str) -> None:
    """Two of its digits are shown; what only rounding left of nothing is nothing."""
    assert money_text(amount, "USD") == text


@pytest.mark.parametrize(
    ("amount", "limit", "text"),
    [
        (1.0004, 1.0, "USD 1.0004"),
        (1.004, 1.0, "USD 1.004"),
        (0.00101, 0.001, "USD 0.00101"),
        (2.5, 1.0, "USD 2.50"),
        (1.0, 1.0, "USD 1.00"),
        (1.0 + 1e-15, 1.0, "USD 1.00"),
    ],
)
def test_an_amount_is_told_from_the_one_that_it_stands_beside(
    amount: float, limit: float, text: str
) -> None:
    """It has as many digits as the difference takes."""
    assert money_text(amount, "USD", beside=limit) == text
