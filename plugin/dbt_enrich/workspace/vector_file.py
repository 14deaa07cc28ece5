"""Vectors as a Parquet file that the private DuckDB reads: their bytes as they came, in lists.

DuckDB makes no floats of a BLOB: taking 1,536 of them out of base64 by its own functions takes some
ten milliseconds a vector, and reading them as JSON numbers 0.2 to 0.4. A page of Parquet's plain
encoding is those bytes themselves, so that only a frame is written around them here
(https://github.com/apache/parquet-format, `parquet.thrift`; Thrift's compact protocol).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

# Bytes of the vectors of one row group: each thread of DuckDB holds one while it reads.
_GROUP_BYTES: Final = 4_194_304
_MAGIC: Final = b"PAR1"
_FLOAT_BYTES: Final = 4
# Parquet's own numbers: physical types, repetition, encodings, the converted type of a list.
_INT32, _INT64, _FLOAT = 1, 2, 4
_REQUIRED, _REPEATED = 0, 2
_PLAIN, _RLE = 0, 3
_LIST: Final = 3
# Thrift's: types of fields.
_T_I32, _T_I64, _T_TEXT, _T_LIST, _T_STRUCT = 5, 6, 8, 9, 12

EMPTY_VECTOR: Final = b""


class VectorFile:
    """Writes vectors, each with the line of a file that it is from and its place in it.

    Its columns are `line bigint`, `place integer` and `vector float[]`. Vectors of all lengths go
    into one file.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self._groups: list[bytes] = []
        self._rows = 0
        self._begin_group()
        self._file.write(_MAGIC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._end()
        finally:
            self._file.close()

    def add(self, line: int, place: int, vector: bytes) -> None:
        """Write a vector.

        Args:
            line: The line of a file that it is from.
            place: Its place in that line.
            vector: Little-endian floats of 32 bits; `EMPTY_VECTOR` for none.
        """
        self._lines.append(line)
        self._places.append(place)
        self._vectors.append(vector)
        self._bytes += len(vector)
        if self._bytes >= _GROUP_BYTES:
            self._end_group()

    def _begin_group(self) -> None:
        self._lines: list[int] = []
        self._places: list[int] = []
        self._vectors: list[bytes] = []
        self._bytes = 0

    def _end_group(self) -> None:
        rows = len(self._lines)
        if not rows:
            return
        lengths = [len(vector) // _FLOAT_BYTES for vector in self._vectors]
        columns = [
            self._column(_INT64, ("line",), rows, struct.pack(f"<{rows}q", *self._lines)),
            self._column(_INT32, ("place",), rows, struct.pack(f"<{rows}i", *self._places)),
            self._column(
                _FLOAT,
                ("vector", "list", "element"),
                sum(max(1, length) for length in lengths),
                _levels(lengths) + b"".join(self._vectors),
            ),
        ]
        size = sum(size for _, size in columns)
        self._groups.append(
            _struct(
                (1, _T_LIST, _list(_T_STRUCT, [column for column, _ in columns])),
                (2, _T_I64, _int(size)),
                (3, _T_I64, _int(rows)),
            )
        )
        self._rows += rows
        self._begin_group()

    def _column(
        self, kind: int, path: Sequence[str], values: int, page: bytes
    ) -> tuple[bytes, int]:
        """Write the one page of a column of a row group; return what the footer says of it."""
        described = _struct(
            (1, _T_I32, _int(values)),
            (2, _T_I32, _int(_PLAIN)),
            (3, _T_I32, _int(_RLE)),
            (4, _T_I32, _int(_RLE)),
        )
        header = _struct(
            (1, _T_I32, _int(0)),
            (2, _T_I32, _int(len(page))),
            (3, _T_I32, _int(len(page))),
            (5, _T_STRUCT, described),
        )
        offset = self._file.tell()
        self._file.write(header)
        self._file.write(page)
        size = len(header) + len(page)
        chunk = _struct(
            (1, _T_I32, _int(kind)),
            (2, _T_LIST, _list(_T_I32, [_int(_PLAIN), _int(_RLE)])),
            (3, _T_LIST, _list(_T_TEXT, [_text(step) for step in path])),
            (4, _T_I32, _int(0)),
            (5, _T_I64, _int(values)),
            (6, _T_I64, _int(size)),
            (7, _T_I64, _int(size)),
            (9, _T_I64, _int(offset)),
        )
        return _struct((2, _T_I64, _int(offset)), (3, _T_STRUCT, chunk)), size

    def _end(self) -> None:
        self._end_group()
        schema = [
            _struct((4, _T_TEXT, _text("vectors")), (5, _T_I32, _int(3))),
            _leaf("line", _INT64),
            _leaf("place", _INT32),
            _group("vector", _REQUIRED, converted=_LIST),
            _group("list", _REPEATED),
            _leaf("element", _FLOAT),
        ]
        footer = _struct(
            (1, _T_I32, _int(1)),
            (2, _T_LIST, _list(_T_STRUCT, schema)),
            (3, _T_I64, _int(self._rows)),
            (4, _T_LIST, _list(_T_STRUCT, self._groups)),
            (6, _T_TEXT, _text("dbt-enrich")),
        )
        self._file.write(footer + struct.pack("<i", len(footer)) + _MAGIC)


def _levels(lengths: Sequence[int]) -> bytes:
    """Return the levels of lists: where each begins, and which have nothing in them."""
    begins = b"".join(
        _run(1, 0) + (_run(length - 1, 1) if length > 1 else b"") for length in lengths
    )
    defined = b"".join(_run(max(1, length), min(1, length)) for length in lengths)
    return b"".join(struct.pack("<i", len(part)) + part for part in (begins, defined))


def _run(count: int, level: int) -> bytes:
    return _varint(count << 1) + bytes((level,))


def _leaf(name: str, kind: int) -> bytes:
    return _struct((1, _T_I32, _int(kind)), (3, _T_I32, _int(_REQUIRED)), (4, _T_TEXT, _text(name)))


def _group(name: str, repetition: int, *, converted: int | None = None) -> bytes:
    fields = [
        (3, _T_I32, _int(repetition)),
        (4, _T_TEXT, _text(name)),
        (5, _T_I32, _int(1)),
    ]
    if converted is not None:
        fields.append((6, _T_I32, _int(converted)))
    return _struct(*fields)


def _struct(*fields: tuple[int, int, bytes]) -> bytes:
    """Write a struct of Thrift: each field with its number, type and bytes."""
    parts, previous = [], 0
    for number, kind, value in fields:
        parts.append(bytes(((number - previous) << 4 | kind,)) + value)
        previous = number
    return b"".join(parts) + b"\x00"


def _list(kind: int, items: Sequence[bytes]) -> bytes:
    size = len(items)
    head = bytes((size << 4 | kind,)) if size < 15 else bytes((0xF0 | kind,)) + _varint(size)
    return head + b"".join(items)


def _int(value: int) -> bytes:
    """Write an integer of any width: the sign in the lowest bit."""
    return _varint(value << 1 if value >= 0 else (-value << 1) - 1)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _varint(len(encoded)) + encoded


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
