"""Where the rows of a SELECT are staged, and whose turn it is to publish.

Rows are staged in a plain DuckDB, whatever the enriched table's host.

A transaction of DuckDB writes to one attached database alone, other hosts know neither `rowid` nor
the order of a table's rows, and a lake keeps what was dropped for its time travel.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable

import duckdb

from dbt_enrich.sql import identifier

WORK_SCHEMA = "enrichment_work"
# In memory, and gone with the process; DuckDB spills it to the warehouse's temp_directory.
_IN_MEMORY = "dbt_enrich_work"
_HASH_DIGITS = 8
# How long a model that failed while it published can keep the others waiting, at most.
_TURN_SECONDS = 300.0


class WorkPlace:
    """The schema of the work tables, in the main database of a profile's target.

    Where that is no DuckDB file, such as a DuckLake, it is in a database in memory.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def open(self, cursor: duckdb.DuckDBPyConnection) -> str:
        """Make the schema where it is not there, and return its name, quoted and qualified.

        Two connections that make it at once would be in each other's way, as in different threads
        of dbt.

        Args:
            cursor: A connection to the warehouse, in no transaction.
        """
        with self._lock:
            found = cursor.execute(
                "select database_name from duckdb_databases() "
                "where database_name = current_database() and type = 'duckdb' and not readonly"
            ).fetchone()
            database = found[0] if found else _IN_MEMORY
            if found is None:
                cursor.execute(f"attach if not exists ':memory:' as {identifier(database)}")
            schema = f"{identifier(database)}.{identifier(WORK_SCHEMA)}"
            cursor.execute(f"create schema if not exists {schema}")
        return schema


class Turns:
    """Lets one model at a time publish into a database that takes one writer.

    SQLite refuses a second one at once, without waiting, where it has read something before.
    DuckLake 1.5.5 ends the whole process where several commit at once.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._holders: dict[str, tuple[str, int]] = {}

    def take(self, database: str, staged: str) -> None:
        """Wait for the turn of a model, known by its staged table, for as long as one can last."""
        with self._changed:
            self._changed.wait_for(lambda: database not in self._holders, timeout=_TURN_SECONDS)
            self._holders[database] = (staged, threading.get_ident())

    def give_back(self, staged: str) -> None:
        """End the turn of a model, if it has one."""
        self._end(lambda holder: holder[0] == staged)

    def abandon(self) -> None:
        """End the turn of this thread's last model, which failed if there still is one."""
        self._end(lambda holder: holder[1] == threading.get_ident())

    def _end(self, is_over: Callable[[tuple[str, int]], bool]) -> None:
        with self._changed:
            self._holders = {at: held for at, held in self._holders.items() if not is_over(held)}
            self._changed.notify_all()


def staged_name(database: str, schema: str, table: str) -> str:
    """Return the name, unquoted, of the table in which the rows of an enriched table are staged.

    The hash keeps `a__b.c` and `a.b__c` apart, and tables of one name in two databases.
    """
    text = "\n".join((database, schema, table))
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]
    return f"{schema}__{table}__{digest}__staged"
