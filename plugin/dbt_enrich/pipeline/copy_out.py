"""Copy out: rows of the user's database as Parquet files, for the private DuckDB to work on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb

from dbt_enrich.chunks import rows_within, too_long
from dbt_enrich.errors import EnrichmentError
from dbt_enrich.sql import literal

# Few, as rows may be long, and the user's memory limit small.
_ROW_GROUP = 4_096
# Where rows are longer still: bytes of a row group, and how many of them one statement writes.
_LONG_ROW_GROUP_BYTES = 4_194_304
_LONG_ROW_GROUPS = 32
# Fewer rows than this are collected by DuckDB before it hands them on.
_LEAST_ROWS = 96
# At how many places of a table so many rows are looked at, to know how long they are.
_SAMPLES, _SAMPLE_ROWS = 4, 16


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
    return _copy(connection, [query], directory, _ROW_GROUP, rows)


def copy_table(
    connection: duckdb.DuckDBPyConnection,
    query: Callable[[str], str],
    table: str,
    text: str,
    directory: Path,
    *,
    rows: str,
) -> tuple[Path, ...]:
    """Write what a query makes of a table's rows, a few at a time where their texts are long.

    Args:
        connection: A connection to the user's database.
        query: Builds the SELECT of the rows that a WHERE clause on the table leaves.
        table: The table, quoted and qualified.
        text: The SQL expression that makes rows long.
        directory: Where the files go; it is made.
        rows: What the rows are, for a message.

    Returns:
        The files; the rows of each row group follow on each other.

    Raises:
        EnrichmentError: They cannot be written.
    """
    found = connection.execute(f"select count(*) from {table}").fetchone()
    (count,) = found or (0,)
    mean = _mean_length(connection, table, text, count)
    if not too_long(mean):
        return copy_out(connection, query(""), directory, rows=rows)
    step = rows_within(_LONG_ROW_GROUP_BYTES, mean, least=_LEAST_ROWS)
    selects = [f"({query(where)})" for where in _ranges(count, step)]
    queries = [
        " union all ".join(selects[start : start + _LONG_ROW_GROUPS])
        for start in range(0, len(selects), _LONG_ROW_GROUPS)
    ]
    return _copy(connection, queries, directory, step, rows)


def _mean_length(connection: duckdb.DuckDBPyConnection, table: str, text: str, count: int) -> float:
    """Return how many bytes the text has on average, by a sample."""
    places = [count * number // _SAMPLES for number in range(_SAMPLES)]
    samples = " union all ".join(
        f"select strlen({text}) as length from {table} "
        f"where rowid between {place} and {place + _SAMPLE_ROWS - 1}"
        for place in places
    )
    found = connection.execute(f"select avg(length) from ({samples})").fetchone()
    return (found and found[0]) or 0.0


def _ranges(count: int, step: int) -> list[str]:
    """Return the WHERE clauses that cut a table into so many rows each."""
    starts = range(0, count, step)
    clauses = [f"where rowid >= {start} and rowid < {start + step}" for start in starts]
    # Rows that were deleted leave gaps, so that the last may lie behind their count.
    return [*clauses[:-1], f"where rowid >= {starts[-1]}"]


def _copy(
    connection: duckdb.DuckDBPyConnection,
    queries: Sequence[str],
    directory: Path,
    row_group: int,
    rows: str,
) -> tuple[Path, ...]:
    try:
        directory.mkdir(mode=0o700)
        for number, query in enumerate(queries):
            connection.execute(
                f"copy ({query}) to {literal(directory / str(number))} (format parquet, "
                f"compression uncompressed, row_group_size {row_group}, per_thread_output true)"
            )
    except (duckdb.IOException, OSError) as error:
        raise EnrichmentError(
            f"{rows} cannot be written to {directory} ({error}); make room on the disk or mend the "
            "permissions of the state directory"
        ) from error
    files = tuple(sorted(path for path in directory.rglob("*") if path.is_file()))
    for path in files:
        path.chmod(0o600)
    return files
