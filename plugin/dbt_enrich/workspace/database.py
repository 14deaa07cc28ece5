"""The private DuckDB in which all set work is done, apart from the user's database.

In memory, with its own memory limit, threads and temporary directory: the settings that make the
work fast and small (`preserve_insertion_order`, `memory_limit`, `threads`) are global to a
database, so the user's must not be touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from dbt_enrich.errors import EnrichmentError, LedgerError, TooLittleMemoryError
from dbt_enrich.files import append, make_private, settle
from dbt_enrich.sql import literal, literals

# DuckDB's allocator gives what it has freed back to the system when more than this is freed at
# once. For a moment it is less, and a few groups are made that are more.
_THRESHOLD = "allocator_bulk_deallocation_flush_threshold"
_GROUPS = "select count(*) from (select i from range(2048) as numbers(i) group by i)"
# Bytes that are written or read between two such moments, and before the first: it takes a while
# that a small run, which keeps little, need not spend.
_WRITTEN = 8_388_608
_WRITTEN_BEFORE = 67_108_864
# What DuckDB takes of itself: four fifths of what the machine, the container or Slurm has.
_MEMORY = "select parse_formatted_bytes(current_setting('memory_limit'))"
# An eighth of that is a tenth of the whole: the warehouse in the same process and the models of
# dbt's other threads need memory too.
_SHARES = 8
_LEAST_MEMORY = 268_435_456
# Bytes that fit into the memory limit beside everything else.
_ROOM = 16_777_216
# Rows of one row group: small, as each thread holds one in memory while it writes.
ROW_GROUP = 16_384
ROW_GROUP_BYTES = 8_388_608
# The same where rows are so long that JSON functions, which hold what they read of
# 2,048 rows several times, must see fewer at once.
LONG_ROW_GROUP_BYTES = 1_048_576
# Fewer than 64 rows are collected, up to 2,048, before they are handed on, which long rows cannot
# afford. DuckDB 2.0 has no switch for it.
_SWITCH = "enable_caching_operators"
_FIND_SWITCH = f"select name from duckdb_settings() where name = '{_SWITCH}'"
# So many rows are not collected, and some may be filtered out of them.
_COLLECTED_ROWS = 96
# What DuckDB says of a Parquet file that is gone, cut short or overwritten.
_DAMAGE = ("no files found", "parquet", "don't know what type", "thrift")


def limited(connection: duckdb.DuckDBPyConnection, memory_limit: str | None) -> int:
    """Give a database of ours a share of the memory, and return how many bytes it may have.

    Args:
        connection: A connection to it.
        memory_limit: The limit that it was opened with, or None for the share.
    """
    ((memory,),) = connection.execute(_MEMORY).fetchall()
    if memory_limit:
        return int(memory)
    share = max(int(memory) // _SHARES, _LEAST_MEMORY)
    connection.execute(f"set memory_limit = '{share}B'")
    return share


class Workspace:
    """A private in-memory DuckDB, which opens with its first query.

    Args:
        directory: Scratch directory; what does not fit into memory is spilled below it.
        threads: Worker threads.
        memory_limit: As DuckDB spells it, such as `160MB`, or None for a share of the memory that
            the machine or the container has.
    """

    def __init__(self, directory: Path, *, threads: int, memory_limit: str | None = None) -> None:
        self.directory = directory
        self._memory_limit = memory_limit
        self._threads = threads
        self._extra = _ROOM
        self._written = _WRITTEN - _WRITTEN_BEFORE
        self._gave_back = False

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        """Open the database."""
        try:
            given = {"memory_limit": self._memory_limit} if self._memory_limit else {}
            connection = duckdb.connect(
                ":memory:",
                config={
                    **given,
                    "threads": self._threads,
                    "temp_directory": str(self.directory / "spill"),
                    "preserve_insertion_order": False,
                    # What is read once is not worth its memory.
                    "enable_external_file_cache": False,
                    # For all databases of the process: what is free goes back by itself, too.
                    "allocator_background_threads": True,
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                },
            )
            self._memory = limited(connection, self._memory_limit)
            # Our joins are written with the smaller side last; the estimates behind the
            # optimizer's choice know nothing of text files and would build on the large side.
            connection.execute("set disabled_optimizers = 'join_order,build_side_probe_side'")
            if connection.execute(_FIND_SWITCH).fetchone():
                connection.execute(f"set {_SWITCH} = false")
        except duckdb.Error as error:
            raise EnrichmentError(
                f"the private DuckDB cannot start ({error})",
                fix="check memory_limit and threads in the plugin's config",
            ) from error
        return connection

    def close(self) -> None:
        """Free the memory and the spilled files."""
        if "_connection" not in self.__dict__:
            return
        if self._gave_back:
            self._flush()
        self._connection.close()

    @cached_property
    def least_rows(self) -> int:
        """How few rows DuckDB hands on at once where they come in so few."""
        return 1 if self.rows(_FIND_SWITCH) else _COLLECTED_ROWS

    def make_room(self, size: int) -> None:
        """Raise the memory limit where a single value of the user's needs `size` bytes more."""
        if size > self._extra:
            self._extra = size
            connection = self._connection
            connection.execute(f"set memory_limit = '{self._memory + size}B'")

    @property
    def memory(self) -> int:
        """The memory limit as it was set or chosen, in bytes."""
        _ = self._connection
        return int(self._memory)

    def give_back(self, written: int) -> None:
        """Give memory that is free back to the system, now and then.

        The allocator of DuckDB, which all databases of a process share, keeps it for later: 60 MB
        or more, in which nothing is.

        Args:
            written: Bytes that were written or read since the last call.
        """
        self._written += written
        if self._written < _WRITTEN:
            return
        self._written = 0
        self._gave_back = True
        self._flush()

    @cached_property
    def _threshold(self) -> str:
        (threshold,) = self.row(f"select current_setting('{_THRESHOLD}')")
        return str(threshold)

    def _flush(self) -> None:
        usual = literal(self._threshold)
        self._run(f"set {_THRESHOLD} = '16KB'")
        self._run(_GROUPS)
        self._run(f"set {_THRESHOLD} = {usual}")

    def execute(self, sql: str) -> None:
        """Run a statement."""
        self._run(sql)

    def row(self, sql: str) -> tuple[Any, ...]:
        """Return the first row of a query.

        Raises:
            EnrichmentError: The query has no row.
        """
        with _named_failures():
            found = self._connection.execute(sql).fetchone()
        if found is None:
            raise EnrichmentError(f"a query that must have a row has none: {sql}")
        return tuple(found)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return all rows of a query; for aggregates and samples, never for the user's rows."""
        with _named_failures():
            return self._connection.execute(sql).fetchall()

    def count(self, path: Path) -> int:
        """Return how many rows a Parquet file holds."""
        (count,) = self.row(f"select count(*) from read_parquet({literal(path)})")
        return int(count)

    def columns(self, query: str) -> list[str]:
        """Return the names of a query's columns."""
        return [str(row[0]) for row in self.rows(f"describe {query}")]

    def write_parquet(
        self,
        query: str,
        path: Path,
        *,
        compression: str = "lz4_raw",
        row_group: int = ROW_GROUP,
        row_group_bytes: int = ROW_GROUP_BYTES,
        plain: bool = False,
        durable: bool = False,
        variables: Mapping[str, str] | None = None,
        in_order: bool = False,
    ) -> None:
        """Write a query's rows to a Parquet file that is there whole or not at all.

        Args:
            query: The SELECT.
            path: The file.
            compression: As DuckDB spells it.
            row_group: Rows of one row group, about, at most.
            row_group_bytes: Its bytes, about, at most.
            plain: Whether texts are written out where they repeat, so that the file's metadata
                says how large they are in memory.
            durable: Whether the file must outlive a loss of power.
            variables: What the query reads with `getvariable`, by name. The values of bound
                parameters would have DuckDB's client import pandas, where it is installed: a
                second and 80 MB.
            in_order: Whether rows are written in the order in which the query reads them, without
                being sorted: by one thread, as several hold what is not yet its turn in memory.
        """
        options = (
            f"format parquet, compression {compression}, row_group_size {row_group}, "
            f"row_group_size_bytes {row_group_bytes}"
        )
        if plain:
            options += ", dictionary_size_limit 0"
        if not in_order:
            self._write(query, path, options, durable=durable, variables=variables)
            return
        self._run("set threads = 1")
        try:
            self._write(query, path, options, durable=durable, variables=variables)
        finally:
            self._run(f"set threads = {self._threads}")

    def write_lines(self, queries: Sequence[str], path: Path) -> None:
        """Write the one text column of queries, one after the other, as lines to a file.

        The CSV writer without quote, escape and header is the fast way to write raw text: the
        delimiter never matters, as there is one column.
        """
        # Forced, with a quote that is empty: the writer then does not search each text for what
        # would need quotes, which takes longer than all else.
        options = "format csv, header false, quote '', escape '', delimiter e'\\x01', force_quote *"
        if len(queries) == 1:
            self._write(queries[0], path, options, durable=False)
            return
        whole = path.with_name(f".{path.name}.writing")
        part = self.directory / f"{path.stem}-part{path.suffix}"
        make_private(whole)
        for query in queries:
            self._write(query, part, options, durable=False)
            append(part, whole)
            part.unlink()
        settle(whole, path, durable=False)

    def _write(
        self,
        query: str,
        path: Path,
        options: str,
        *,
        durable: bool,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        for name, value in (variables or {}).items():
            self._run(f"set variable {name} = {literal(value)}")
        temporary = path.with_name(f".{path.name}.writing")
        make_private(temporary)
        try:
            # Without a second temporary file, which would have the mode of the umask.
            target = f"{literal(temporary)} ({options}, use_tmp_file false)"
            self._run(f"copy ({query}) to {target}")
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        written = temporary.stat().st_size
        settle(temporary, path, durable=durable)
        self.give_back(written)

    def _run(self, sql: str) -> duckdb.DuckDBPyConnection:
        with _named_failures():
            return self._connection.execute(sql)


@contextmanager
def _named_failures() -> Iterator[None]:
    """Give a name to what may go wrong with the machine's disk, files and memory."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise TooLittleMemoryError(
            f"the private DuckDB ran out of memory or disk ({_said(error)})",
            fix="raise memory_limit in the plugin's config or make room for its temporary files",
        ) from error
    except duckdb.Error as error:
        if any(words in str(error).lower() for words in _DAMAGE):
            raise LedgerError(
                f"a file of the state directory is missing or damaged ({_said(error)})",
                fix="run `dbt-enrich doctor`, which says which one, and what to do",
            ) from error
        if not isinstance(error, duckdb.IOException):
            raise
        raise LedgerError(
            f"a file of the state directory cannot be read or written ({_said(error)})",
            fix="make room on the disk or correct its permissions, then run again: nothing is lost",
        ) from error


def _said(error: duckdb.Error) -> str:
    """Return what DuckDB said, without the statement and its own advice."""
    return str(error).partition("\n")[0]


def read_parquet(paths: list[Path], *, empty: str) -> str:
    """Build a table expression over the given Parquet files.

    Args:
        paths: The files, possibly none.
        empty: A SELECT with the same columns and no row, for when there is no file.
    """
    if not paths:
        return f"({empty})"
    return f"read_parquet({literals(paths)}, union_by_name = {str(len(paths) > 1).lower()})"
