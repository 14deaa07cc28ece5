"""Scaling down: a picture with more pixels than are wanted, made smaller by Pillow."""

from __future__ import annotations

import io
import math
from typing import Final

from batch_server.image_formats import Picture

MOST_PIXELS: Final = 100_000_000
"""What is decoded at most: 300 MB in memory, and more than any camera makes of one picture."""
_QUALITY = 90
_SAVED_AS = {"image/jpeg": "JPEG", "image/webp": "WEBP"}


def scaled_size(width: int, height: int, most: int) -> tuple[int, int]:
    """Return the largest size of the same shape, in pixels, with no more than `most` pixels."""
    if width * height <= most:
        return width, height
    factor = math.sqrt(most / (width * height))
    short = max(1, math.floor(min(width, height) * factor))
    long = max(1, min(math.floor(max(width, height) * factor), most // short))
    return (long, short) if width >= height else (short, long)


def scaled_down(data: bytes, picture: Picture, most: int) -> bytes | str:
    """Return a picture with no more than `most` pixels, or why it cannot be scaled.

    It is turned as its EXIF says, as that is lost. A GIF becomes a PNG.

    Args:
        data: The picture's bytes.
        picture: What they say of it.
        most: Pixels.
    """
    if picture.pixels <= most:
        return data
    if picture.pixels > MOST_PIXELS:
        return f"has {picture.pixels:,} pixels, more than the {MOST_PIXELS:,} that are scaled"
    # Where nothing is scaled, Pillow need not be installed.
    from PIL import Image, ImageOps, UnidentifiedImageError

    width, height = scaled_size(picture.width, picture.height, most)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            # A JPEG is decoded at an eighth, a quarter or a half where that is enough.
            opened.draft(None, (width, height))
            turned = ImageOps.exif_transpose(opened)
            form = _SAVED_AS.get(picture.media_type, "PNG")
            modes = ("RGB", "L") if form == "JPEG" else ("RGB", "RGBA", "L")
            if turned.mode not in modes:
                has_alpha = form != "JPEG" and turned.has_transparency_data
                turned = turned.convert("RGBA" if has_alpha else "RGB")
            size = scaled_size(picture.width, picture.height, most)
            if (turned.width > turned.height) != (size[0] > size[1]):
                size = size[1], size[0]
            small = turned.resize(size, Image.Resampling.LANCZOS)
            written = io.BytesIO()
            small.save(written, form, quality=_QUALITY)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError) as error:
        return f"cannot be read ({error})"
    except Image.DecompressionBombError as error:
        return f"cannot be scaled ({error})"
    return written.getvalue()


def thumbnail(data: bytes, picture: Picture, edge: int) -> bytes | None:
    """Return a JPEG or PNG whose longer edge has no more than `edge` pixels, or None.

    Args:
        data: The picture's bytes.
        picture: What they say of it.
        edge: Pixels.
    """
    longer = max(picture.width, picture.height)
    if longer <= edge:
        return data
    small = scaled_down(data, picture, max(1, picture.pixels * edge * edge // longer**2))
    return None if isinstance(small, str) else small
