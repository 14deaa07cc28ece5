"""What a picture takes of a prompt, by the published rule of the model's family.

Source: "Images and vision", the sections "Model sizing behavior" and "Calculating costs",
https://developers.openai.com/api/docs/guides/images-vision, as it was in September 2026; Azure
bills the same models alike. What the page does not name is not guessed at silently: `rule_of` says
so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SOURCE: Final = "https://developers.openai.com/api/docs/guides/images-vision"
ASSUMED_SIZE: Final = (1024, 1024)
"""Width and height of a picture that only the service fetches, so that nobody here knows them."""
_TILE = 512
_PATCH = 32
_LOW_EDGE = 512


@dataclass(frozen=True)
class Tiles:
    """A picture is scaled to fit 2,048 by 2,048, its shorter side to 768, and cut into squares.

    Attributes:
        base: Tokens of any picture, and of one of low detail.
        tile: Tokens of each square of 512 by 512.
    """

    base: int
    tile: int

    def tokens(self, width: int, height: int, detail: str | None) -> int:
        """Return the tokens of a picture; `auto` is counted as `high`."""
        if detail == "low":
            return self.base
        fit = min(1.0, 2048 / max(width, height))
        fit = min(fit, 768 / min(width, height))
        tiles = math.ceil(_whole(width * fit) / _TILE) * math.ceil(_whole(height * fit) / _TILE)
        return self.base + self.tile * tiles


@dataclass(frozen=True)
class Patches:
    """A picture is covered with patches of 32 by 32, scaled down where they are too many.

    Attributes:
        factor: Tokens of a patch.
        most: Patches of `high` detail, or None where the page names no limit.
        edge: Pixels of its longer side there.
        most_original: The same for `original`.
        edge_original: The same.
        auto: What `auto` means.
    """

    factor: float = 1.0
    most: int | None = 1_536
    edge: int | None = 2_048
    most_original: int | None = 1_536
    edge_original: int | None = 2_048
    auto: str = "high"

    def tokens(self, width: int, height: int, detail: str | None) -> int:
        """Return the tokens of a picture."""
        level = self.auto if detail in (None, "auto") else detail
        if level == "low":
            return self._of(width, height, None, _LOW_EDGE)
        if level == "original":
            return self._of(width, height, self.most_original, self.edge_original)
        return self._of(width, height, self.most, self.edge)

    def _of(self, width: float, height: float, most: int | None, edge: int | None) -> int:
        if edge and max(width, height) > edge:
            shrink = edge / max(width, height)
            width, height = _whole(width * shrink), _whole(height * shrink)
        if most and _patches(width, height) > most:
            shrink = math.sqrt(_PATCH**2 * most / (width * height))
            across, down = width * shrink / _PATCH, height * shrink / _PATCH
            shrink *= min(_share(across), _share(down))
            width, height = _whole(width * shrink), _whole(height * shrink)
        patches = _patches(width, height)
        return math.ceil(min(patches, most or patches) * self.factor)


Rule = Tiles | Patches

_LARGE = Patches(most=2_500, most_original=10_000, edge_original=6_000)
# The first that matches a model's name; dated snapshots end with their date.
_RULES: tuple[tuple[str, Rule], ...] = (
    (r"gpt-4o-mini", Tiles(2_833, 5_667)),
    (r"gpt-4\.1-mini|gpt-5-mini|gpt-5\.4-mini", Patches(1.62)),
    (r"gpt-4\.1-nano|gpt-5-nano|gpt-5\.4-nano", Patches(2.46)),
    (r"o4-mini", Patches(1.72)),
    (r"gpt-4o|gpt-4\.1|gpt-4\.5", Tiles(85, 170)),
    (r"gpt-5\.2(-codex|-chat-latest)?|gpt-5\.3-codex|gpt-5(\.1)?-codex-mini", Patches()),
    (r"gpt-5(-chat(-latest)?)?", Tiles(70, 140)),
    (r"gpt-5\.4", _LARGE),
    (
        r"gpt-5\.5",
        Patches(most=2_500, most_original=10_000, edge_original=6_000, auto="original"),
    ),
    (
        r"gpt-5\.6(-[a-z]+)*",
        Patches(most=2_500, most_original=None, edge_original=None, auto="original"),
    ),
    (r"o1(-pro)?|o3", Tiles(75, 150)),
    (r"computer-use-preview", Tiles(65, 129)),
)
_DATED = r"(-\d{4}-\d{2}-\d{2})?"
# What is counted where the page has no rule: that of the family whose rule most others resemble.
_UNKNOWN = Tiles(85, 170)


def rule_of(model: str) -> Rule | None:
    """Return how pictures are counted for a logical model, or None where nothing is published."""
    for names, rule in _RULES:
        if re.fullmatch(f"({names}){_DATED}", model):
            return rule
    return None


def image_tokens(
    model: str, sizes: Sequence[tuple[int, int] | None], detail: str | None
) -> list[int]:
    """Return the tokens of each of some pictures.

    Args:
        model: The logical model name.
        sizes: Width and height in pixels, or None where they are unknown.
        detail: The task's `image_detail`.
    """
    rule = rule_of(model) or _UNKNOWN
    return [rule.tokens(*(size or ASSUMED_SIZE), detail) for size in sizes]


def counting_note(model: str, *, addresses: int) -> str:
    """Say what is assumed of the tokens of pictures; empty where nothing is.

    Args:
        model: The logical model name.
        addresses: How many of the pictures only the service fetches, of those that were counted.
    """
    notes = []
    if rule_of(model) is None:
        notes.append(
            f"no rule is published for the tokens of pictures of {model}, so they are counted as "
            "gpt-4o's"
        )
    if addresses:
        width, height = ASSUMED_SIZE
        notes.append(
            f"pictures at addresses are counted as {width} x {height} pixels, as only the service "
            "fetches them"
        )
    return "; ".join(notes)


def _patches(width: float, height: float) -> int:
    return math.ceil(width / _PATCH) * math.ceil(height / _PATCH)


def _share(patches: float) -> float:
    """Return how much of some patches the whole ones are; a strip has one all the same."""
    return max(1, math.floor(patches)) / patches


def _whole(pixels: float) -> int:
    # What is whole but for the rounding of a division stays as it is.
    return max(1, math.floor(pixels + 1e-6))
