"""Hosts that are reached by ADBC: rows out as batches of Arrow, results in by bulk ingest.

What is common to them is here. A host of its own is a module with a subclass of `AdbcHost`, which
says how its catalog is read and what its types are called: `postgres_host` is Postgres's. Snowflake
and BigQuery have drivers of the same family (`adbc-driver-snowflake`, `adbc-driver-bigquery`) and
would be one module each; neither has been tried.

A DuckDB in memory turns Arrow into Parquet and back, and each value into the type that it has on
the other side, a batch at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from dbt_enrich.errors import EnrichmentError, InputError
from dbt_enrich.files import make_private
from dbt_enrich.sql import identifier, literal, literals
from dbt_enrich.task.result_columns import KEY, STATUS
from dbt_enrich.warehouse.catalogs import Catalog
from dbt_enrich.warehouse.host import (
    FINGERPRINT,
    TASK,
    TEXT_DIGITS,
    CopiedRows,
    Counted,
    HostTable,
    ModelTables,
    UnstagedRows,
    Written,
)

# Rows of a batch of Arrow on the way in, and bytes of a row group on the way out.
_BATCH_ROWS: Final = 8_192
_ROW_GROUP_BYTES: Final = 8_388_608
# Parquet loses the zone of the one, and microseconds of the other.
_INEXACT: Final = ("TIME WITH TIME ZONE", "INTERVAL")
# Of the DuckDB that converts, which holds a batch and a row group.
_MEMORY: Final = "512MB"
_VERSION: Final = "enrichment_version"
_ERROR: Final = "enrichment_error"
_RESULTS: Final = "dbt_enrich_results"
_FAILURES: Final = "dbt_enrich_failures"


@dataclass(frozen=True)
class HostColumn:
    """A column of a host's table.

    Attributes:
        name: Its name.
        kind: The DuckDB type of its values.
        own: What the host calls its type.
        value: SQL of the host that yields it as the driver hands it on without loss.
    """

    name: str
    kind: str
    own: str
    value: str


class AdbcHost(ABC):
    """A connection to one host, which opens when it is needed, and anew after it was lost."""

    catalog: Catalog
    """What a table of it can hold, and as what."""

    def __init__(self) -> None:
        self._opened: Any = None

    @abstractmethod
    def _connect(self) -> Any:
        """Return a new connection of the driver's `dbapi`, which commits each statement."""

    @abstractmethod
    def _described(self, cursor: Any, table: HostTable) -> list[HostColumn]:
        """Return the columns of a table in their order; none where there is no such table."""

    @abstractmethod
    def _type(self, kind: str) -> str:
        """Return what the host calls a type that the catalog holds, as `_described` does."""

    @abstractmethod
    def _sent(self, column: str, kind: str) -> str:
        """Build DuckDB's SQL of what the driver takes of a value.

        Args:
            column: SQL of the value.
            kind: Its type, one that the catalog holds.
        """

    def _received(self, column: str, kind: str) -> str:
        """Build DuckDB's SQL of what the driver has handed on of a value.

        Args:
            column: SQL of what it handed on.
            kind: The value's type.
        """
        return f"cast({column} as {kind})"

    @abstractmethod
    def _failure(self, error: Exception, doing: str) -> EnrichmentError:
        """Return the error of ours for one of the driver's.

        Args:
            error: What the driver raised, or what it said within another error.
            doing: What was done, as in "the results cannot be written to Postgres".
        """

    def _beginning(self, *, reads: bool) -> Sequence[str]:
        """Return the statements that a transaction begins with.

        Args:
            reads: Whether it only reads, and is to see one state of the tables.
        """
        del reads
        return ()

    def _turn(self, table: HostTable) -> Sequence[str]:
        """Return the statements that wait for another transaction that makes or writes a table."""
        del table
        return ()

    def _seen(self, table: str) -> Sequence[str]:
        """Return the statements by which the host knows how many rows a new table has.

        Args:
            table: The table, quoted.
        """
        del table
        return ()

    def _lock(self, table: HostTable) -> Sequence[str]:
        """Return the statements that let other writers of a table wait for this transaction."""
        del table
        return ()

    def _digest(self, value: str, kind: str) -> str | None:
        """Return SQL of what an index has of a value whatever its length, or None for itself.

        Args:
            value: SQL of the value.
            kind: What the host calls its type.
        """
        del value, kind
        return None

    def _index(self, cursor: Any, table: HostTable, keys: Mapping[str, str]) -> None:
        """Make the index by which a table's rows of a few unique keys are found, if there is none.

        Args:
            cursor: The cursor.
            table: The table.
            keys: What the host calls the types of the columns of the unique key.
        """
        del cursor, table, keys

    def quoted(self, name: str) -> str:
        """Quote a name."""
        return identifier(name)

    def relation(self, table: HostTable) -> str:
        """Return a table's name, quoted and qualified."""
        parts = (table.database, table.schema, table.identifier)
        return ".".join(self.quoted(part) for part in parts if part)

    def columns(self, table: HostTable) -> dict[str, str] | None:
        """Return a table's columns in their order with their types, or None if it is not there.

        Raises:
            EnrichmentError: The host cannot be reached or refuses.
        """
        with self._transaction(f"{self.relation(table)} cannot be read") as cursor:
            found = self._described(cursor, table)
        return {column.name: column.kind for column in found} or None

    def copy(
        self,
        table: HostTable,
        directory: Path,
        *,
        columns: Sequence[str] | None = None,
        statuses: Sequence[str] | None = None,
    ) -> tuple[Path, ...]:
        """Copy a table to a Parquet file.

        Args:
            table: The table; it is there.
            directory: Where the file goes.
            columns: Which of its columns; all by default.
            statuses: Which `enrichment_status` the rows have; any by default.

        Returns:
            The file. Nothing orders the rows of a host.

        Raises:
            EnrichmentError: The host cannot be reached or refuses.
            InputError: DuckDB has no such value.
        """
        source = f"{self.relation(table)} as copied{self._where(statuses)}"
        with self._transaction(f"{self.relation(table)} cannot be read", reads=True) as cursor:
            return self._copied(cursor, table, source, directory, columns)

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
        """Copy some rows of an enriched table, or of its errors table; see `RemoteHost`."""
        where = self._where(statuses, below)
        source = f"(select * from {self.relation(table)} as copied{where} limit {most:d}) as chosen"
        with self._transaction(f"{self.relation(table)} cannot be read", reads=True) as cursor:
            return self._copied(cursor, table, source, directory, columns)

    def counted(self, table: HostTable) -> tuple[Counted, ...]:
        """Count all rows of an enriched table that have a status; see `RemoteHost`."""
        status = f"cast({self.quoted(STATUS)} as {self._type('VARCHAR')})"
        kind = f"case when {status} = 'failed' then {self._kind(self.quoted(_ERROR))} end"
        with self._transaction(f"{self.relation(table)} cannot be read", reads=True) as cursor:
            cursor.execute(
                f"select {status}, {self.quoted(_VERSION)}, {kind}, count(*) "
                f"from {self.relation(table)} where {self.quoted(STATUS)} is not null "
                "group by 1, 2, 3"
            )
            found = cursor.fetchall()
        return tuple(Counted(status, version, kind, int(n)) for status, version, kind, n in found)

    def copy_rows(
        self, tables: ModelTables, directory: Path, *, task: str | None = None, version: str = ""
    ) -> CopiedRows:
        """Copy the staged rows, without those that are done, to a Parquet file.

        Args:
            tables: The model's tables; the results may not be there yet.
            directory: Where the file goes.
            task: The task's key; None where all rows are wanted.
            version: The task's version, as `enrichment_version` has it.

        Raises:
            EnrichmentError: The host cannot be reached or refuses.
            InputError: DuckDB has no such value.
        """
        rows = self.relation(tables.rows)
        with self._transaction(f"the rows of {rows} cannot be read", reads=True) as cursor:
            staged = f"{rows} as staged"
            if task is None or not self._described(cursor, tables.results):
                return CopiedRows(self._copied(cursor, tables.rows, staged, directory))
            is_done = self._is_done(tables, task)
            results = f"{self.relation(tables.results)} as results"
            is_kept = f"results.{self.quoted(_VERSION)} is distinct from {literal(version)}"
            cursor.execute(
                f"select count(*), coalesce(sum(case when {is_kept} then 1 else 0 end), 0) "
                f"from {staged} join {results} on {is_done}"
            )
            ((done, kept),) = cursor.fetchall()
            source = f"{staged} where {self._is_due(tables, task)}" if done else staged
            files = self._copied(cursor, tables.rows, source, directory)
            return CopiedRows(files, int(done), int(kept))

    def copy_known(
        self, tables: ModelTables, table: HostTable, directory: Path, *, task: str | None = None
    ) -> tuple[Path, ...]:
        """Copy what results or failures there are for the rows that `copy_rows` copies.

        Args:
            tables: The model's tables.
            table: `tables.results`, or `tables.failures`; it is there.
            directory: Where the file goes.
            task: As in `copy_rows`; the whole table for None.

        Raises:
            EnrichmentError: The host cannot be reached or refuses.
            InputError: DuckDB has no such value.
        """
        if task is None:
            return self.copy(table, directory)
        source = f"({self._known_sql(tables, table, task)}) as known"
        with self._transaction(f"{self.relation(table)} cannot be read", reads=True) as cursor:
            return self._copied(cursor, table, source, directory)

    def count_unstaged(self, tables: ModelTables, *, version: str) -> UnstagedRows:
        """Count the rows of an enriched table that a merge leaves as they are.

        Args:
            tables: The model's tables; the enriched one is there.
            version: The task's version, as `enrichment_version` has it.

        Raises:
            EnrichmentError: The host cannot be reached or refuses.
        """
        table, status = self.relation(tables.enriched), self.quoted(STATUS)
        same = " and ".join(
            f"staged.{self.quoted(key)} = there.{self.quoted(key)}" for key in tables.unique_key
        )
        is_kept = f"{self.quoted(_VERSION)} is distinct from {literal(version)}"
        with self._transaction(f"{table} cannot be read", reads=True) as cursor:
            cursor.execute(
                f"select {status}, count(*), sum(case when {is_kept} then 1 else 0 end) "
                f"from {table} as there where not exists (select 1 from "
                f"{self.relation(tables.rows)} as staged where {same}) group by {status}"
            )
            return UnstagedRows.of(cursor.fetchall())

    def write_results(self, tables: ModelTables, results: Written, failures: Written) -> None:
        """Put results into their table, each in place of the one that its unique key had.

        With the failures of the same keys, in one transaction. A table that has other columns is
        made anew.

        Args:
            tables: The model's tables.
            results: The rows for `tables.results`. Their unique keys are not repeated.
            failures: The rows for `tables.failures`. Their unique keys are among the results'.

        Raises:
            EnrichmentError: The host cannot be reached or refuses; nothing is changed.
        """
        table = self.relation(tables.results)
        with self._transaction(f"the results cannot be written to {table}") as cursor:
            for statement in self._turn(tables.results):
                cursor.execute(statement)
            # As the rows have it, with which it is compared.
            keys = {
                column.name: column.own
                for column in self._described(cursor, tables.rows)
                if column.name in tables.unique_key
            }
            failure_types = self._types(failures, keys)
            types = self._types(results, keys)
            self._make(cursor, tables.failures, failure_types)
            self._make(cursor, tables.results, types)
            if not results.files:
                return
            self._ingest(cursor, _RESULTS, results)
            kinds = {key: types[key] for key in tables.unique_key}
            for replaced in (tables.failures, tables.results):
                self._delete(cursor, replaced, kinds)
            self._insert(cursor, _RESULTS, tables.results, types)
            if failures.files:
                self._ingest(cursor, _FAILURES, failures)
                self._insert(cursor, _FAILURES, tables.failures, failure_types)
            for written in (tables.failures, tables.results):
                self._index(cursor, written, kinds)

    def close(self) -> None:
        """Close the connection."""
        opened, self._opened = self._opened, None
        if opened is not None:
            with suppress(Exception):
                opened.close()

    def _kind(self, error: str) -> str:
        """Build the SQL of a failure's kind, which stands before the first colon of an error."""
        return f"split_part({error}, ':', 1)"

    def _where(self, statuses: Sequence[str] | None, below: str | None = None) -> str:
        """Build the WHERE clause of rows of some statuses, and with a key below a text."""
        conditions = []
        if statuses is not None:
            listed = ", ".join(literal(status) for status in statuses) or "null"
            conditions.append(f"{self.quoted(STATUS)} in ({listed})")
        if below is not None:
            key = f"cast({self.quoted(KEY)} as {self._type('VARCHAR')})"
            conditions.append(f"{key} < {literal(below)}")
        return f" where {' and '.join(conditions)}" if conditions else ""

    def _is_done(self, tables: ModelTables, task: str) -> str:
        """Build the condition under which a result is a staged row's answer to a task."""
        same = [
            f"results.{self.quoted(name)} = staged.{self.quoted(name)}"
            for name in (*tables.unique_key, FINGERPRINT)
        ]
        values = {TASK: task, STATUS: "done"}
        of_task = [
            f"results.{self.quoted(name)} = {literal(value)}" for name, value in values.items()
        ]
        return " and ".join((*same, *of_task))

    def _is_due(self, tables: ModelTables, task: str) -> str:
        """Build the condition under which a staged row has no answer to a task."""
        results = f"{self.relation(tables.results)} as results"
        return f"not exists (select 1 from {results} where {self._is_done(tables, task)})"

    def _known_sql(self, tables: ModelTables, table: HostTable, task: str) -> str:
        """Build the SELECT of a table's rows that have the unique key of a due row, or its text."""
        keys = [self.quoted(key) for key in tables.unique_key]
        fingerprint = self.quoted(FINGERPRINT)
        same_key = " and ".join(f"due.{key} = there.{key}" for key in keys)
        same_text = f"due.digits = substr(there.{fingerprint}, 1, {TEXT_DIGITS})"
        # Two joins: of one with `or` in it a host makes a loop over both tables.
        return f"""
            with due as (
                select {", ".join(keys)}, substr({fingerprint}, 1, {TEXT_DIGITS}) as digits
                from {self.relation(tables.rows)} as staged
                where {self._is_due(tables, task)}
            )
            select there.* from {self.relation(table)} as there
            where exists (select 1 from due where {same_key})
            union all
            select there.* from {self.relation(table)} as there
            where exists (select 1 from due where {same_text})
                and not exists (select 1 from due where {same_key})
        """

    def _copied(
        self,
        cursor: Any,
        table: HostTable,
        source: str,
        directory: Path,
        only: Sequence[str] | None = None,
    ) -> tuple[Path, ...]:
        """Copy rows of a table, or of a table expression with its columns."""
        there = self._described(cursor, table)
        if not there:
            raise EnrichmentError(
                f"there is no table {self.relation(table)} in {self.catalog.label}",
                fix="run `dbt run`, which makes it, then try again",
            )
        columns = [column for column in there if only is None or column.name in only]
        target = directory / "0.parquet"
        # DuckDB would make it with the mode of the umask.
        make_private(target)
        try:
            self._write(cursor, columns, source, target)
        except duckdb.ConversionException as error:
            for column in columns:
                with _named(column, self.relation(table)):
                    self._write(cursor, [column], source, target)
            raise InputError(f"{self.relation(table)} cannot be read ({error})") from error
        return (target,)

    def _write(self, cursor: Any, columns: Sequence[HostColumn], source: str, target: Path) -> None:
        """Write columns of a table expression to a file."""
        values = ", ".join(f"{column.value} as {self.quoted(column.name)}" for column in columns)
        received = ", ".join(self._in_parquet(column) for column in columns)
        cursor.execute(f"select {values} from {source}")
        _write_parquet(cursor.fetch_record_batch(), f"select {received}", target)

    def _in_parquet(self, column: HostColumn) -> str:
        """Build the column of a SELECT from what the driver has handed on, for Parquet."""
        name = identifier(column.name)
        return f"{_exact(self._received(name, column.kind), column.kind)} as {name}"

    def _types(self, rows: Written, keys: Mapping[str, str]) -> dict[str, str]:
        """Return what the host calls the types of the columns of a table for rows."""
        return {name: keys.get(name) or self._type(kind) for name, kind in rows.columns.items()}

    def _make(self, cursor: Any, table: HostTable, types: Mapping[str, str]) -> None:
        """Make a table where it is not there, or has other columns, and lock it."""
        there = [(column.name, column.own) for column in self._described(cursor, table)]
        if there != list(types.items()):
            if there:
                cursor.execute(f"drop table {self.relation(table)}")
            listed = ", ".join(f"{self.quoted(name)} {kind}" for name, kind in types.items())
            cursor.execute(f"create table {self.relation(table)} ({listed})")
        for statement in self._lock(table):
            cursor.execute(statement)

    def _ingest(self, cursor: Any, name: str, rows: Written) -> None:
        """Put rows into a temporary table."""
        values = ", ".join(
            f"{self._sent(identifier(column), kind)} as {identifier(column)}"
            for column, kind in rows.columns.items()
        )
        with _converter() as converter:
            found = converter.sql(f"select {values} from read_parquet({literals(rows.files)})")
            reader = found.to_arrow_reader(_BATCH_ROWS)
            cursor.adbc_ingest(name, reader, mode="create", temporary=True)
        for statement in self._seen(self.quoted(name)):
            cursor.execute(statement)

    def _delete(self, cursor: Any, table: HostTable, keys: Mapping[str, str]) -> None:
        """Delete a table's rows of the unique keys that results have come for."""
        there = {key: self.quoted(key) for key in keys}
        new = {key: f"cast({self.quoted(key)} as {kind})" for key, kind in keys.items()}
        listed = ", ".join((*there.values(), *self._digests(there, keys)))
        values = ", ".join((*new.values(), *self._digests(new, keys)))
        cursor.execute(
            f"delete from {self.relation(table)} where ({listed}) in "
            f"(select {values} from {self.quoted(_RESULTS)})"
        )

    def _digests(self, values: Mapping[str, str], keys: Mapping[str, str]) -> list[str]:
        """Return what an index has of the values of a unique key, where that is not themselves."""
        found = (self._digest(value, keys[key]) for key, value in values.items())
        return [digest for digest in found if digest is not None]

    def _insert(self, cursor: Any, source: str, table: HostTable, types: Mapping[str, str]) -> None:
        """Move the rows of a temporary table, which is gone then, into a table."""
        names = ", ".join(self.quoted(name) for name in types)
        cursor.execute(
            f"insert into {self.relation(table)} ({names}) "
            f"select {self._values(types)} from {self.quoted(source)}"
        )
        cursor.execute(f"drop table {self.quoted(source)}")

    def _values(self, types: Mapping[str, str]) -> str:
        """Build the columns of a SELECT of values that were sent, in their own types."""
        return ", ".join(f"cast({self.quoted(name)} as {kind})" for name, kind in types.items())

    @contextmanager
    def _transaction(self, doing: str, *, reads: bool = False) -> Iterator[Any]:
        """Run a block in a transaction; yield a cursor.

        Raises:
            EnrichmentError: The host refuses, or cannot be reached; the transaction is undone.
        """
        from adbc_driver_manager import Error

        try:
            if self._opened is None:
                self._opened = self._connect()
            self._opened.adbc_connection.set_autocommit(False)
            with self._opened.cursor() as cursor:
                for statement in self._beginning(reads=reads):
                    cursor.execute(statement)
                yield cursor
            self._opened.adbc_connection.set_autocommit(True)
        except (Error, duckdb.Error) as error:
            self.close()
            raise self._failure(error, doing) from None
        except BaseException:
            # Which undoes the transaction, whatever it is in.
            self.close()
            raise


