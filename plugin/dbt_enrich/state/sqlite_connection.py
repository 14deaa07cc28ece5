"""The ledger in a SQLite file: transactions, integrity, and errors with their fix.

SQLite in WAL, because other processes read it while `dbt run` holds the DuckDB file.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from dbt_enrich.errors import LedgerError
from dbt_enrich.state.connection import Arguments, Connection, Row
from dbt_enrich.state.migrations import migrate

_BUSY_SECONDS = 120.0
_RETRY_SECONDS = 0.01


class SQLiteConnection(Connection):
    """A connection to the ledger's SQLite file; one for each thread.

    Args:
        path: The SQLite file, made where it is not there.
        clock: The current time in UTC.

    Raises:
        LedgerError: The file cannot be opened, is damaged, or is from a newer version.
    """

    def __init__(self, path: Path, clock: Callable[[], datetime]) -> None:
        self.place = str(path)
        self.clock = clock
        try:
            path.touch(mode=0o600)
            self._sqlite = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            self._sqlite.row_factory = _as_dict
            _write_ahead(self._sqlite)
            self._sqlite.execute("pragma synchronous = full")
            _refuse_damage(self._sqlite)
            migrate(self)
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            raise _unusable(self.place, "opened", error) from error

    def close(self) -> None:
        """Close the connection."""
        self._sqlite.close()

    @contextmanager
    def critical_section(self) -> Iterator[None]:
        """Hold the file's write lock for the block; commit at its end, undo at an error."""
        with self._named_errors():
            self._sqlite.execute("begin immediate")
            try:
                yield
                self._sqlite.execute("commit")
            except BaseException:
                # On a full disk SQLite has rolled back by itself.
                if self._sqlite.in_transaction:
                    self._sqlite.execute("rollback")
                raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run a block in its own transaction, or in the critical section that is open."""
        if self._sqlite.in_transaction:
            with self._named_errors():
                yield
            return
        with self.critical_section():
            yield

    def read(self, sql: str, arguments: Arguments = ()) -> list[Row]:
        """Return the rows of a query."""
        with self._named_errors():
            return self._sqlite.execute(sql, arguments).fetchall()

    def has_table(self, name: str) -> bool:
        """Whether the file has a table."""
        found = "select 1 from sqlite_master where type = 'table' and name = ?"
        return bool(self._sqlite.execute(found, (name,)).fetchall())

    def define(self, statement: str) -> None:
        """Run a statement of a migration, which is written as SQLite takes it."""
        self._sqlite.execute(statement)

    def _change(self, sql: str, arguments: Arguments) -> int:
        return self._sqlite.execute(sql, arguments).rowcount

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise _unusable(self.place, "read or written", error) from error


def _as_dict(cursor: sqlite3.Cursor, row: tuple[object, ...]) -> Row:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Put a file that may be new into WAL mode, whoever else opens it at this moment.

    SQLite does not wait for the lock that this takes, whatever the time-out (sqlite.org/wal.html,
    "Sometimes Queries Return SQLITE_BUSY In WAL Mode"), so that two models' first run would fail.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("pragma journal_mode = wal")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return


def _refuse_damage(connection: sqlite3.Connection) -> None:
    """Raise where the file is damaged.

    An index that hides an answer from its reader would have it asked, and paid for, once more. The
    check takes 20 milliseconds for ten thousand shards.
    """
    for row in connection.execute("pragma integrity_check(1)").fetchall():
        if row["integrity_check"] != "ok":
            raise sqlite3.DatabaseError(row["integrity_check"])


def _unusable(place: str, what: str, error: Exception) -> LedgerError:
    return LedgerError(
        f"the ledger {place} cannot be {what} ({error})",
        fix="check that the disk has room and that the state directory is on a local disk, then "
        "run again. If the file is damaged, move it away: batches at the service are found "
        "again by listing",
    )
