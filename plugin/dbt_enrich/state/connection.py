"""The seam below the ledger: what its tables read and write through, whatever database holds it.

SQLite and Postgres are given one SQL: lower case, values as `?` or `:name` and never within a text,
`on conflict`, the types text, integer and real, times as texts. What only one of them knows stays
in its own module.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, TypeVar

from dbt_enrich.errors import LedgerError

Arguments = Sequence[object] | Mapping[str, object]
Row = dict[str, Any]
T = TypeVar("T")


class LedgerAwayError(LedgerError):
    """The ledger could not be reached; nothing was written, and the same may be tried again."""


class Connection(ABC):
    """What the tables of the ledger read and write through; one for each thread.

    Attributes:
        place: Where the ledger is, as errors name it, without any secret.
        ledger_id: What it was named as it was made; empty where it is one machine's.
        clock: The current time in UTC.
        step_rule: SQL condition on a row of `batches` under which this connection may change it,
            beside that its owner is the one that the caller knows.
    """

    place: str
    ledger_id: str = ""
    clock: Callable[[], datetime]
    step_rule: str = "true"

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    @abstractmethod
    def critical_section(self) -> AbstractContextManager[None]:
        """Hold the ledger's one lock for the block; commit at its end, undo at an error.

        Raises:
            LedgerAwayError: The ledger was lost in the block; what it wrote is undone.
        """

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Run a block in its own transaction, or in the one that is open."""

    @abstractmethod
    def read(self, sql: str, arguments: Arguments = ()) -> list[Row]:
        """Return the rows of a query."""

    @abstractmethod
    def has_table(self, name: str) -> bool:
        """Whether the ledger has a table."""

    @abstractmethod
    def define(self, statement: str) -> None:
        """Run a statement of a migration, in the transaction that is open."""

    @abstractmethod
    def _change(self, sql: str, arguments: Arguments) -> int:
        """Run a statement in the transaction that is open; return how many rows it changed."""

    def seconds_ahead(self) -> float:
        """Return by how many seconds the ledger's clock is ahead of this machine's, about."""
        return 0.0

    def is_pooled(self) -> bool:
        """Whether a pooler stands between this process and the server."""
        return False

    def pause(self, seconds: float) -> None:
        """Wait before a call is made again."""
        time.sleep(seconds)

    def transacted(self, work: Callable[[], T]) -> T:
        """Return what `work` does in a transaction of its own, or in the one that is open.

        Args:
            work: What reads and writes. It may be called again, as what it wrote is undone then.
        """
        with self.transaction():
            return work()

    def exclusively(self, work: Callable[[], T]) -> T:
        """Return what `work` does in a critical section.

        Args:
            work: What reads and writes. It may be called again, as what it wrote is undone then.
        """
        with self.critical_section():
            return work()

    def write(self, sql: str, arguments: Arguments = ()) -> int:
        """Run a statement in a transaction; return how many rows it changed."""
        return self.transacted(lambda: self._change(sql, arguments))

    def write_many(self, sql: str, arguments: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each of some arguments, in one transaction."""
        some = list(arguments)

        def write() -> None:
            for one in some:
                self._change(sql, one)

        self.transacted(write)

    def put(self, table: str, row: Mapping[str, object], *, key: Sequence[str]) -> None:
        """Write a row, in place of the one that has the same key.

        Args:
            table: The table.
            row: Its columns and values.
            key: The columns of the table's primary key.
        """
        changed = ", ".join(f"{name} = excluded.{name}" for name in row if name not in key)
        self.write(
            f"insert into {table} ({', '.join(row)}) values ({', '.join('?' for _ in row)}) "
            f"on conflict ({', '.join(key)}) do update set {changed}",
            list(row.values()),
        )

    def first(self, sql: str, arguments: Arguments = ()) -> Row | None:
        """Return the first row of a query, or None."""
        return next(iter(self.read(sql, arguments)), None)

    def value(self, sql: str, arguments: Arguments = ()) -> Any:
        """Return the first column of a query's first row, or None."""
        row = self.first(sql, arguments)
        return None if row is None else next(iter(row.values()))

    def now(self) -> str:
        """Return the current time as the ledger writes it."""
        return as_text(self.clock())


class Table:
    """A table of the ledger.

    Args:
        connection: What it is read and written through.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection


def as_text(moment: datetime) -> str:
    """Return a time as the ledger writes it, so that texts compare as the times do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
