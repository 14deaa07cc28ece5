"""A database in which dbt stages and publishes; the paid work is done between two dbt commands.

dbt writes the rows of a model's SELECT to a table, each with a fingerprint (`enrichment_row`) of
what its request is made of, and builds the enriched table from those rows and a table of results.
The command reads the rows that have no result, and writes results; it never writes the enriched
table. A fingerprint says only that a row is still the one that was staged: it is computed by the
host's own SQL, is never compared between hosts, and is no part of a row's identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

FINGERPRINT: Final = "enrichment_row"
"""The column of staged rows and results that says which row was staged."""
TASK: Final = "enrichment_task"
"""The column of results that holds the task's key."""


@dataclass(frozen=True)
class HostTable:
    """A table of a host, by the parts of its name, not quoted.

    Attributes:
        database: Its database or catalog, or None where the host's names have no such part.
        schema: Its schema.
        identifier: Its own name.
    """

    database: str | None
    schema: str
    identifier: str


@dataclass(frozen=True)
class ModelTables:
    """The tables of one enrichment model.

    Attributes:
        rows: The rows of the SELECT with their fingerprint. dbt writes it.
        results: A row for each unique key: it, the fingerprint, the task, the outputs and the
            status columns. The command writes it.
        failures: A row for each failed attempt, as the errors table has it, with the task. The
            command writes it.
        enriched: The enriched table. dbt writes it.
        unique_key: The columns that tell rows apart.
    """

    rows: HostTable
    results: HostTable
    failures: HostTable
    enriched: HostTable
    unique_key: tuple[str, ...]


class Host(Protocol):
    """A connection to one host. Types are DuckDB's in every argument and result.

    Each raises `EnrichmentError` where the host cannot be reached or refuses.
    """

    name: str
    """What its makers call it."""

    def stored(self, kind: str) -> str | None:
        """Return the DuckDB type that values of a type are written as, or None if it holds none.

        Args:
            kind: The type of an output, a staged column or a status column.
        """
        ...

    def columns(self, table: HostTable) -> dict[str, str] | None:
        """Return a table's columns in their order with their types, or None if it is not there."""
        ...

    def copy_rows(self, tables: ModelTables, task: str, directory: Path) -> tuple[Path, ...]:
        """Copy the staged rows without a final result of a task to Parquet files.

        A final result is one of the task with the same unique key and fingerprint. Streamed: no
        more than a part of the rows is in memory.

        Args:
            tables: The model's tables; the results may not be there yet.
            task: The task's key.
            directory: An empty directory.

        Returns:
            The files, in the order of the rows where the host has one. The columns are those of the
            staged rows, the fingerprint among them.
        """
        ...

    def copy_results(self, tables: ModelTables, directory: Path) -> tuple[Path, ...]:
        """Copy all results to Parquet files, or none where there are none yet."""
        ...

    def write_results(
        self,
        tables: ModelTables,
        results: Sequence[Path],
        failures: Sequence[Path],
        columns: Mapping[str, str],
    ) -> None:
        """Put results into their table, each in place of the one that its unique key had.

        Failures of those keys are replaced likewise. Both tables are made where they are not there,
        and made anew where their columns have other types. One transaction, where the host has
        such; else failures first, then results, each whole.

        Args:
            tables: The model's tables.
            results: Parquet files of results, as `stored` says.
            failures: Parquet files of failed attempts.
            columns: The types of the results' columns, by name, in their order.
        """
        ...

    def close(self) -> None:
        """Close the connection."""
        ...
