"""The soak itself runs, for as long as a test may."""

from __future__ import annotations

from chaos.soak import soak


def test_a_short_soak_keeps_its_promises() -> None:
    """Each round asserts them itself; the seed fixes what goes wrong, not when."""
    assert soak(5, seed=4) >= 1
