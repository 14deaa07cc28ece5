"""The store of a run's pictures: each once, as base64 in one file, until the lines need them.

DuckDB writes lines with a mark in the place of each picture, and the base64 is copied from here
into them, some hundred kilobytes at a time. So a picture is never held as a value of a query,
which would keep several copies of it, and lines of any length take the same memory.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from dbt_enrich.files import make_private, settle, writing

MARK: Final = b"\x01"
"""What a mark begins and ends with; no JSON text holds it, as it is escaped there."""
_BLOCK = 262_144


@dataclass(frozen=True)
class Stored:
    """Where a picture's base64 lies.

    Attributes:
        place: From the file's beginning, in bytes.
        size: Its bytes.
    """

    place: int
    size: int


def mark_sql(place: str, size: str) -> str:
    """Build the mark that stands in a line for a picture.

    Args:
        place: SQL expression of where it lies.
        size: SQL expression of its bytes.
    """
    return f"chr(1), {place}, ':', {size}, chr(1)"


class PictureStore:
    """The pictures of the rows that a run has staged.

    Args:
        path: The file; it is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = 0
        make_private(path)

    def add(self, data: bytes) -> Stored:
        """Append a picture's bytes, as base64."""
        encoded = base64.b64encode(data)
        with writing(self.path), self.path.open("ab") as file:
            file.write(encoded)
        stored = Stored(self._size, len(encoded))
        self._size += len(encoded)
        return stored

    def text(self, place: int, size: int) -> str:
        """Return the base64 of the picture that lies at a place."""
        with self.path.open("rb") as file:
            file.seek(place)
            return file.read(size).decode("ascii")

    def fill(self, lines: Path, target: Path) -> None:
        """Write lines with the pictures in the place of their marks.

        Args:
            lines: The lines with marks.
            target: Where they go.
        """
        temporary = target.with_name(f".{target.name}.filling")
        make_private(temporary)
        with (
            writing(target),
            lines.open("rb") as marked,
            self.path.open("rb") as pictures,
            temporary.open("wb") as written,
        ):
            # Rows with pictures, of which each takes far longer to send than to copy.
            for line in marked:
                for number, piece in enumerate(line.split(MARK)):
                    if number % 2:
                        place, size = map(int, piece.split(b":"))
                        _copy(pictures, written, place, size)
                    else:
                        written.write(piece)
        settle(temporary, target, durable=False)


def _copy(source: BinaryIO, target: BinaryIO, place: int, size: int) -> None:
    source.seek(place)
    while size > 0:
        block = source.read(min(size, _BLOCK))
        if not block:
            raise OSError("the pictures of this run are cut short")
        target.write(block)
        size -= len(block)
