"""The soak itself runs, for as long as a test may."""

from __future__ import annotations

from chaos.soak import soak


def test_a_short_soak_keeps_its_promises() -> None:
    """With a seed of its own, so that the suite's result is the same each time."""
    assert soak(5, seed=4) >= 1
