"""DuckDB as a host: dbt-duckdb without the plugin, whose databases are opened between its runs.

One process at a time may write to a DuckDB file, so that it is opened for each call and closed
after it: dbt, and whoever reads, find it free while the service is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from dbt_enrich.errors import ConfigurationError
from dbt_enrich.sql import identifier, literal
from dbt_enrich.warehouse.catalogs import Catalog, same_types
from dbt_enrich.warehouse.copy_out import ROW_GROUP, copy_out
from dbt_enrich.warehouse.databases import Databases, find_catalog, opened
from dbt_enrich.warehouse.host import (
    FINGERPRINT,
    TASK,
    TEXT_DIGITS,
    CopiedRows,
    HostTable,
    ModelTables,
    UnstagedRows,
    Written,
)
from dbt_enrich.warehouse.parquet import from_parquet_sql, to_parquet_sql


class DuckdbHost:
    """The databases of a target of dbt-duckdb.

    Args:
        databases: The databases.
    """

    catalog = Catalog.DUCKDB

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    def columns(self, table: HostTable) -> dict[str, str] | None:
        """Return a table's columns in their order with their types, or None if it is not there."""
        with opened(self._databases, {}) as connection:
            return _columns(connection, table)

    def copy(
        self,
        table: HostTable,
        directory: Path,
        *,
        columns: Sequence[str] | None = None,
        statuses: Sequence[str] | None = None,
    ) -> tuple[Path, ...]:
        """Copy a table to files; see `Host`."""
        where = "" if statuses is None else f" where enrichment_status in {_listed(statuses)}"
        with opened(self._databases, {}) as connection:
            types = _columns(connection, table) or {}
            wanted = types if columns is None else {name: types[name] for name in columns}
            selected = to_parquet_sql(wanted, what=table.identifier)
            query = f"select {selected} from {_name(table)}{where}"
            return copy_out(connection, query, directory / "files", rows=table.identifier)

    def copy_rows(
        self, tables: ModelTables, directory: Path, *, task: str | None = None, version: str = ""
    ) -> CopiedRows:
        """Copy the staged rows, without those that are done; see `Host`."""
        with opened(self._databases, {}) as connection:
            columns = _columns(connection, tables.rows) or {}
            selected = to_parquet_sql(columns, what=tables.enriched.identifier)
            query = f"select {selected} from {_name(tables.rows)} as staged"
            done, kept = 0, 0
            if task is not None and _columns(connection, tables.results) is not None:
                is_done = f"({_done_sql(tables, task)}) as done on {_same_row(tables)}"
                found = connection.execute(
                    "select count(*), count(*) filter (enrichment_version is distinct from "
                    f"{literal(version)}) from {_name(tables.rows)} as staged join {is_done}"
                )
                ((done, kept),) = found.fetchall()
                query += f" anti join {is_done}"
            files = _copied_in_order(connection, query, directory)
            return CopiedRows(files, done, kept)

    def copy_known(
        self, tables: ModelTables, table: HostTable, directory: Path, *, task: str | None = None
    ) -> tuple[Path, ...]:
        """Copy what results or failures there are for the rows that `copy_rows` copies."""
        if task is None:
            return self.copy(table, directory)
        with opened(self._databases, {}) as connection:
            types = _columns(connection, table) or {}
            selected = to_parquet_sql(types, what=table.identifier)
            query = f"select {selected} from ({_known_sql(tables, table, task)}) as known"
            return copy_out(connection, query, directory / "files", rows=table.identifier)

    def count_unstaged(self, tables: ModelTables, *, version: str) -> UnstagedRows:
        """Count the rows of an enriched table that a merge leaves as they are; see `Host`."""
        same = " and ".join(
            f"staged.{identifier(key)} = there.{identifier(key)}" for key in tables.unique_key
        )
        with opened(self._databases, {}) as connection:
            found = connection.execute(
                "select enrichment_status, count(*), count(*) filter (enrichment_version is "
                f"distinct from {literal(version)}) from {_name(tables.enriched)} as there "
                f"anti join {_name(tables.rows)} as staged on {same} group by 1"
            )
            return UnstagedRows.of(found.fetchall())

    def write_results(self, tables: ModelTables, results: Written, failures: Written) -> None:
        """Put results into their table, each in place of the one of its unique key; see `Host`."""
        with opened(self._databases, {}, writes=True) as connection:
            connection.execute("begin transaction")
            keys = from_parquet_sql(
                results.files, {key: results.columns[key] for key in tables.unique_key}
            )
            for table, written in ((tables.failures, failures), (tables.results, results)):
                _make(connection, table, written.columns)
                same = " and ".join(
                    f"there.{identifier(key)} = written.{identifier(key)}"
                    for key in tables.unique_key
                )
                connection.execute(
                    f"delete from {_name(table)} as there using ({keys}) as written where {same}"
                )
                rows = from_parquet_sql(written.files, written.columns)
                connection.execute(f"insert into {_name(table)} by name {rows}")
            connection.execute("commit")

    def close(self) -> None:
        """Do nothing: no connection outlives a call."""


