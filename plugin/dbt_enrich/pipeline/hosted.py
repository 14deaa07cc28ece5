"""Hosted: one enrichment of a database in which dbt stages and publishes, between two dbt commands.

The rows without an answer are copied into a scratch database, in which the engine works on them as
on any other staged relation; what came of them goes back as rows of the host's table of results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

import duckdb

from dbt_enrich.config import PluginConfig
from dbt_enrich.errors import ConfigurationError, concerning
from dbt_enrich.pipeline.engine import Engine
from dbt_enrich.pipeline.request import Constraint, EnrichmentRequest, Outcome
from dbt_enrich.sql import identifier, literal, literals
from dbt_enrich.state.open_files import made_directory
from dbt_enrich.state.tables.publications import KEPT
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.options import EnrichmentOptions, Mode
from dbt_enrich.task.result_columns import ERROR_TYPES, STATUS, STATUS_TYPES
from dbt_enrich.task.version import short_version
from dbt_enrich.warehouse.awaited_texts import Upstream
from dbt_enrich.warehouse.catalogs import is_stored
from dbt_enrich.warehouse.enriched_table import ExistingTable
from dbt_enrich.warehouse.host import (
    DUE,
    FINGERPRINT,
    TASK,
    TELLING,
    CopiedRows,
    Host,
    HostTable,
    ModelTables,
    Written,
)
from dbt_enrich.warehouse.merge import check_merged, forgotten_sql
from dbt_enrich.warehouse.parquet import from_parquet_sql, to_parquet_sql
from dbt_enrich.warehouse.placement import Placement, place, texts_of
from dbt_enrich.warehouse.relation import StagedRelation
from dbt_enrich.workspace.database import limited

_STAGED, _RESULTS, _FAILURES = "staged_rows", "previous_results", "previous_failures"


@dataclass(frozen=True)
class HostedUpstream:
    """Another enrichment that a model reads.

    Attributes:
        name: Its dbt name.
        enrichment: Its unique id.
        tables: Where its enriched table may be; the first that is there counts.
        unique_key: The columns that tell its rows apart; empty where that is not known.
        is_alone: Whether the model, and each between them, reads nothing else.
    """

    name: str
    enrichment: str
    tables: tuple[HostTable, ...]
    unique_key: tuple[str, ...] = ()
    is_alone: bool = False


@dataclass(frozen=True)
class HostedModel:
    """An enrichment model, as dbt's manifest has it.

    Attributes:
        name: Its dbt name.
        enrichment: Its unique id.
        tables: Its tables.
        task: What is asked of its rows.
        options: How far a run goes.
        target: The enriched table as dbt writes it in SQL.
        upstream: Other enrichments that it reads.
        constraints: Constraints of an enforced contract.
        indexes: Whether it configures some.
        comments: Whether it configures `persist_docs`.
        declared: The types that an enforced contract has, by name.
    """

    name: str
    enrichment: str
    tables: ModelTables
    task: EnrichmentTask
    options: EnrichmentOptions
    target: str | None = None
    upstream: tuple[HostedUpstream, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    indexes: bool = False
    comments: bool = False
    declared: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Worked:
    """What came of a model.

    Attributes:
        outcome: What the engine says.
        results: How many rows of the host's table of results are other ones now.
    """

    outcome: Outcome
    results: int = 0

    @property
    def is_news(self) -> bool:
        """Whether it sent something, or the table is another one now."""
        return bool(self.results or self.outcome.figures.requests)

    @property
    def summary(self) -> str:
        """One line for the log."""
        published = self.outcome.replaces and not self.is_news
        return self.outcome.summary + ("; nothing new" if published else "")


def work(engine: Engine, host: Host, model: HostedModel) -> Worked:
    """Enrich the staged rows of a model as far as its options say, and write their results.

    Raises:
        EnrichmentError: As `Engine.enrich`, or the host cannot be read or written. Paid answers
            are safe in every case.
    """
    engine.check()
    lock = made_directory(engine.config).begin_work()
    try:
        with concerning(model=model.name), _scratch(engine.config, lock.path) as connection:
            return _Work(engine, host, model, connection, lock.path).done()
    finally:
        lock.remove()


def forget(engine: Engine, host: Host, model: HostedModel) -> int:
    """Have the rows of a model looked at again whose answers the user had forgotten.

    Their results are stale from now on, also those of rows that the SELECT yields no more. To be
    called before dbt stages.

    Returns:
        How many results are stale now.

    Raises:
        EnrichmentError: The host cannot be read or written.
    """
    forgotten = engine.forgotten()
    there = host.columns(model.tables.results) if forgotten else None
    if not there:
        return 0
    lock = made_directory(engine.config).begin_work()
    try:
        with concerning(model=model.name), _scratch(engine.config, lock.path) as connection:
            return _Work(engine, host, model, connection, lock.path).forget(there, forgotten)
    finally:
        lock.remove()


class ModelOnHost:
    """A model, and what of it is in the host's tables.

    Args:
        host: The host.
        model: The model.
    """

    def __init__(self, host: Host, model: HostedModel) -> None:
        self._host = host
        self._model = model
        self._tables = model.tables

    @cached_property
    def placement(self) -> Placement:
        """Where the enriched table is published."""
        model = self._model
        return Placement(
            catalog=self._host.catalog,
            table=model.tables.enriched.identifier,
            indexes=model.indexes,
            comments=model.comments,
            texts=texts_of(model.declared, self._merged_into()),
        )

    def staged(self) -> dict[str, str]:
        """Return the types of the columns of the staged rows, by name.

        Raises:
            ConfigurationError: The rows are not staged, or by another version.
        """
        model = self._model
        staged = self._host.columns(self._tables.rows)
        if staged is None:
            raise ConfigurationError(
                f"model '{model.name}': its rows are not staged",
                fix=f"run `dbt run --select {model.name}` first",
            )
        if FINGERPRINT not in staged:
            raise ConfigurationError(
                f"model '{model.name}': its staged rows have no column '{FINGERPRINT}'",
                fix="have dbt stage them again, with the dbt package dbt_enrich of this version",
            )
        return staged

    def results(self, staged: Mapping[str, str]) -> dict[str, str] | None:
        """Return the columns of the table of results, or None where it is to be made anew.

        Args:
            staged: The columns of the staged rows.
        """
        there = self._host.columns(self._tables.results)
        return there if there is not None and self._fits(there, staged) else None

    def check_merged(self, relation: StagedRelation, staged: Mapping[str, str]) -> None:
        """Refuse columns that the table does not have into which dbt merges the rows.

        Args:
            relation: The rows, or none of them.
            staged: The columns of the staged rows.
        """
        merged_into = self._merged_into()
        if merged_into is None:
            return
        columns, _ = place(self.placement, relation, self._model.task.outputs)
        there = columns.read(merged_into).columns
        own = {name: kind for name, kind in staged.items() if name != FINGERPRINT}
        check_merged(self._model.name, own, self._model.task.outputs, there)

    def unstaged(self, version: str) -> dict[str, int]:
        """Count the rows that a merge leaves in the enriched table as they are, by status.

        Args:
            version: The task's version.
        """
        if not self._merged_into():
            return {}
        found = self._host.count_unstaged(self._tables, version=version)
        return {**found.statuses, KEPT: found.kept}

    def upstream_tables(self) -> Iterator[tuple[HostedUpstream, HostTable, dict[str, str]]]:
        """Yield the other enrichments that have a table, with it and its columns."""
        for other in self._model.upstream:
            found = ((table, self._host.columns(table)) for table in other.tables)
            table, types = next(((at, there) for at, there in found if there), (None, None))
            if table and types and STATUS in {name.lower() for name in types}:
                yield other, table, types

    def _merged_into(self) -> ExistingTable | None:
        if self._model.options.publish != "merge":
            return None
        enriched = self._host.columns(self._tables.enriched)
        return ExistingTable(self._tables.enriched.identifier, enriched) if enriched else None

    def _fits(self, there: Mapping[str, str], staged: Mapping[str, str]) -> bool:
        """Whether the host's table of results has the columns of this task."""
        types = {name.lower(): kind for name, kind in staged.items()}
        wanted = {
            **{key: types.get(key.lower(), "") for key in self._tables.unique_key},
            **{output.name: output.type.sql for output in self._model.task.outputs},
            **STATUS_TYPES,
        }
        ours = {name for name in there if name not in (FINGERPRINT, TASK)}
        if ours != wanted.keys():
            return False
        held = {name: self.placement.stored(name, kind) for name, kind in wanted.items() if kind}
        return all(one is not None and is_stored(there[name], one) for name, one in held.items())


