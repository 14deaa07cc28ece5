"""The pictures of the worked project show what their names say, and are what the script draws."""

from __future__ import annotations

import csv
import hashlib
import runpy
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "dbt_project" / "pictures"
SCRIPT: dict[str, Any] = runpy.run_path(str(PICTURES / "make_pictures.py"))


def chunks(data: bytes) -> dict[bytes, bytes]:
    """Return the chunks of a PNG file by their kind, each checked against its sum."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    found: dict[bytes, bytes] = {}
    at = 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        (given,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert given == zlib.crc32(kind + body)
        found[kind] = body
        at += 12 + length
    return found


def drawn(data: bytes) -> bytes:
    """Return the pixels of a PNG file of this project, three bytes each."""
    found = chunks(data)
    width, height, *form = struct.unpack(">IIBBBBB", found[b"IHDR"])
    assert (width, height, form) == (96, 96, [8, 2, 0, 0, 0])
    rows = zlib.decompress(found[b"IDAT"])
    step = 1 + 3 * width
    return b"".join(rows[at + 1 : at + step] for at in range(0, len(rows), step))


@pytest.mark.parametrize(("shape", "colour"), SCRIPT["PICTURES"])
def test_a_picture_shows_its_shape_in_its_colour(shape: str, colour: str) -> None:
    """In both, the file of the repository and what the script would write."""
    pixels = drawn((PICTURES / f"{shape}-{colour}.png").read_bytes())
    assert pixels == SCRIPT["pixels"](shape, colour)
    assert pixels == drawn(SCRIPT["png"](pixels))
    points = {pixels[at : at + 3] for at in range(0, len(pixels), 3)}
    assert points == {bytes(SCRIPT["COLOURS"][colour]), b"\xff\xff\xff"}


def test_each_picture_is_another() -> None:
    """But for the one that is there under two names."""
    sums: dict[str, list[str]] = {}
    for path in PICTURES.glob("*.png"):
        sums.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), []).append(path.name)
    assert max(map(sorted, sums.values()), key=len) == ["ball-front.png", "circle-red.png"]
    assert len(sums) == len(SCRIPT["PICTURES"]) + 1


def test_the_products_have_the_pictures_that_are_there() -> None:
    """Also behind the addresses, which are those of this repository; one file is missing."""
    with (ROOT / "seeds" / "products.csv").open(encoding="utf-8", newline="") as file:
        named = {row["picture"].rsplit("/", 1)[-1] for row in csv.DictReader(file)} - {""}
    there = {path.name for path in PICTURES.glob("*.png")}
    assert named - there == {"no-such-file.png"}
    assert there <= named
