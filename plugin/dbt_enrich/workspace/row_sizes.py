"""Chunks: the rows that DuckDB hands on at once, and how few they must be where they are long."""

from __future__ import annotations

import math

# DuckDB's readers and scans hand on so many rows at once.
CHUNK_ROWS = 2_048
# So many bytes at once may be handed to JSON functions, which hold them several times, and to
# writers and sorts, which hold many chunks.
CHUNK_BYTES = 3_145_728


def too_long(mean: float) -> bool:
    """Whether rows of this many bytes each must be handed on in smaller chunks."""
    return mean * CHUNK_ROWS > CHUNK_BYTES


def rows_within(size: int, mean: float, *, least: int = 1) -> int:
    """Return how many rows of `mean` bytes fit into `size` bytes, about, but `least` at least."""
    return max(least, math.ceil(size / mean))
