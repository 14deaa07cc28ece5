"""Untrusted texts, numbers and the widths of bins."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from dbt_enrich.report.distributions import bin_width
from dbt_enrich.report.texts import amount, number, shown, visible


def test_no_character_that_steers_is_left() -> None:
    """Unicode's own list of what turns text, and every control."""
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        steers = (
            unicodedata.bidirectional(character) in turning
            or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        ) and character not in "\t\n"
        if steers:
            assert visible(character) == f"[U+{code:04X}]"


def test_texts_of_people_are_left_alone() -> None:
    """Accents, right-to-left scripts and emoji are not steering."""
    text = "Crème brûlée, שלום, مرحبا, 東京, 👩\u200d💻\n\tend"
    assert visible(text) == text


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (1234567, "1,234,567"), (0.12345, "0.1235"), (12345.678, "12,345.7")],
)
def test_numbers(value: float, said: str) -> None:
    """No more digits than people read."""
    assert number(value) == said


def test_money() -> None:
    """Small amounts are told from nothing; unknown ones are not nothing."""
    assert amount(None, "USD") == "unknown"
    assert amount(0, "USD") == "USD 0.00"
    assert amount(0.00123, "USD") == "USD 0.0012"
    assert amount(1234.5, "EUR") == "EUR 1,234.50"


@pytest.mark.parametrize(
    ("low", "high", "whole"),
    [(0, 1, False), (1, 10, True), (-1e300, 1e300, False), (0, 1e-12, False), (5, 5, True),
     (1e18, 1e18 + 4096, True), (-1.7e308, 1.7e308, False), (0.1, 0.1, False)],
)  # fmt: skip
def test_bins_are_few_and_cover_all(low: float, high: float, whole: bool) -> None:
    """Whatever the span."""
    width = bin_width(low, high, whole=whole)
    assert width > 0
    assert not whole or width >= 1
    assert (high / width - low / width) <= 45


def test_what_nobody_can_see_has_a_name() -> None:
    """And a line break of Windows is one."""
    assert (shown(None), shown(" \n"), shown("x")) == ("(null)", "(empty)", "x")
    assert visible("one\r\ntwo\rthree") == "one\ntwo[U+000D]three"
