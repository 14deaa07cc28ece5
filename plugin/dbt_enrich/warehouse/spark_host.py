"""Spark as a host: rows out and results in through a session, over Spark Connect or with a JVM.

Spark has no transaction over tables. Results and failures are put together beside the tables that
are there, and take their places whole: failures first, then results. Delta and Iceberg replace a
table in one step; a table of another format is renamed away, and for that moment it is not there.
A run that ends between two steps leaves failures without their results, or no table of results:
the next run makes them anew out of the answers that are kept, and asks nothing again.

What such a run had put together beside the tables has a name that says when. A later run drops what
is older than any writing lasts: what another run writes at the same time is left alone.

Results are merged into a Delta table that is there, which leaves files without such a key alone. A
table of another format is written whole, with what stays of it.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from dbt_enrich.clock import MACHINE_CLOCK, Clock
from dbt_enrich.errors import EnrichmentError
from dbt_enrich.task.result_columns import KEY, STATUS, STATUS_TYPES
from dbt_enrich.warehouse.catalogs import Catalog
from dbt_enrich.warehouse.host import (
    DUE,
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
from dbt_enrich.warehouse.parted_rows import PartedCounts
from dbt_enrich.warehouse.spark_arrow import frames_of, write_parquet
from dbt_enrich.warehouse.spark_names import qualified, quoted, text_literal
from dbt_enrich.warehouse.spark_partitions import SparkRows, parts_of
from dbt_enrich.warehouse.spark_results import (
    CHANGED,
    counts_sql,
    finals_sql,
    same_columns,
    settled_sql,
)
from dbt_enrich.warehouse.spark_session import end
from dbt_enrich.warehouse.spark_types import duckdb_type, held_type, spark_schema

# Formats whose tables are replaced in one step.
_REPLACED: Final = ("delta", "iceberg")
_OURS: Final = (FINGERPRINT, TASK)
# What stands beside a table for the time that it is written: its name has the second in which that
# began, in hexadecimal, and a random part.
_BESIDE: Final = re.compile(r"__(?:new|previous)_([0-9a-f]{8})_[0-9a-f]{8}(?:_made|_changed)?")
_OVER_SECONDS: Final = 43_200
"""After so long nobody writes it any more: no wait for the service falls into a writing."""


def beside(table: HostTable, kind: str, clock: Clock) -> HostTable:
    """Return a new name beside a table, for the time that it is written.

    Args:
        table: The table.
        kind: `new` or `previous`.
        clock: What the time is read of.
    """
    began = f"{int(clock.now().timestamp()):08x}_{secrets.token_hex(4)}"
    return replace(table, identifier=f"{table.identifier}__{kind}_{began}")


def is_left(name: str, table: HostTable, clock: Clock) -> bool:
    """Whether a table of the schema is what a run that has ended left beside a table.

    Args:
        name: Its name, as Spark lists it.
        table: The table.
        clock: What the time is read of.
    """
    own = table.identifier.lower()
    if not name.lower().startswith(own):
        return False
    found = _BESIDE.fullmatch(name.lower().removeprefix(own))
    return found is not None and clock.now().timestamp() - int(found[1], 16) > _OVER_SECONDS


class SparkHost:
    """A Spark session in which rows are staged and results are kept.

    Args:
        spark: The `pyspark.sql.SparkSession`.
        file_format: The format of new tables, such as `parquet` or `delta`; by default that of the
            session's `spark.sql.sources.default`.
        is_own: Whether the session, which has a JVM, ends with the host; else it is the caller's.
        clock: What the time is read of.
    """

    catalog = Catalog.SPARK

    def __init__(
        self,
        spark: Any,
        *,
        file_format: str | None = None,
        is_own: bool = False,
        clock: Clock = MACHINE_CLOCK,
    ) -> None:
        self.spark = spark
        self._clock = clock
        self._is_own = is_own
        self._file_format = file_format

    @property
    def file_format(self) -> str:
        """The format of new tables."""
        if self._file_format is None:
            self._file_format = str(self.spark.conf.get("spark.sql.sources.default", "parquet"))
        return self._file_format

    def columns(self, table: HostTable) -> dict[str, str] | None:
        """Return a table's columns in their order with their types, or None if it is not there.

        A type that only Spark has, such as an interval, is given as BLOB, which no template
        renders; its values are copied as texts.
        """
        with _named_failures(f"reading the columns of {qualified(table)}"):
            if not self.spark.catalog.tableExists(qualified(table)):
                return None
            self._refresh(table)
            return {
                field.name: duckdb_type(field.dataType) or "BLOB"
                for field in self.spark.table(qualified(table)).schema.fields
            }

    def copy(
        self,
        table: HostTable,
        directory: Path,
        *,
        columns: Sequence[str] | None = None,
        statuses: Sequence[str] | None = None,
    ) -> tuple[Path, ...]:
        """Copy a table to files; see `Host`."""
        with _named_failures(f"copying {qualified(table)}"):
            return self._copy(qualified(table) + _where(statuses), table, directory, columns)

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
        source = f"{qualified(table)}{_where(statuses, below)} limit {most:d}"
        with _named_failures(f"copying {qualified(table)}"):
            return self._copy(source, table, directory, columns)

    def counted(self, table: HostTable) -> tuple[Counted, ...]:
        """Count all rows of an enriched table that have a status; see `RemoteHost`."""
        kind = f"case when {STATUS} = 'failed' then split_part(enrichment_error, ':', 1) end"
        with _named_failures(f"counting the rows of {qualified(table)}"):
            found = self.spark.sql(
                f"select {STATUS} as status, enrichment_version as version, kind, "
                f"count(*) as number from (select *, {kind} as kind from {qualified(table)}) "
                f"where {STATUS} is not null group by {STATUS}, enrichment_version, kind"
            ).collect()
        return tuple(
            Counted(row["status"], row["version"], row["kind"], int(row["number"])) for row in found
        )

    def copy_rows(
        self, tables: ModelTables, directory: Path, *, task: str | None = None, version: str = ""
    ) -> CopiedRows:
        """Copy the staged rows, without those that are done; see `Host`."""
        with _named_failures(f"copying the rows of {qualified(tables.rows)}"):
            done = self._done_sql(tables, task)
            source = f"{qualified(tables.rows)} as staged"
            if done is None:
                return CopiedRows(self._copy(source, tables.rows, directory))
            count, kept = self._count_done(source, done, version)
            files = self._copy(f"{source} left anti join {done}", tables.rows, directory)
            return CopiedRows(files, count, kept)

    def _count_done(self, source: str, done: str, version: str) -> tuple[int, int]:
        """Count the rows that are done, and those of them that another version answered."""
        ((count, kept),) = self.spark.sql(
            "select count(*), count_if(not (done.enrichment_version <=> "
            f"{text_literal(version)})) from {source} join {done}"
        ).collect()
        return int(count), int(kept)

    def count_rows(
        self, tables: ModelTables, *, task: str | None = None, version: str = ""
    ) -> tuple[int, CopiedRows]:
        """Count the staged rows that are not done, and those that are; see `PartedHost`."""
        with _named_failures(f"counting the rows of {qualified(tables.rows)}"):
            source = f"{qualified(tables.rows)} as staged"
            ((rows,),) = self.spark.sql(f"select count(*) from {source}").collect()
            done = self._done_sql(tables, task)
            if done is None:
                return int(rows), CopiedRows(())
            count, kept = self._count_done(source, done, version)
            return int(rows) - count, CopiedRows((), count, kept)

    def parted_rows(
        self,
        tables: ModelTables,
        columns: Collection[str],
        *,
        task: str | None = None,
        rows: int,
        rows_of_part: int,
    ) -> SparkRows:
        """Return the staged rows that are not done, in parts; see `PartedHost`."""
        with _named_failures(f"reading the rows of {qualified(tables.rows)}"):
            due = self.due(tables, task)
            kept = [name for name in due.columns if name.lower() in columns or name == FINGERPRINT]
            return SparkRows(due.select(*map(quoted, kept)), parts=parts_of(rows, rows_of_part))

    def known_answers(
        self, tables: ModelTables, *, task: str, version: str
    ) -> tuple[SparkRows | None, SparkRows | None]:
        """Return the results with an answer of a task, and its failed attempts; see `PartedHost`.

        A task's results may be stale since, and have another task's key then.
        """
        found: list[SparkRows | None] = []
        for table, condition in (
            (
                tables.results,
                f"{STATUS} in ('done', 'stale') and enrichment_version = {text_literal(version)}",
            ),
            (tables.failures, f"{TASK} = {text_literal(task)}"),
        ):
            with _named_failures(f"reading {qualified(table)}"):
                columns = self.columns(table) or {}
                if KEY not in columns:
                    found.append(None)
                    continue
                names = [name for name in columns if name not in _OURS]
                listed = ", ".join(
                    f"replace({KEY}, '-', '') as {KEY}" if name == KEY else quoted(name)
                    for name in names
                )
                frame = self.spark.sql(
                    f"select {listed} from {qualified(table)} "
                    f"where {KEY} is not null and {condition}"
                )
                found.append(SparkRows(frame, parts=1) if frame.limit(1).collect() else None)
        done, failed = found
        return done, failed

    def has_due(self, table: HostTable) -> bool:
        """Whether an enriched table has rows whose answer is still to come."""
        listed = ", ".join(map(text_literal, DUE))
        with _named_failures(f"reading {qualified(table)}"):
            return bool(
                self.spark.sql(
                    f"select 1 from {qualified(table)} where {STATUS} in ({listed}) limit 1"
                ).collect()
            )

    def copy_known(
        self, tables: ModelTables, table: HostTable, directory: Path, *, task: str | None = None
    ) -> tuple[Path, ...]:
        """Copy what results or failures there are for the rows that `copy_rows` copies."""
        with _named_failures(f"copying {qualified(table)}"):
            done = self._done_sql(tables, task)
            if done is None:
                return self.copy(table, directory)
            source = f"({self._known_sql(tables, table, done)}) as known"
            return self._copy(source, table, directory)

    def count_unstaged(self, tables: ModelTables, *, version: str) -> UnstagedRows:
        """Count the rows of an enriched table that a merge leaves as they are; see `Host`."""
        same = " and ".join(
            f"staged.{quoted(key)} = there.{quoted(key)}" for key in tables.unique_key
        )
        with _named_failures(f"counting the rows of {qualified(tables.enriched)}"):
            found = self.spark.sql(
                f"select {STATUS}, count(*), count_if(not (enrichment_version <=> "
                f"{text_literal(version)})) from {qualified(tables.enriched)} as there "
                f"left anti join {qualified(tables.rows)} as staged on {same} group by {STATUS}"
            )
            return UnstagedRows.of(found.collect())

    def due(self, tables: ModelTables, task: str | None) -> Any:
        """Return the staged rows without those that are done, as a DataFrame; see `copy_rows`."""
        with _named_failures(f"reading the rows of {qualified(tables.rows)}"):
            rows = f"select staged.* from {qualified(tables.rows)} as staged"
            done = self._done_sql(tables, task)
            return self.spark.sql(rows if done is None else f"{rows} left anti join {done}")

    @contextmanager
    def parted_results(
        self,
        tables: ModelTables,
        enriched: Any,
        errors: Any,
        *,
        task: str,
        outputs: Sequence[str],
        keeps: bool,
    ) -> Iterator[_Results]:
        """Write results of rows that stayed in Spark beside those that are there.

        See `PartedHost`. Failures first, then results, each whole: see the top of this file.
        """
        from pyspark.sql import functions

        keys = tables.unique_key
        results, failures = self._beside(tables)
        made = replace(results, identifier=f"{results.identifier}_made")
        with _named_failures(f"writing the results of {qualified(tables.enriched)}"):
            self.make_schema(tables.results)
            self._sweep(tables.results, tables.failures)
            try:
                names = (*outputs, *STATUS_TYPES)
                key_columns = map(quoted, (*keys, FINGERPRINT))
                mark = functions.lit(task).alias(TASK)
                self._save(enriched.select(*key_columns, mark, *map(quoted, names)), made)
                marked = self.spark.table(qualified(made)).select(*map(quoted, (*keys, *_OURS)))
                others = [name for name in errors.columns if name not in keys]
                named = map(quoted, (*keys, *_OURS, *others))
                failed = errors.join(marked, list(keys)).select(*named)
                self._save(failed, failures)
                types, there = self.columns(made) or {}, self.columns(tables.results)
                same = same_columns(types, there)
                settled = settled_sql(
                    qualified(made),
                    qualified(tables.results) if same >= set(keys) else None,
                    keys=keys,
                    outputs=outputs,
                    same=same,
                    keeps=keeps,
                )
                self._save(self.spark.sql(settled), results)
                yield _Results(self, tables, made, results, failures)
            finally:
                for table in (failures, results, made):
                    self._drop(table)

    def write_results(self, tables: ModelTables, results: Written, failures: Written) -> None:
        """Put results into their table, each in place of the one that its unique key had.

        Failures first, then results, each whole: see the top of this file.
        """
        new, new_failures = self._beside(tables)
        with _named_failures(f"writing the results of {qualified(tables.enriched)}"):
            self.make_schema(tables.results)
            self._sweep(tables.results, tables.failures)
            try:
                self._load(new, results)
                self._load(new_failures, failures)
                self._put(tables.failures, new_failures, failures, tables.unique_key, new)
                self._put(tables.results, new, results, tables.unique_key, new)
            finally:
                self._drop(new_failures)
                self._drop(new)

    def put_settled(
        self, tables: ModelTables, made: HostTable, settled: HostTable, failures: HostTable
    ) -> None:
        """Put results that are changed, and the failures of all rows, in their places.

        Args:
            tables: The model's tables.
            made: A table with the unique keys of all rows.
            settled: The results, of which some are changed.
            failures: The failed attempts at all rows.
        """
        keys = tables.unique_key
        changed = replace(settled, identifier=f"{settled.identifier}_changed")
        try:
            names = ", ".join(
                quoted(name) for name in self.columns(settled) or {} if name != CHANGED
            )
            self._save(
                self.spark.sql(f"select {names} from {qualified(settled)} where {CHANGED}"),
                changed,
            )
            for table, new, renewed in (
                (tables.failures, failures, made),
                (tables.results, changed, changed),
            ):
                self._put(table, new, Written((), self.columns(new) or {}), keys, renewed)
        finally:
            self._drop(changed)

    def _beside(self, tables: ModelTables) -> tuple[HostTable, HostTable]:
        """Return names for new results and failures, beside those that are there."""
        results, failures = (
            beside(table, "new", self._clock) for table in (tables.results, tables.failures)
        )
        return results, failures

    def close(self) -> None:
        """End the session where it is the host's own, so that no wait holds a cluster."""
        if self._is_own:
            end(self.spark)

    def make_schema(self, table: HostTable) -> None:
        """Make the schema of a table where it is not there."""
        schema = self._schema(table)
        # Only then: whose right to make schemas is missing may still use it.
        if not self.spark.catalog.databaseExists(schema):
            self.spark.sql(f"create schema if not exists {schema}")

    def write(self, frame: Any, table: HostTable) -> None:
        """Put the rows of a DataFrame, which may read the table, in the place of a table."""
        with _named_failures(f"writing {qualified(table)}"):
            self.make_schema(table)
            self._sweep(table)
            self._write(frame, table)

    @staticmethod
    def _schema(table: HostTable) -> str:
        return ".".join(quoted(part) for part in (table.database, table.schema) if part)

    def _write(self, frame: Any, table: HostTable) -> None:
        new = beside(table, "new", self._clock)
        try:
            self._save(frame, new)
            self._put_in_place(new, table)
        finally:
            self._drop(new)

    def _sweep(self, *tables: HostTable) -> None:
        """Drop what runs that have ended left beside tables of one schema."""
        schema = self._schema(tables[0])
        listed = self.spark.sql(f"show tables in {schema}").collect()
        names = [str(row["tableName"]) for row in listed if not row["isTemporary"]]
        for table in tables:
            for name in names:
                if is_left(name, table, self._clock):
                    # What cannot be read or dropped stays, and is in nobody's way.
                    with suppress(EnrichmentError), _named_failures(f"dropping {name}"):
                        self._drop_ours(replace(table, identifier=name))

    def _drop_ours(self, table: HostTable) -> None:
        if FINGERPRINT in (self.columns(table) or {}):
            self._drop(table)

    def _copy(
        self,
        source: str,
        described: HostTable,
        directory: Path,
        columns: Sequence[str] | None = None,
    ) -> tuple[Path, ...]:
        self._refresh(described)
        fields = self.spark.table(qualified(described)).schema.fields
        kinds = {field.name: duckdb_type(field.dataType) for field in fields}
        wanted = kinds if columns is None else {name: kinds[name] for name in columns}
        listed = [
            quoted(name) if kind else f"cast({quoted(name)} as string) as {quoted(name)}"
            for name, kind in wanted.items()
        ]
        frame = self.spark.sql(f"select {', '.join(listed)} from {source}")
        types = {name: kind or "VARCHAR" for name, kind in wanted.items()}
        return write_parquet(frame, types, directory)

    def _refresh(self, table: HostTable) -> None:
        """Have the session forget a table's files: dbt may have made it anew in another one."""
        with suppress(_unsupported()):
            self.spark.catalog.refreshTable(qualified(table))

    @staticmethod
    def _known_sql(tables: ModelTables, table: HostTable, done: str) -> str:
        """Build the SELECT of a table's rows that have the unique key of a due row, or its text."""
        keys = [quoted(key) for key in tables.unique_key]
        digits = f"substring({{}}.{FINGERPRINT}, 1, {TEXT_DIGITS})"
        due = (
            f"(select {', '.join(f'staged.{key}' for key in keys)}, "
            f"{digits.format('staged')} as digits "
            f"from {qualified(tables.rows)} as staged left anti join {done})"
        )
        same_key = " and ".join(f"due.{key} = there.{key}" for key in keys)
        there = f"select there.* from {qualified(table)} as there"
        same_text = f"due.digits = {digits.format('there')}"
        of_text = f"{there} left semi join {due} as due on {same_text}"
        return (
            f"{there} left semi join {due} as due on {same_key} union all "
            f"select there.* from ({of_text}) as there left anti join {due} as due on {same_key}"
        )

    def _done_sql(self, tables: ModelTables, task: str | None) -> str | None:
        """Build what staged rows are joined to that are done; None where none is, or all count."""
        if task is None:
            return None
        results, rows = (
            {name.lower(): kind for name, kind in (self.columns(table) or {}).items()}
            for table in (tables.results, tables.rows)
        )
        joined = (*tables.unique_key, FINGERPRINT)
        # Of another type, no key is the same: the results are made anew.
        if any(results.get(name.lower()) != rows.get(name.lower()) for name in joined):
            return None
        listed = ", ".join(quoted(name) for name in joined)
        same = " and ".join(f"staged.{quoted(name)} = done.{quoted(name)}" for name in joined)
        return (
            f"(select {listed}, enrichment_version from {qualified(tables.results)} "
            f"where {TASK} = {text_literal(task)} and {STATUS} = 'done') as done on {same}"
        )

    def _load(self, table: HostTable, written: Written) -> None:
        """Make a table of rows that are written."""
        self._save(self.spark.createDataFrame([], spark_schema(written.columns)), table)
        for frame in frames_of(self.spark, written.files, written.columns):
            # By place: by name Sail takes a dot in a column's for one between two names.
            frame.write.insertInto(qualified(table))

    def _save(self, frame: Any, table: HostTable) -> None:
        frame.write.format(self.file_format).mode("overwrite").saveAsTable(qualified(table))

    def _put(
        self,
        table: HostTable,
        new: HostTable,
        written: Written,
        keys: Sequence[str],
        renewed: HostTable,
    ) -> None:
        """Put new rows into a table in place of those of the keys that are renewed."""
        there = self.columns(table)
        columns = {name: held_type(kind) or kind for name, kind in written.columns.items()}
        if there != columns:
            self._put_in_place(new, table)
            return
        listed = ", ".join(quoted(name) for name in columns)
        same = " and ".join(f"previous.{quoted(key)} = renewed.{quoted(key)}" for key in keys)
        if self.file_format == "delta":
            self._merge(table, new, keys, renewed, same)
            return
        self._write(
            self.spark.sql(
                f"select {listed} from {qualified(new)} union all "
                f"select {', '.join(f'previous.{quoted(name)}' for name in columns)} "
                f"from {qualified(table)} as previous "
                f"left anti join {qualified(renewed)} as renewed on {same}"
            ),
            table,
        )

    def _merge(
        self, table: HostTable, new: HostTable, keys: Sequence[str], renewed: HostTable, same: str
    ) -> None:
        """Merge rows into a Delta table, of which files without such a key stay as they are."""
        into = f"merge into {qualified(table)} as previous using"
        if new == renewed:
            self.spark.sql(
                f"{into} {qualified(new)} as renewed on {same} "
                "when matched then update set * when not matched then insert *"
            ).collect()
            return
        # A key may have several rows, which no merge writes.
        listed = ", ".join(map(quoted, keys))
        self.spark.sql(
            f"{into} (select distinct {listed} from {qualified(renewed)}) as renewed on {same} "
            "when matched then delete"
        ).collect()
        columns = ", ".join(map(quoted, self.columns(table) or {}))
        rows = self.spark.sql(f"select {columns} from {qualified(new)}")
        rows.write.insertInto(qualified(table))

    def _put_in_place(self, new: HostTable, table: HostTable) -> None:
        """Have a new table take the place of another, which may be there."""
        if self.file_format in _REPLACED:
            self._replace(new, table)
            return
        away = beside(table, "previous", self._clock)
        is_there = self.spark.catalog.tableExists(qualified(table))
        try:
            if is_there:
                self._rename(table, away)
        except _unsupported():
            # Sail renames no table, and replaces one of any format.
            self._replace(new, table)
            return
        try:
            self._rename(new, table)
        except _unsupported():
            self._replace(new, table)
        except Exception:
            if is_there:
                self._rename(away, table)
            raise
        self._drop(away)

    def _replace(self, new: HostTable, table: HostTable) -> None:
        if self.file_format == "delta":
            writer = self.spark.table(qualified(new)).write.format(self.file_format)
            writer = writer.mode("overwrite").option("overwriteSchema", "true")
            writer.saveAsTable(qualified(table))
            return
        self.spark.sql(
            f"create or replace table {qualified(table)} using {self.file_format} "
            f"as select * from {qualified(new)}"
        )

    def _rename(self, table: HostTable, other: HostTable) -> None:
        # Within its catalog, which the new name does not have.
        place = qualified(replace(other, database=None))
        self.spark.sql(f"alter table {qualified(table)} rename to {place}")

    def _drop(self, table: HostTable) -> None:
        self.spark.sql(f"drop table if exists {qualified(table)}")


