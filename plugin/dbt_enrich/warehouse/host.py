"""A database in which dbt stages and publishes; the paid work is done between two dbt commands.

dbt writes the rows of a model's SELECT to a table, each with a fingerprint (`enrichment_row`) of
what its request is made of, and builds the enriched table from those rows and a table of results.
The command reads the rows that have no answer, and writes results; it never writes the enriched
table. A fingerprint says only that a row is still the one that was staged: it is computed by the
host's own SQL, is never compared between hosts, and is no part of a row's identity.

The work tables lie beside each other in a schema of their own, which the macro `_work_relation`
names as `ModelTables.of` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from dbt_enrich.task.result_columns import STATUS
from dbt_enrich.warehouse.catalogs import Catalog

FINGERPRINT: Final = "enrichment_row"
"""The column of staged rows, results and failures that says which row was staged."""
TASK: Final = "enrichment_task"
"""The column of results and failures that holds the task's key."""
TELLING: Final = (STATUS, "enrichment_error", "enrichment_model", "enrichment_batch_id",
                  "enrichment_version")  # fmt: skip
"""By these a result is known to be the one that is there: texts are alike in every host."""
DUE: Final = ("pending", "stale")
"""Statuses of rows whose answer is still to come."""
TEXT_DIGITS: Final = 32
"""How many characters of a fingerprint say what the row's text is; what follows says what is asked.

With them two rows of equal text are found, whatever their unique keys are.
"""
WORK_ENDING: Final = "_enrichment"
"""What the name of a schema with work tables has after that of the enriched tables' schema."""


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
        enriched: The enriched table. dbt writes it.
        rows: The rows of the SELECT with their fingerprint. dbt writes it.
        results: At most a row for each unique key: it, the fingerprint, the task, the outputs and
            the status columns. The command writes it.
        failures: A row for each failed attempt: the unique key, the fingerprint, the task, and the
            columns of the errors table. The command writes it.
        unique_key: The columns that tell rows apart.
    """

    enriched: HostTable
    rows: HostTable
    results: HostTable
    failures: HostTable
    unique_key: tuple[str, ...]

    @staticmethod
    def of(enriched: HostTable, unique_key: Sequence[str]) -> ModelTables:
        """Return the tables of the model whose enriched table is given."""
        schema, name = f"{enriched.schema}{WORK_ENDING}", enriched.identifier
        work = replace(enriched, schema=schema)
        return ModelTables(
            enriched=enriched,
            rows=replace(work, identifier=f"{name}__rows"),
            results=replace(work, identifier=f"{name}__results"),
            failures=replace(work, identifier=f"{name}__failures"),
            unique_key=tuple(unique_key),
        )


@dataclass(frozen=True)
class CopiedRows:
    """Staged rows that were copied, and those that were not.

    Attributes:
        files: Parquet files of the rows, in their order where the host has one.
        done: How many rows were left out, as they have their answer.
        kept: How many of these were answered by another version of the task.
    """

    files: tuple[Path, ...]
    done: int = 0
    kept: int = 0


@dataclass(frozen=True)
class UnstagedRows:
    """Rows of an enriched table that are not among those staged last.

    Attributes:
        statuses: How many there are by status.
        kept: How many of those that are done were answered by another version of the task.
    """

    statuses: Mapping[str, int]
    kept: int = 0

    @staticmethod
    def of(rows: Iterable[Sequence[object]]) -> UnstagedRows:
        """Return them as a host counts them.

        Args:
            rows: Status, number of rows, and how many of these are of another version.
        """
        found = [(str(status), int(str(count)), int(str(kept))) for status, count, kept in rows]
        counts = {status: count for status, count, _ in found}
        return UnstagedRows(counts, sum(kept for status, _, kept in found if status == "done"))


@dataclass(frozen=True)
class Written:
    """Rows for a table of a host.

    Attributes:
        files: Parquet files of the rows.
        columns: The types of the columns, by name, in their order: such that the host's catalog
            holds them. A value may be a text in the files where Parquet has no such type.
    """

    files: tuple[Path, ...]
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Counted:
    """How many rows of an enriched table are alike.

    Attributes:
        status: Their status.
        version: The version of the task that answered them, or None.
        kind: The kind of their failure where they failed, else None.
        rows: How many.
    """

    status: str
    version: str | None
    kind: str | None
    rows: int


class Host(Protocol):
    """A connection to one host. Types are DuckDB's in every argument and result.

    Each call raises `EnrichmentError` where the host cannot be reached or refuses. Files are
    Parquet, written to a directory that is there and empty, streamed: no more than a part of the
    rows is in memory. A value whose type Parquet does not hold, or not exactly, is written as
    something that DuckDB's `cast` turns into the type that `columns` gives, such as a text.
    """

    catalog: Catalog
    """What a table of it can hold, and as what (`warehouse/catalogs.py`)."""

    def columns(self, table: HostTable) -> dict[str, str] | None:
        """Return a table's columns in their order with their types, or None if it is not there."""
        ...

    def copy(
        self,
        table: HostTable,
        directory: Path,
        *,
        columns: Sequence[str] | None = None,
        statuses: Sequence[str] | None = None,
    ) -> tuple[Path, ...]:
        """Copy a table to files.

        Args:
            table: The table; it is there.
            directory: Where the files go.
            columns: Which of its columns; all by default.
            statuses: Which `enrichment_status` the rows have; any by default.
        """
        ...

    def copy_rows(
        self, tables: ModelTables, directory: Path, *, task: str | None = None, version: str = ""
    ) -> CopiedRows:
        """Copy the staged rows, without those that are done.

        Done is a row with a result of the same unique key, fingerprint and task whose
        `enrichment_status` is `done`.

        Args:
            tables: The model's tables; the results may not be there yet.
            directory: Where the files go.
            task: The task's key; None where all rows are wanted.
            version: The task's version, as `enrichment_version` has it.
        """
        ...

    def copy_known(
        self, tables: ModelTables, table: HostTable, directory: Path, *, task: str | None = None
    ) -> tuple[Path, ...]:
        """Copy what results or failures there are for the rows that `copy_rows` copies.

        These are the ones with the unique key of such a row, and those with its text
        (`TEXT_DIGITS`). So a round moves what its rows need, and not the whole table.

        Args:
            tables: The model's tables.
            table: `tables.results`, or `tables.failures`; it is there.
            directory: Where the files go.
            task: As in `copy_rows`; the whole table for None.
        """
        ...

    def count_unstaged(self, tables: ModelTables, *, version: str) -> UnstagedRows:
        """Count the rows of an enriched table that a merge leaves as they are.

        Args:
            tables: The model's tables; the enriched one is there.
            version: The task's version, as `enrichment_version` has it.
        """
        ...

    def write_results(self, tables: ModelTables, results: Written, failures: Written) -> None:
        """Put results into their table, each in place of the one that its unique key had.

        The failures of those keys are replaced likewise. Both tables are made where they are not
        there, and made anew, without what they held, where they have other columns or types. One
        transaction where the host has such; else failures first, then results, each whole.

        Args:
            tables: The model's tables.
            results: The rows for `tables.results`. Their unique keys are not repeated.
            failures: The rows for `tables.failures`. Their unique keys are among the results'.
        """
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class RemoteHost(Host, Protocol):
    """A host that is elsewhere, so that a report looks at counts of its rows and copies of some."""

    def counted(self, table: HostTable) -> tuple[Counted, ...]:
        """Count all rows of an enriched table that have a status.

        Args:
            table: The table; it is there.
        """
        ...

    def copy_some(
        self,
        table: HostTable,
        directory: Path,
        *,
        most: int,
        columns: Sequence[str] | None = None,
        statuses: Sequence[str] | None = None,
        below: str | None = None,
    ) -> tuple[Path, ...]:
        """Copy some rows of an enriched table, or of its errors table, to files.

        Args:
            table: The table; it is there.
            directory: Where the files go.
            most: How many rows at most.
            columns: Which of its columns; all by default.
            statuses: Which `enrichment_status` the rows have; any by default.
            below: Of which rows alone: those whose `enrichment_key` is less than this text. As keys
                are digests, these are the same ones each time, and any of the rows.
        """
        ...
