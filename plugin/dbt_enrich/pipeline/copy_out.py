"""Copy out: rows of the user's database as Parquet files, for the private DuckDB to work on."""

from __future__ import annotations

from pathlib import Path

import duckdb

from dbt_enrich.errors import EnrichmentError
from dbt_enrich.sql import literal

# Few, as rows may be long, and the user's memory limit small.
_ROW_GROUP = 4_096


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
    try:
        directory.mkdir(mode=0o700)
        connection.execute(
            f"copy ({query}) to {literal(directory)} (format parquet, compression uncompressed, "
            f"row_group_size {_ROW_GROUP}, per_thread_output true)"
        )
    except (duckdb.IOException, OSError) as error:
        raise EnrichmentError(
            f"{rows} cannot be written to {directory} ({error}); make room on the disk or mend the "
            "permissions of the state directory"
        ) from error
    files = tuple(sorted(directory.iterdir()))
    for path in files:
        path.chmod(0o600)
    return files
