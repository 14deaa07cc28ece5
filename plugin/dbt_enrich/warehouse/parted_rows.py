"""Rows that stay where they lie, in parts that several machines work on side by side."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from dbt_enrich.warehouse.host import CopiedRows, HostTable, ModelTables

if TYPE_CHECKING:
    import pyarrow as pa

    Work = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

PART = "enrichment_part"
"""The column by which rows are parted: those that ask the same lie together."""


class PartedRows(Protocol):
    """The rows of a model, which are the same whenever they are read.

    A piece of work is given the rows of a part, and yields others. It may be done twice, or begun
    and never ended: only what comes back counts. Types are DuckDB's.
    """

    @property
    def columns(self) -> Mapping[str, str]:
        """The types of the columns, by name, in order."""
        ...

    @property
    def parts(self) -> int:
        """How many parts there are."""
        ...

    @property
    def at_once(self) -> int:
        """How many parts are worked on at once, about."""
        ...

    def held(self, kind: str) -> str | None:
        """Return the type that values of a type are held as, or None if they cannot be."""
        ...

    def first(self, rows: int) -> PartedRows:
        """Return so many of the rows, in one part."""
        ...

    def answers(self, keyed: Work, table: PartedRows) -> PartedRows:
        """Return those rows of a table that answer a request of these rows.

        Args:
            keyed: Yields the request keys of these rows, in the column `enrichment_key`.
            table: The other rows, which have such a column.
        """
        ...

    def results(
        self, keyed: Work, work: Work, columns: Mapping[str, str]
    ) -> list[Mapping[str, Any]]:
        """Do a piece of work in each part, and bring home the few rows that it yields.

        Args:
            keyed: Yields the rows with the column `PART`.
            work: The work.
            columns: The types of what it yields, by name, in order.
        """
        ...

    def frame(self, keyed: Work, work: Work, columns: Mapping[str, str]) -> Any:
        """Return what a piece of work yields as a table of the engine that has the rows."""
        ...

    def each(
        self, names: Sequence[str], work: Work, columns: Mapping[str, str]
    ) -> list[Mapping[str, Any]]:
        """Do a piece of work for each of some names, side by side, and bring home what it yields.

        Args:
            names: The names, in the column `name` of the rows that it is given.
            work: The work.
            columns: The types of what it yields, by name, in order.
        """
        ...


@dataclass(frozen=True)
class PartedCounts:
    """What became of rows that stayed where they lie, counted there.

    Attributes:
        statuses: Rows by status.
        errors: Failed rows by kind of failure.
        commands: Rows that failed for good by the command that has them asked again.
        changed: How many rows have another result than before.
    """

    statuses: Mapping[str, int]
    errors: Mapping[str, int]
    commands: Mapping[str, int]
    changed: int


class PartedResults(Protocol):
    """Results that lie beside those that are there, and are counted."""

    counts: PartedCounts

    def put(self) -> None:
        """Put them in the place of those that their unique keys had."""
        ...


@runtime_checkable
class PartedHost(Protocol):
    """A host that has rows worked on where they lie, beside what `Host` says."""

    def count_rows(
        self, tables: ModelTables, *, task: str | None = None, version: str = ""
    ) -> tuple[int, CopiedRows]:
        """Count the staged rows that are not done, and those that are; see `Host.copy_rows`.

        Returns:
            How many are not done, and how many are; no row is copied.
        """
        ...

    def parted_rows(
        self,
        tables: ModelTables,
        columns: Collection[str],
        *,
        task: str | None = None,
        rows: int,
        rows_of_part: int,
    ) -> PartedRows:
        """Return the staged rows that are not done, in parts; see `Host.copy_rows`.

        Args:
            tables: The model's tables.
            columns: Those that are needed, in small letters, beside the fingerprint.
            task: The task's key; None where all rows are wanted.
            rows: How many there are.
            rows_of_part: How many lie in a part, at most about.
        """
        ...

    def known_answers(
        self, tables: ModelTables, *, task: str, version: str
    ) -> tuple[PartedRows | None, PartedRows | None]:
        """Return the results with an answer of a task, and the failed attempts at it, if any.

        Args:
            tables: The model's tables.
            task: The task's key.
            version: Its version, as `enrichment_version` has it.
        """
        ...

    def has_due(self, table: HostTable) -> bool:
        """Whether an enriched table has rows whose answer is still to come."""
        ...

    def parted_results(
        self,
        tables: ModelTables,
        enriched: Any,
        errors: Any,
        *,
        task: str,
        outputs: Sequence[str],
        keeps: bool,
    ) -> AbstractContextManager[PartedResults]:
        """Write results of rows that stayed in the host beside those that are there.

        Args:
            tables: The model's tables.
            enriched: What `PartedRows.frame` returned of the rows, which is read once.
            errors: The same of their failed attempts.
            task: The task's key.
            outputs: The output columns.
            keeps: Whether rows whose answer is still to come keep previous outputs.
        """
        ...
