"""Rows that stay where they lie, in parts that several machines work on side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

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
