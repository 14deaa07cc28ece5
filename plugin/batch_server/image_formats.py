"""What a picture's bytes say of it: type, width and height, and whether all of it is there.

The type is told by the content, never by a name. Nothing is decoded: the structure is walked from
block to block, so that a file that was cut off, or is none of the four types, is found before it
is sent.

Sources: PNG (ISO/IEC 15948), JPEG (ITU-T T.81), GIF89a, and the container of WebP (RFC 9649).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

TYPES: Final = ("image/png", "image/jpeg", "image/webp", "image/gif")
"""What the services take: https://developers.openai.com/api/docs/guides/images-vision."""

_PNG = b"\x89PNG\r\n\x1a\n"
_OTHERS = {
    b"BM": "a BMP",
    b"II*\x00": "a TIFF",
    b"MM\x00*": "a TIFF",
    b"%PDF": "a PDF",
    b"<svg": "an SVG",
    b"<?xml": "XML, perhaps an SVG",
    b"<!DOC": "an HTML page",
    b"<html": "an HTML page",
    b"\x00\x00\x01\x00": "an icon",
}
_FTYP = {b"avif": "an AVIF", b"heic": "a HEIC", b"heix": "a HEIC", b"mif1": "a HEIF"}
_CUT_OFF = "is cut off"


@dataclass(frozen=True)
class Picture:
    """A picture that a service takes.

    Attributes:
        media_type: Such as `image/png`.
        width: In pixels.
        height: In pixels.
    """

    media_type: str
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


class _Broken(Exception):  # noqa: N818 - caught in this module
    """What is wrong with the bytes, to stand after the picture's name."""


def read_picture(data: bytes) -> Picture | str:
    """Return what a picture is, or why it cannot be sent, to stand after its name.

    Args:
        data: All of its bytes.
    """
    try:
        found = _read(data)
    except _Broken as error:
        return str(error)
    except (IndexError, ValueError):
        return _CUT_OFF
    if not (found.width and found.height):
        return "has no pixels"
    return found


def _read(data: bytes) -> Picture:
    if not data:
        raise _Broken("is empty")
    if data.startswith(_PNG):
        return _png(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return _gif(data)
    raise _Broken(f"is {_guess(data)}, and no PNG, JPEG, WebP or GIF")


def _guess(data: bytes) -> str:
    start = data[:64].lstrip()
    if data[4:8] == b"ftyp":
        return _FTYP.get(data[8:12], "a film")
    return next(
        (name for mark, name in _OTHERS.items() if start.startswith(mark)), "something else"
    )


def _png(data: bytes) -> Picture:
    """Walk the chunks up to IEND; their checksums are held to what they say."""
    place, size, seen = len(_PNG), (0, 0), False
    view = memoryview(data)
    while True:
        length, kind = _int(data, place, 4), data[place + 4 : place + 8]
        end = place + 12 + length
        if end > len(data):
            raise _Broken(_CUT_OFF)
        if zlib.crc32(view[place + 4 : end - 4]) != _int(data, end - 4, 4):
            raise _Broken("is damaged: the checksum of a part of it is wrong")
        if kind == b"IHDR":
            size = _int(data, place + 8, 4), _int(data, place + 12, 4)
        seen = seen or kind == b"IDAT"
        if kind == b"IEND":
            if not seen:
                raise _Broken("has no pixels")
            return Picture("image/png", *size)
        place = end


def _jpeg(data: bytes) -> Picture:
    """Walk the segments up to the first scan, which an end of image must follow."""
    place, size = 2, None
    while True:
        if data[place] != 0xFF:
            raise _Broken("is damaged: a segment does not begin where the one before ends")
        kind = data[place + 1]
        if kind == 0xFF:
            place += 1
            continue
        if kind == 0xDA:
            break
        if kind in (0x01, *range(0xD0, 0xD9)):
            place += 2
            continue
        if kind == 0xD9:
            raise _Broken("has no pixels")
        length = _int(data, place + 2, 2)
        # Frames; the others of this range are tables and extensions.
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            size = _int(data, place + 7, 2), _int(data, place + 5, 2)
        place += 2 + length
    if size is None:
        raise _Broken("is damaged: it says nothing of its size")
    # Cameras append things behind the end.
    if data.find(b"\xff\xd9", place) < 0:
        raise _Broken(_CUT_OFF)
    return Picture("image/jpeg", *size)


def _gif(data: bytes) -> Picture:
    """Walk the blocks up to the trailer; one with a second picture is animated."""
    size = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    place, frames = 13 + _colours(data[10]), 0
    while data[place] != 0x3B:
        if data[place] == 0x21:
            place = _after_blocks(data, place + 2)
        elif data[place] == 0x2C:
            frames += 1
            place = _after_blocks(data, place + 10 + _colours(data[place + 9]) + 1)
        else:
            raise _Broken("is damaged: it has a block of no known kind")
    if frames > 1:
        raise _Broken(f"is an animated GIF of {frames} pictures, which no service takes")
    if not frames:
        raise _Broken("has no pixels")
    return Picture("image/gif", *size)


def _colours(flags: int) -> int:
    """Return the bytes of a table of colours."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, place: int) -> int:
    while data[place]:
        place += data[place] + 1
    return place + 1


def _webp(data: bytes) -> Picture:
    """Read the first chunk, which has the size, and that the container is as long as it says."""
    if int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise _Broken(_CUT_OFF)
    kind, body = data[12:16], 20
    if kind == b"VP8X":
        width = int.from_bytes(data[body + 4 : body + 7], "little") + 1
        height = int.from_bytes(data[body + 7 : body + 10], "little") + 1
    elif kind == b"VP8L":
        bits = int.from_bytes(data[body + 1 : body + 5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 " and data[body + 3 : body + 6] == b"\x9d\x01\x2a":
        width = int.from_bytes(data[body + 6 : body + 8], "little") & 0x3FFF
        height = int.from_bytes(data[body + 8 : body + 10], "little") & 0x3FFF
    else:
        raise _Broken("is damaged: it holds no picture")
    return Picture("image/webp", width, height)


def _int(data: bytes, place: int, size: int) -> int:
    """Return a number, big end first; where it would end behind the data, it is cut off."""
    if place + size > len(data):
        raise _Broken(_CUT_OFF)
    return int.from_bytes(data[place : place + size])
