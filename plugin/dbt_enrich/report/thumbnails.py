"""Thumbnails: the pictures of sampled rows, small enough to stand beside the answers.

What an address leads to is never fetched. A file is read by the rules of a run: only below
`image_dir`, and by its content.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import duckdb
from batch_server.image_formats import Picture, read_picture

from dbt_enrich.extras import IMAGES
from dbt_enrich.images.scaling import thumbnail
from dbt_enrich.pipeline.stage.picture_reader import bytes_of, data_of, place_of
from dbt_enrich.report.contents import Thumbnail
from dbt_enrich.task.image_columns import ImageColumn

EDGE: Final = 96
"""Pixels of a thumbnail's longer edge."""
_MOST_OF_A_ROW = 4
_MOST_READ = 20_000_000
# What is shown without Pillow is shown as it is, and must be small.
_SMALL = 16_384
_CHARACTERS = 200


class Thumbnails:
    """Makes the thumbnails of a table's rows.

    Args:
        connection: The warehouse.
        table: SQL of the table's rows.
        columns: Its columns with pictures.
        directory: Where relative paths count from, and what no path leaves.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: str,
        columns: Sequence[ImageColumn],
        directory: Path,
    ) -> None:
        self._connection = connection
        self._table = table
        self._columns = columns
        self._root = directory.expanduser().resolve()
        self._scales = not IMAGES.missing()

    def of(self, place: int) -> tuple[Thumbnail, ...]:
        """Return those of the row with a rowid; one row after the other, as pictures are large."""
        if not self._columns:
            return ()
        lists = ", ".join(column.values_sql for column in self._columns)
        row = self._connection.execute(
            f"select {lists} from {self._table} where rowid = {place:d}"
        ).fetchone()
        return tuple(self._shown(row or ()))

    def _shown(self, row: Sequence[list[str | bytes | None] | None]) -> Iterator[Thumbnail]:
        for column, values in zip(self._columns, row, strict=False):
            for value in [value for value in values or () if value][:_MOST_OF_A_ROW]:
                text, data = self._read(value)
                yield Thumbnail(column.staged, text, self._small(data) if data else None)

    def _read(self, value: str | bytes) -> tuple[str, bytes | None]:
        """Return what stands for a value in words, and its bytes where they are here."""
        if isinstance(value, bytes):
            return _words(value), value
        start = value.strip()[:_CHARACTERS]
        if start.lower().startswith("data:"):
            data = data_of(value)
            return ("a data: address" if data is None else _words(data)), data
        if start.lower().startswith(("http://", "https://")):
            return start, None
        path = place_of(value, self._root)
        try:
            return start, None if isinstance(path, str) else bytes_of(path, _MOST_READ)
        except OSError:
            return start, None

    def _small(self, data: bytes) -> str | None:
        picture = read_picture(data)
        if isinstance(picture, str):
            return None
        small = data if len(data) <= _SMALL else None
        if self._scales:
            small = thumbnail(data, picture, EDGE)
        made = read_picture(small) if small else None
        if not (small and isinstance(made, Picture)):
            return None
        return f"data:{made.media_type};base64,{base64.b64encode(small).decode('ascii')}"


def _words(data: bytes) -> str:
    picture = read_picture(data)
    if isinstance(picture, str):
        return f"a value that {picture}"
    return f"{picture.media_type} {picture.width}x{picture.height}"
