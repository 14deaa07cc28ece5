"""Pieces: a file of long lines, cut between lines for a reader that takes many lines at once."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from dbt_enrich.workspace.row_sizes import rows_within, too_long

# Bytes of a piece, about.
_PIECE_BYTES = 1_048_576
# What stands in a line for the bytes of a picture.
_PICTURE = re.compile(rb";base64,[A-Za-z0-9+/]+=*")
_PACK = b'{"custom_id":"pack-'
# How many places of a file are looked at, and how many bytes of each, to know its lines' length.
_SAMPLES, _SAMPLE_BYTES = 8, 65_536


@contextmanager
def in_pieces(files: Sequence[Path], directory: Path, *, least_lines: int) -> Iterator[list[Path]]:
    """Cut the files whose lines are so long that many at once would fill the memory.

    Args:
        files: Files of lines.
        directory: Scratch directory for the pieces.
        least_lines: Lines of a piece, at least.

    Yields:
        The files as they are, or in their place the pieces, which are there within the block.
    """
    scratch = directory / f"pieces-{secrets.token_hex(4)}"
    scratch.mkdir(mode=0o700)
    try:
        yield [piece for path in files for piece in _cut(path, scratch, least_lines)]
    finally:
        shutil.rmtree(scratch)


@contextmanager
def without_pictures(files: Sequence[Path], directory: Path) -> Iterator[list[Path]]:
    """Take pictures out of lines that are long, for a reader that wants to know whose they are.

    Args:
        files: Files of lines.
        directory: Scratch directory for copies.

    Yields:
        The files as they are, or in their place copies, which are there within the block.
    """
    scratch = directory / f"bare-{secrets.token_hex(4)}"
    scratch.mkdir(mode=0o700)
    try:
        yield [_bare(path, scratch / str(number)) for number, path in enumerate(files)]
    finally:
        shutil.rmtree(scratch)


def _bare(path: Path, copy: Path) -> Path:
    size = path.stat().st_size
    if size <= _PIECE_BYTES or not too_long(_mean_line(path, size)):
        return path
    with path.open("rb") as file, copy.open("xb") as written:
        # The texts of packs are read, which have no pictures.
        written.writelines(
            line if line.startswith(_PACK) else _PICTURE.sub(b";base64,", line) for line in file
        )
    return copy


def longest_line(files: list[Path], *, least: int) -> int:
    """Return the bytes of the longest line of files, its break included, or `least` if more."""
    longest = least
    for path in files:
        with path.open("rb") as file:
            longest = max(longest, max(map(len, file), default=0) + 1)
    return longest


def _cut(path: Path, directory: Path, least_lines: int) -> list[Path]:
    size = path.stat().st_size
    if size <= _PIECE_BYTES:
        return [path]
    mean = _mean_line(path, size)
    if not too_long(mean):
        return [path]
    lines = rows_within(_PIECE_BYTES, mean, least=least_lines)
    pieces: list[Path] = []
    with path.open("rb") as file:
        while first := file.readline():
            piece = directory / f"{path.stem}-{len(pieces)}{path.suffix}"
            with piece.open("xb") as written:
                written.write(first)
                written.writelines(islice(file, lines - 1))
            pieces.append(piece)
    return pieces


def _mean_line(path: Path, size: int) -> float:
    """Return how long the file's lines are on average, by a sample; as long as it, if in doubt."""
    seen = lines = 0
    with path.open("rb") as file:
        for number in range(_SAMPLES):
            file.seek(size * number // _SAMPLES)
            block = file.read(_SAMPLE_BYTES)
            seen += len(block)
            lines += block.count(b"\n")
    return seen / lines if lines else size
