"""Where the rows of a SELECT are staged: in a plain DuckDB, whatever the enriched table's host.

A transaction of DuckDB writes to one attached database alone, other hosts know neither `rowid` nor
the order of a table's rows, and a lake keeps what was dropped for its time travel.
"""

from __future__ import annotations

import hashlib
import threading

import duckdb

from dbt_enrich.sql import identifier

WORK_SCHEMA = "enrichment_work"
# In memory, and gone with the process; DuckDB spills it to the warehouse's temp_directory.
_IN_MEMORY = "dbt_enrich_work"
_HASH_DIGITS = 8


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


def staged_name(database: str, schema: str, table: str) -> str:
    """Return the name, unquoted, of the table in which the rows of an enriched table are staged.

    The hash keeps `a__b.c` and `a.b__c` apart, and tables of one name in two databases.
    """
    text = "\n".join((database, schema, table))
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]
    return f"{schema}__{table}__{digest}__staged"
