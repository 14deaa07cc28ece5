"""What a picture's bytes say of it, and that a broken one is known before it is sent."""

from __future__ import annotations

import io

import pytest
from batch_server.image_formats import Picture, read_picture
from support.pictures import ANIMATED_GIF, GIF, JPEG, WEBP, png

WHOLE = {"png": png(), "jpeg": JPEG, "webp": WEBP, "gif": GIF}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(width=31, height=7), Picture("image/png", 31, 7)),
        (JPEG, Picture("image/jpeg", 6, 4)),
        (WEBP, Picture("image/webp", 6, 4)),
        (GIF, Picture("image/gif", 6, 4)),
    ],
)
def test_type_and_size_are_told_by_the_content(data: bytes, expected: Picture) -> None:
    """No name is looked at."""
    assert read_picture(data) == expected


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_what_pillow_writes_is_read(form: str, mode: str) -> None:
    """Progressive JPEGs and lossless WebPs too; Pillow says the same of it."""
    image = pytest.importorskip("PIL.Image")
    if form == "JPEG" and mode in ("RGBA", "P"):
        mode = "CMYK"
    for size, options in (((37, 5), {}), ((3, 80), {"progressive": True, "lossless": True})):
        written = io.BytesIO()
        image.new(mode, size).save(written, form, **options)
        assert read_picture(written.getvalue()) == Picture(f"image/{form.lower()}", *size)


@pytest.mark.parametrize("name", WHOLE)
def test_every_cut_is_known(name: str) -> None:
    """A file that ends anywhere before its end is no picture."""
    data = WHOLE[name]
    for end in range(len(data)):
        assert isinstance(read_picture(data[:end]), str), end


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (ANIMATED_GIF, "is an animated GIF of 2 pictures, which no service takes"),
        (b"BM" + bytes(60), "is a BMP, and no PNG, JPEG, WebP or GIF"),
        (b"%PDF-1.7 and more", "is a PDF, and no PNG, JPEG, WebP or GIF"),
        (b" <!DOCTYPE html><p>404", "is an HTML page, and no PNG, JPEG, WebP or GIF"),
        (b"\x00\x00\x00\x1cftypavif" + bytes(40), "is an AVIF, and no PNG, JPEG, WebP or GIF"),
        (b"just a text", "is something else, and no PNG, JPEG, WebP or GIF"),
        (png()[:45] + b"\xff" + png()[46:], "is damaged: the checksum of a part of it is wrong"),
        (png(width=0), "has no pixels"),
        (png()[:-16], "is cut off"),
    ],
)
def test_what_is_wrong_has_a_name(data: bytes, problem: str) -> None:
    """It stands behind the picture's own."""
    assert read_picture(data) == problem
