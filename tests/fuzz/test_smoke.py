"""The fuzzing itself runs, for as many inputs as a test may."""

from __future__ import annotations

from fuzz.reading import fuzz


def test_twenty_thousand_inputs_are_read_or_named() -> None:
    """For each endpoint, checked as they are read; the seed makes the result the same each time."""
    assert fuzz(20_000, seed=5, lines_a_round=5_500) >= 20_000
