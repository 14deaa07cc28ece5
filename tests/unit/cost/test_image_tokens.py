"""Tokens of pictures, by the rule of each family; the examples are those of the published page."""

from __future__ import annotations

import pytest
from dbt_enrich.cost.image_tokens import counting_note, image_tokens, rule_of


@pytest.mark.parametrize(
    ("model", "size", "detail", "tokens"),
    [
        # https://developers.openai.com/api/docs/guides/images-vision, "Calculating costs".
        ("gpt-4o", (1024, 1024), "high", 765),
        ("gpt-4o", (2048, 4096), "high", 1105),
        ("gpt-4o", (4096, 8192), "low", 85),
        ("gpt-4.1-2025-04-14", (1024, 1024), None, 765),
        ("gpt-4o-mini", (1024, 1024), "low", 2833),
        ("gpt-4o-mini", (512, 512), "high", 2833 + 5667),
        ("o3", (1024, 1024), "high", 75 + 4 * 150),
        ("gpt-5", (1024, 1024), "auto", 70 + 4 * 140),
        # Patches: 1,024 of the first, and 1,452 of the second once it is scaled to 1056 x 1408.
        ("gpt-5.2", (1024, 1024), "high", 1024),
        ("gpt-5.2", (1800, 2400), "high", 1452),
        ("gpt-4.1-mini", (1024, 1024), None, 1659),
        ("gpt-5-nano", (1024, 1024), None, 2520),
        ("o4-mini", (1800, 2400), None, 2498),
        ("gpt-5.4-mini", (1024, 1024), "low", 415),
        # The limit of 1,536 patches and the one of 2,500; what is not scaled at all.
        ("gpt-5.4", (1920, 1080), None, 60 * 34),
        ("gpt-5.6", (3840, 2160), None, 120 * 68),
        ("gpt-5.6-luna", (3840, 2160), "high", 64 * 36),
        ("gpt-5.5", (3840, 2160), None, 120 * 68),
        # Small ones are not made larger.
        ("gpt-4o", (8, 8), "high", 255),
        ("gpt-5-mini", (8, 8), None, 2),
    ],
)
def test_published_examples(
    model: str, size: tuple[int, int], detail: str | None, tokens: int
) -> None:
    """They come out as the page says."""
    assert image_tokens(model, [size], detail) == [tokens]


@pytest.mark.parametrize("model", ["gpt-4.1-mini", "gpt-5.4", "gpt-5.2", "gpt-4o"])
@pytest.mark.parametrize("size", [(1, 100_000), (7_000, 3), (9_000, 9_000), (2_049, 1)])
def test_odd_shapes_stay_within_the_limits(model: str, size: tuple[int, int]) -> None:
    """A strip and a poster have tokens, and no more than the limit allows."""
    (tokens,) = image_tokens(model, [size], None)
    assert 0 < tokens <= 2_500 * 1.62


def test_an_address_and_an_unknown_family_are_said() -> None:
    """What is assumed stands in a sentence; nothing stands there where nothing is assumed."""
    assert image_tokens("gpt-4o", [None], None) == [765]
    assert "1024 x 1024 pixels" in counting_note("gpt-4o", addresses=1)
    assert rule_of("gpt-6-luna") is None
    assert "no rule is published" in counting_note("gpt-6-luna", addresses=0)
    assert counting_note("gpt-4o", addresses=0) == ""