@contextmanager
def _named(column: HostColumn, table: str) -> Iterator[None]:
    """Name the column whose values a block reads, where DuckDB has one of them not."""
    try:
        yield
    except duckdb.ConversionException as error:
        said = str(error).partition("\n")[0]
        raise InputError(
            f"the column '{column.name}' of {table} holds a value that DuckDB's {column.kind} does "
            f"not ({said})",
            fix="cast the column to text in the SELECT, or leave such values out",
        ) from error


@contextmanager
def _converter() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the DuckDB that turns Arrow into Parquet and back."""
    # With one thread rows stay in their order, and no more than one part of them is in memory.
    settings: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "memory_limit": _MEMORY,
        "preserve_insertion_order": False,
    }
    with duckdb.connect(config=settings) as connection:
        connection.execute("set TimeZone = 'UTC'")
        yield connection


def _exact(value: str, kind: str) -> str:
    """Build the SQL of a value as Parquet holds it exactly."""
    if not kind.startswith(_INEXACT):
        return value
    return f"cast({value} as varchar{'[]' if kind.endswith('[]') else ''})"


def _write_parquet(reader: Any, select: str, target: Path) -> None:
    """Write what a SELECT makes of batches of Arrow to a file."""
    with _converter() as converter:
        converter.register("batches", reader)
        converter.execute(
            f"copy ({select} from batches) to {literal(target)} (format parquet, "
            f"compression lz4_raw, row_group_size_bytes {_ROW_GROUP_BYTES}, use_tmp_file false)"
        )