class _Work(ModelOnHost):
    """One model's work.

    Args:
        engine: The engine.
        host: The host.
        model: The model.
        connection: A connection to the scratch database.
        directory: The scratch directory.
    """

    def __init__(
        self,
        engine: Engine,
        host: Host,
        model: HostedModel,
        connection: duckdb.DuckDBPyConnection,
        directory: Path,
    ) -> None:
        super().__init__(host, model)
        self._engine = engine
        self._connection = connection
        self._directory = directory

    def done(self) -> Worked:
        staged = self.staged()
        request = self._request()
        task_key = self._engine.task_key(request)
        there = self._host.columns(self._tables.results)
        is_kept = there is not None and self._fits(there, staged)
        # Plan and preview count, or show, all rows; so does a table of results that is made anew.
        shows_all = self._model.options.mode in (Mode.PLAN, Mode.PREVIEW)
        task = task_key if is_kept and not shows_all else None
        copied, task = self._copied_rows(staged, task)
        self.check_merged(request.relation, staged)
        existing = self._existing(there, task) if there else None
        request = self._request(existing, tuple(self._upstream()), copied)
        outcome = self._engine.enrich(request)
        counts = None
        written = 0
        try:
            if outcome.replaces:
                results, failures = self._written(outcome, task_key, is_kept)
                written = self._count(results)
                if written:
                    self._host.write_results(self._tables, results, failures)
                counts = self._counts(outcome, copied, short_version(task_key))
        finally:
            self._engine.finish(outcome.run_id, counts)
        return Worked(outcome, written)

    def forget(self, there: Mapping[str, str], forgotten: Mapping[str, datetime]) -> int:
        places = self._place("versions"), self._place("results")
        needed = ("enrichment_version", "enriched_at")
        files = self._host.copy(self._tables.results, places[0], columns=needed, statuses=("done",))
        self._show("versions", files, {name: there[name] for name in needed})
        found = self._connection.execute(
            f"select 1 from versions where {forgotten_sql(forgotten)} limit 1"
        ).fetchone()
        if found is None:
            return 0
        files = self._host.copy(self._tables.results, places[1], statuses=("done",))
        self._show(_RESULTS, files, there)
        select = (
            f"select * replace (cast('stale' as {there[STATUS]}) as {STATUS}) from {_RESULTS} "
            f"where {forgotten_sql(forgotten)}"
        )
        results = self._write("stale-results", select)
        count = self._count(results)
        errors = self._host.columns(self._tables.failures)
        if errors and count:
            none = self._write("no-failures", from_parquet_sql((), errors))
            self._host.write_results(self._tables, results, none)
        return count

    def _request(
        self,
        existing: ExistingTable | None = None,
        upstream: tuple[Upstream, ...] = (),
        copied: CopiedRows | None = None,
    ) -> EnrichmentRequest:
        model = self._model
        return EnrichmentRequest(
            relation=StagedRelation(
                connection=self._connection,
                name=_STAGED,
                unique_key=self._tables.unique_key,
                model=model.name,
            ),
            task=model.task,
            # dbt merges what is published.
            options=model.options.model_copy(update={"publish": "rebuild"}),
            enrichment=model.enrichment,
            existing=existing,
            target=model.target,
            upstream=upstream,
            constraints=model.constraints,
            placement=self.placement,
            done=copied.done if copied else 0,
            kept=copied.kept if copied else 0,
        )

    def _copied_rows(
        self, staged: Mapping[str, str], task: str | None
    ) -> tuple[CopiedRows, str | None]:
        """Copy the rows without an answer to a task into the scratch database; all for None.

        All too where some keep the answers to another version, and the options ask them again.

        Returns:
            What was copied, and the task that it was copied for.
        """
        version = short_version(task) if task else ""
        place = self._place("rows")
        copied = self._host.copy_rows(self._tables, place, task=task, version=version)
        if copied.kept and self._model.options.on_task_change != "new_rows":
            task = None
            copied = self._host.copy_rows(self._tables, self._place("all-rows"))
        select = from_parquet_sql(copied.files, staged)
        self._connection.execute(f"create table {_STAGED} as {select}")
        return copied, task

    def _existing(self, columns: Mapping[str, str], task: str | None) -> ExistingTable | None:
        """Copy results of the copied rows, and show them as the enriched table that they make."""
        if self._is_empty(_STAGED):
            return None
        self._show_known(_RESULTS, self._tables.results, columns, task)
        errors = self._host.columns(self._tables.failures)
        if errors:
            self._show_known(_FAILURES, self._tables.failures, errors, task)
        return ExistingTable(_RESULTS, columns, _FAILURES if errors else None)

    def _upstream(self) -> Iterator[Upstream]:
        """Copy what is due of other enrichments, and yield them with what was copied."""
        shows_all = self._model.options.mode == Mode.PLAN
        for number, (other, table, types) in enumerate(self.upstream_tables()):
            names = {name.lower(): name for name in types}
            keys = [names[key.lower()] for key in other.unique_key if key.lower() in names]
            columns = {name: types[name] for name in (*keys, names[STATUS])}
            files = self._host.copy(
                table,
                self._place(f"upstream-{number}"),
                columns=list(columns),
                statuses=None if shows_all else DUE,
            )
            shown = f"upstream_{number}"
            self._show(shown, files, columns)
            yield Upstream(other.name, other.enrichment, (shown,), tuple(keys), other.is_alone)

    def _written(self, outcome: Outcome, task_key: str, is_kept: bool) -> tuple[Written, Written]:
        """Write what is new of the results, and the failed attempts of those rows."""
        keys = [identifier(key) for key in self._tables.unique_key]
        listed = ", ".join(keys)
        names = [*(o.name for o in self._model.task.outputs), *STATUS_TYPES]
        values = ", ".join(map(identifier, names))
        fresh = (
            f"select {listed}, {FINGERPRINT}, {literal(task_key)} as {TASK}, {values} "
            f"from ({outcome.enriched_sql}) as enriched"
        )
        select = f"select * from ({fresh}) as fresh where {self._is_new(keys, is_kept)}"
        results = self._write("new-results", select)
        changed = f"select {listed} from ({from_parquet_sql(results.files, results.columns)})"
        same = " and ".join(f"errors.{key} = staged.{key}" for key in keys)
        errors = (
            f"select {', '.join(f'errors.{key}' for key in keys)}, staged.{FINGERPRINT}, "
            f"{literal(task_key)} as {TASK}, "
            f"{', '.join(f'errors.{name}' for name in ERROR_TYPES)} "
            f"from ({outcome.errors_sql}) as errors join {_STAGED} as staged on {same} "
            f"where ({', '.join(f'errors.{key}' for key in keys)}) in ({changed})"
        )
        return results, self._write("new-failures", errors)

    def _is_new(self, keys: Sequence[str], is_kept: bool) -> str:
        """Build the condition of the rows whose result the host does not have as it is."""
        says_something = f"{STATUS} <> 'pending' or enrichment_error is not null"
        if not is_kept or not self._has(_RESULTS):
            return f"({says_something})"
        row = f"({', '.join(keys)})"
        has_one = f"{row} in (select {row} from {_RESULTS})"
        texts = [f"cast({{}}.{name} as varchar)" for name in (*TELLING, FINGERPRINT, TASK)]
        same = " and ".join(
            [
                *(f"there.{key} = fresh.{key}" for key in keys),
                *(f"{text.format('there')} is not distinct from {text.format('fresh')}"
                  for text in texts),
            ]
        )  # fmt: skip
        return (
            f"({says_something} or {has_one}) "
            f"and not exists (select 1 from {_RESULTS} as there where {same})"
        )

    def _write(self, name: str, select: str) -> Written:
        """Write what a SELECT in the scratch database yields to a Parquet file."""
        described = self._connection.execute(f"describe {select}").fetchall()
        columns = {row[0]: row[1] for row in described}
        path = self._place(name) / "rows.parquet"
        values = to_parquet_sql(columns, what=f"model '{self._model.name}'")
        self._connection.execute(
            f"copy (select {values} from ({select}) as written) to {literal(path)} "
            "(format parquet, row_group_size 4096)"
        )
        path.chmod(0o600)
        return Written((path,), columns)

    def _counts(self, outcome: Outcome, copied: CopiedRows, version: str) -> dict[str, int]:
        """Count all rows of the enriched table by status, as dbt publishes it next."""
        found = self._connection.execute(
            f"select cast({STATUS} as varchar), count(*) from ({outcome.enriched_sql}) as enriched "
            "group by 1"
        ).fetchall()
        counts = Counter({str(status): int(rows) for status, rows in found})
        counts["done"] += copied.done
        counts.update(self.unstaged(version))
        return {status: rows for status, rows in counts.items() if rows}

    def _count(self, written: Written) -> int:
        ((rows,),) = self._connection.execute(
            f"select count(*) from read_parquet({literals(written.files)})"
        ).fetchall()
        return int(rows)

    def _show(self, name: str, files: Sequence[Path], columns: Mapping[str, str]) -> None:
        self._connection.execute(f"create view {name} as {from_parquet_sql(files, columns)}")

    def _show_known(
        self, name: str, table: HostTable, columns: Mapping[str, str], task: str | None
    ) -> None:
        files = self._host.copy_known(self._tables, table, self._place(name), task=task)
        self._show(name, files, columns)

    def _has(self, name: str) -> bool:
        found = self._connection.execute(
            f"select 1 from duckdb_views() where view_name = {literal(name)}"
        ).fetchone()
        return found is not None

    def _is_empty(self, table: str) -> bool:
        return self._connection.execute(f"select 1 from {table} limit 1").fetchone() is None

    def _place(self, name: str) -> Path:
        """Make a directory for files."""
        path = self._directory / name
        path.mkdir(mode=0o700)
        return path


@contextmanager
def _scratch(config: PluginConfig, directory: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database of our own in a directory; what does not fit into memory is spilled there."""
    given = {"memory_limit": config.memory_limit} if config.memory_limit else {}
    connection = duckdb.connect(
        str(directory / "rows.duckdb"),
        config={
            **given,
            "threads": config.threads,
            "temp_directory": str(directory / "spill"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    with closing(connection):
        limited(connection, config.memory_limit)
        yield connection