class _Results:
    """Results that lie beside those that are there; see `PartedResults`.

    Args:
        host: Where they lie.
        tables: The model's tables.
        made: A table with a row for each row.
        settled: What becomes of the table of results, by rows.
        failures: The failed attempts at all of those rows.
    """

    def __init__(
        self,
        host: SparkHost,
        tables: ModelTables,
        made: HostTable,
        settled: HostTable,
        failures: HostTable,
    ) -> None:
        self._host = host
        self._tables = tables
        self._made = made
        self._settled = settled
        self._failures = failures
        sql = host.spark.sql
        counted = sql(counts_sql(qualified(settled))).collect()
        statuses, errors = Counter[str](), Counter[str]()
        for status, kind, rows, _ in counted:
            statuses[str(status)] += int(rows)
            if kind is not None:
                errors[str(kind)] += int(rows)
        commands = sql(finals_sql(qualified(failures), tables.unique_key)).collect()
        self.counts = PartedCounts(
            statuses=dict(statuses),
            errors=dict(sorted(errors.items(), key=lambda item: (-item[1], item[0]))),
            commands={str(command): int(rows) for command, rows in commands},
            changed=sum(int(changed or 0) for _, _, _, changed in counted),
        )

    def put(self) -> None:
        """Put them in the place of those that their unique keys had."""
        self._host.put_settled(self._tables, self._made, self._settled, self._failures)


def _where(statuses: Sequence[str] | None, below: str | None = None) -> str:
    """Build the WHERE clause of rows of some statuses, and with a key below a text."""
    conditions = []
    if statuses is not None:
        listed = ", ".join(text_literal(status) for status in statuses) or "null"
        conditions.append(f"{STATUS} in ({listed})")
    if below is not None:
        conditions.append(f"{KEY} < {text_literal(below)}")
    return f" where {' and '.join(conditions)}" if conditions else ""


def _unsupported() -> type[Exception]:
    """Return what PySpark raises for what an engine cannot do at all."""
    from pyspark.errors import UnsupportedOperationException

    unsupported: type[Exception] = UnsupportedOperationException
    return unsupported


@contextmanager
def _named_failures(what: str) -> Iterator[None]:
    """Raise what Spark, or the way to it, refuses as an error of ours.

    Args:
        what: What was being done.
    """
    from pyspark.errors import PySparkException

    try:
        yield
    except PySparkException as error:
        text = re.sub(r"\s+", " ", str(error)).strip()[:600]
        raise EnrichmentError(
            f"Spark: {what} failed ({text}); answers that were received are kept",
            fix="correct it in Spark and run it again",
        ) from error