def _make(
    connection: duckdb.DuckDBPyConnection, table: HostTable, columns: Mapping[str, str]
) -> None:
    """Make a table where there is none with these columns."""
    there = _columns(connection, table)
    is_same = (
        there is not None
        and list(there) == list(columns)
        and all(same_types(there[name], kind) for name, kind in columns.items())
    )
    if is_same:
        return
    listed = ", ".join(f"{identifier(name)} {kind}" for name, kind in columns.items())
    schema = ".".join(identifier(part) for part in (table.database, table.schema) if part)
    connection.execute(f"create schema if not exists {schema}")
    connection.execute(f"create or replace table {_name(table)} ({listed})")


def _copied_in_order(
    connection: duckdb.DuckDBPyConnection, query: str, directory: Path
) -> tuple[Path, ...]:
    """Write rows to one file, in the order in which they come."""
    path = directory / "rows.parquet"
    connection.execute(
        f"copy ({query}) to {literal(path)} (format parquet, compression uncompressed, "
        f"row_group_size {ROW_GROUP})"
    )
    path.chmod(0o600)
    return (path,)


def _done_sql(tables: ModelTables, task: str) -> str:
    keys = ", ".join(identifier(key) for key in tables.unique_key)
    return (
        f"select {keys}, {FINGERPRINT}, enrichment_version from {_name(tables.results)} "
        f"where {TASK} = {literal(task)} and enrichment_status = 'done'"
    )


def _known_sql(tables: ModelTables, table: HostTable, task: str) -> str:
    """Build the SELECT of a table's rows that have the unique key of a due row, or its text."""
    keys = ", ".join(identifier(key) for key in tables.unique_key)
    same_key = " and ".join(
        f"due.{identifier(key)} = there.{identifier(key)}" for key in tables.unique_key
    )
    same_text = f"due.digits = left(there.{FINGERPRINT}, {TEXT_DIGITS})"
    return f"""
        with due as materialized (
            select {keys}, left({FINGERPRINT}, {TEXT_DIGITS}) as digits
            from {_name(tables.rows)} as staged
            anti join ({_done_sql(tables, task)}) as done on {_same_row(tables)}
        )
        select there.* from {_name(table)} as there semi join due on {same_key}
        union all
        select there.* from {_name(table)} as there
        semi join due on {same_text}
        anti join due on {same_key}
    """


def _same_row(tables: ModelTables) -> str:
    names = [*map(identifier, tables.unique_key), FINGERPRINT]
    return " and ".join(f"done.{name} = staged.{name}" for name in names)


def _columns(connection: duckdb.DuckDBPyConnection, table: HostTable) -> dict[str, str] | None:
    if table.database is not None:
        _refuse(connection, table.database)
    in_database = (
        "" if table.database is None else f"lower(database_name) = {_lower(table.database)} and "
    )
    found = connection.execute(
        f"select column_name, data_type from duckdb_columns() where {in_database}"
        f"lower(schema_name) = {_lower(table.schema)} and "
        f"lower(table_name) = {_lower(table.identifier)} order by column_index"
    ).fetchall()
    return dict(found) or None


def _refuse(connection: duckdb.DuckDBPyConnection, database: str) -> None:
    catalog = find_catalog(connection, database)
    if catalog not in (Catalog.DUCKDB, Catalog.MOTHERDUCK):
        raise ConfigurationError(
            f"the database '{database}' is {catalog.label}, to which enriched tables are "
            "published by the plugin alone",
            fix="add the plugin dbt_enrich.plugin to the target in profiles.yml",
        )


def _name(table: HostTable) -> str:
    parts = (table.database, table.schema, table.identifier)
    return ".".join(identifier(part) for part in parts if part)


def _lower(name: str) -> str:
    return f"lower({literal(name)})"


def _listed(values: Sequence[str]) -> str:
    return f"({', '.join(literal(value) for value in values)})"
