"""Copy out: rows of the user's database as Parquet files, for the private DuckDB to work on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from dbt_enrich.errors import EnrichmentError
from dbt_enrich.sql import literal
from dbt_enrich.workspace.row_sizes import rows_within, too_long

# Few, as rows may be long, and the user's memory limit small.
ROW_GROUP = 4_096
# Where rows are longer still: bytes of a row group, and how many of them one statement writes.
_LONG_ROW_GROUP_BYTES = 4_194_304
_LONG_ROW_GROUPS = 32
# Fewer rows than this are collected by DuckDB before it hands them on.
_LEAST_ROWS = 96
# A table's parts: so many at least, and so many rows of each at most. Its first few rows say how
# long a part's rows are.
_PARTS, _PART_ROWS = 4, 122_880
_SAMPLED_ROWS = 64


@dataclass(frozen=True)
class _Part:
    """Rows of a table, from the first to before the last of their numbers."""

    start: int
    stop: int
    mean_bytes: float


@dataclass(frozen=True)
class _Copy:
    """A SELECT whose rows are written by one statement, so many to a row group."""

    query: str
    row_group: int = ROW_GROUP


def copy_out(
    connection: duckdb.DuckDBPyConnection, query: str, directory: Path, *, rows: str
) -> tuple[Path, ...]:
    """Write what a query in the user's database yields, without changing its settings.

    A file for each thread takes half the time of one in which all rows are in their order, and
    less memory.

    Args:
        connection: A connection to the user's database.
        query: The SELECT.
        directory: Where the files go; it is made.
        rows: What the rows are, for a message.

    Returns:
        The files; the rows of each row group follow on each other.

    Raises:
        EnrichmentError: They cannot be written.
    """
    with _named_failures(directory, rows):
        return _write(connection, [_Copy(query)], directory)


def copy_table(
    connection: duckdb.DuckDBPyConnection,
    query: Callable[[str], str],
    table: str,
    text: str,
    directory: Path,
    *,
    rows: str,
    other_bytes: str = "0",
) -> tuple[Path, ...]:
    """Write what a query makes of a table's rows, a few at a time where their texts are long.

    Args:
        connection: A connection to the user's database.
        query: Builds the SELECT of the rows that a WHERE clause on the table leaves.
        table: The table, quoted and qualified.
        text: The SQL expression that makes rows long.
        directory: Where the files go; it is made.
        rows: What the rows are, for a message.
        other_bytes: The SQL expression of what else is read of a row, in bytes.

    Returns:
        The files; the rows of each row group follow on each other.

    Raises:
        EnrichmentError: They cannot be written.
    """
    with _named_failures(directory, rows):
        parts = _parts(connection, table, f"coalesce(strlen({text}), 0) + {other_bytes}")
        if not any(too_long(part.mean_bytes) for part in parts):
            return _write(connection, [_Copy(query(""))], directory)
        copies = (copy for part in parts for copy in _copies(part, query))
        return _write(connection, copies, directory)


def _parts(connection: duckdb.DuckDBPyConnection, table: str, length: str) -> list[_Part]:
    """Cut a table into parts, each with the mean length of the first rows in it."""
    found = connection.execute(f"select max(rowid) from {table}").fetchone()
    if found is None or found[0] is None:
        return []
    end = found[0] + 1
    starts = range(0, end, min(_PART_ROWS, -(-end // _PARTS)))
    samples = " union all ".join(
        f"select {start} as start, avg({length}) as length from {table} "
        f"where rowid >= {start} and rowid < {start + _SAMPLED_ROWS}"
        for start in starts
    )
    lengths = dict(connection.execute(samples).fetchall())
    stops = [*starts[1:], end]
    return [
        _Part(start, stop, lengths[start] or 0.0) for start, stop in zip(starts, stops, strict=True)
    ]


def _copies(part: _Part, query: Callable[[str], str]) -> Iterator[_Copy]:
    """Yield the statements that write a part, with few rows at a time where they are long."""
    if not too_long(part.mean_bytes):
        yield _Copy(query(_where(part.start, part.stop)))
        return
    step = rows_within(_LONG_ROW_GROUP_BYTES, part.mean_bytes, least=_LEAST_ROWS)
    selects = [
        f"({query(_where(start, min(start + step, part.stop)))})"
        for start in range(part.start, part.stop, step)
    ]
    for first in range(0, len(selects), _LONG_ROW_GROUPS):
        yield _Copy(" union all ".join(selects[first : first + _LONG_ROW_GROUPS]), step)


def _where(start: int, stop: int) -> str:
    return f"where rowid >= {start} and rowid < {stop}"


def _write(
    connection: duckdb.DuckDBPyConnection, copies: Iterable[_Copy], directory: Path
) -> tuple[Path, ...]:
    directory.mkdir(mode=0o700)
    for number, copy in enumerate(copies):
        # DuckDB would make it with the mode of the umask.
        part = directory / str(number)
        part.mkdir(mode=0o700)
        connection.execute(
            f"copy ({copy.query}) to {literal(part)} (format parquet, "
            "compression uncompressed, per_thread_output true, "
            f"row_group_size {copy.row_group})"
        )
    files = tuple(sorted(path for path in directory.rglob("*") if path.is_file()))
    for path in files:
        path.chmod(0o600)
    return files


@contextmanager
def _named_failures(directory: Path, rows: str) -> Iterator[None]:
    try:
        yield
    except (duckdb.IOException, OSError) as error:
        raise EnrichmentError(
            f"{rows} cannot be written to {directory} ({error})",
            fix="make room on the disk or correct the permissions of the state directory",
        ) from error
    except duckdb.OutOfMemoryException as error:
        raise EnrichmentError(
            f"{rows} do not fit into the memory of the warehouse ({error})",
            fix="raise the memory_limit of the warehouse, in the settings of the dbt profile",
        ) from error
