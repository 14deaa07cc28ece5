"""Vectors for tests: they follow from a text's words, so that texts that share some lie near."""

from __future__ import annotations

import hashlib
import math
import re
import sys
from array import array
from collections.abc import Mapping
from typing import Any

_WORD = re.compile(r"\w+")
_PLACES_OF_WORD = 4
_USUAL = 1536
_DIMENSIONS = {"text-embedding-3-large": 3072, "all-MiniLM-L6-v2": 384}


def dimensions_of(body: Mapping[str, Any]) -> int:
    """Return how many numbers a request's vectors have: as it says, else as its model has them."""
    return int(body.get("dimensions") or _DIMENSIONS.get(str(body.get("model")), _USUAL))


def scripted_vector(text: str, dimensions: int) -> bytes:
    """Return the vector of a text, of length 1, as little-endian 32-bit floats.

    Each word puts 1 or -1 to four places that its hash chooses.
    """
    numbers = array("f", bytes(4 * dimensions))
    for word in _WORD.findall(text.lower()) or [text]:
        digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
        for begin in range(0, 4 * _PLACES_OF_WORD, 4):
            chosen = int.from_bytes(digest[begin : begin + 4], "little")
            numbers[(chosen >> 1) % dimensions] += 1.0 if chosen & 1 else -1.0
    length = math.sqrt(sum(number * number for number in numbers))
    if length == 0:
        numbers[0] = length = 1.0
    unit = array("f", (number / length for number in numbers))
    if sys.byteorder == "big":
        unit.byteswap()
    return unit.tobytes()
