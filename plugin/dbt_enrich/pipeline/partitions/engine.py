"""Enrich rows where they lie: beyond what one machine is to read, write and validate."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Any

from dbt_enrich.console.live_lines import live_terminal
from dbt_enrich.console.timings import logged_timings
from dbt_enrich.environment import report
from dbt_enrich.errors import AwaitTimeoutError, ConfigurationError, concerning
from dbt_enrich.pipeline.checks import empty_tables, failure_warning, figures, refuse_failures
from dbt_enrich.pipeline.engine import Engine
from dbt_enrich.pipeline.partitions.exchange import Jobs, PartedExchange, Written, shared_files
from dbt_enrich.pipeline.partitions.job import rows_database
from dbt_enrich.pipeline.planning.plan import PlannedRows, describe, plan_of
from dbt_enrich.pipeline.planning.task_changes import refusal_of_change
from dbt_enrich.pipeline.publish.results import Published
from dbt_enrich.pipeline.request import Constraint, EnrichmentRequest, Figures, Outcome
from dbt_enrich.pipeline.run.alike_failures import Watch
from dbt_enrich.pipeline.sentences import summary
from dbt_enrich.pipeline.session import Session
from dbt_enrich.sql import identifier
from dbt_enrich.state.file_cleanup import sweep_files
from dbt_enrich.state.run import open_run
from dbt_enrich.task.braces import check_braces
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.failures import retry_command
from dbt_enrich.task.options import EnrichmentOptions, Mode, Via
from dbt_enrich.task.template import message_sql
from dbt_enrich.warehouse.parted_rows import PART, PartedCounts, PartedRows
from dbt_enrich.warehouse.placement import PlacedColumns, Placement, place
from dbt_enrich.warehouse.relation import StagedRelation


@dataclass(frozen=True)
class PartedModel:
    """What is asked of rows that stay where they lie.

    Attributes:
        name: What is enriched, for messages.
        enrichment: Its unique id.
        unique_key: The columns that tell rows apart; the caller has seen that they do.
        task: What is asked.
        options: How far the run goes.
        target: The enriched table as dbt writes it in SQL, or None.
        placement: Where the enriched table is published.
        constraints: Constraints of an enforced contract that a row without an answer may break.
        upstream: Unique ids of other enrichments that it reads.
        owing: The names of those of them that still owe texts: rows without one wait.
        done: How many rows have their answer, beside those that are given.
    """

    name: str
    enrichment: str
    unique_key: tuple[str, ...]
    task: EnrichmentTask
    options: EnrichmentOptions
    target: str | None = None
    placement: Placement = field(default_factory=Placement)
    constraints: tuple[Constraint, ...] = ()
    upstream: tuple[str, ...] = ()
    owing: tuple[str, ...] = ()
    done: int = 0


@dataclass(frozen=True)
class PartedOutcome:
    """What came of it.

    Attributes:
        run_id: The run, for `Engine.finish`.
        enriched: A table of the rows' engine: each row with its own columns, the outputs and the
            status columns. None in the mode `plan`. It is worked out whenever it is read, from the
            answers that were there as the run ended.
        errors: A table of the failed attempts, likewise.
        columns: The types of the columns of `enriched`, by name.
        error_columns: Those of `errors`.
        summary: One line for the log, of the mode `plan`; else `PartedEngine.settled` makes it.
        figures: What the run did, in numbers.
        session: The run.
    """

    run_id: str
    enriched: Any
    errors: Any
    columns: Mapping[str, str]
    error_columns: Mapping[str, str]
    summary: str
    figures: Figures
    session: Session = field(repr=False)


class PartedEngine(Engine):
    """Enriches rows that stay where they lie; otherwise as `Engine`."""

    def task_key_of(self, model: PartedModel) -> str:
        """Return the identity of what is asked; see `task_key`."""
        return self.task_key(request_of(model, {}))

    def enrich_parted(
        self,
        model: PartedModel,
        rows: PartedRows,
        known: tuple[PartedRows | None, PartedRows | None] = (None, None),
    ) -> PartedOutcome:
        """Enrich rows as far as the mode says: workers write and read files, this process sends.

        Args:
            model: What is asked.
            rows: The rows.
            known: Results with an answer of the task, and failed attempts at it, that the state may
                not have any more; None where there are none.

        Raises:
            EnrichmentError: Something is wrong with the input, the service or the state, or the
                task needs what only one machine does. Paid answers are safe in every case.
        """
        self.check()
        request = request_of(model, rows.columns)
        with (
            concerning(model=model.name),
            ExitStack() as opened,
            open_run(self.config, clock=self._clock) as run,
        ):
            run.store.sweep_runs()
            console = self._console.of(model.name, live_terminal())
            timings = opened.enter_context(logged_timings(console))
            session = self.session(run, request.identified(), console, timings)
            if not self.config.keep_files:
                sweep_files(run)
            with closing(console):
                return self._enrich_parted(session, model, rows, known)

    def settled(self, outcome: PartedOutcome, counts: PartedCounts, done: int) -> Outcome:
        """Say what became of the rows, as of rows of one machine.

        Args:
            outcome: What came of them.
            counts: The rows, counted where they lie.
            done: How many others have their answer.

        Raises:
            FailedRowsError: Rows failed that `fail_on` names.
        """
        session = outcome.session
        command = retry_command(session.model, ["{}"]).removesuffix("{}")
        published = Published(
            enriched_sql="",
            errors_sql="",
            counts=counts.statuses,
            kept=0,
            errors=counts.errors,
            finals={text.removeprefix(command): rows for text, rows in counts.commands.items()},
            bytes=0,
        )
        refuse_failures(session, published)
        said = summary(session.model, published, session.tally)
        return Outcome(
            run_id=outcome.run_id,
            enriched_sql="",
            errors_sql="",
            summary=f"{said}; {done:,} more are done" if done else said,
            figures=outcome.figures,
            warning=failure_warning(session, published),
            rows=sum(counts.statuses.values()),
        )

    def _enrich_parted(
        self,
        session: Session,
        model: PartedModel,
        rows: PartedRows,
        known: tuple[PartedRows | None, PartedRows | None],
    ) -> PartedOutcome:
        placed = self._check_parted(session, rows)
        self.record_task(session)
        mode = session.request.options.mode
        jobs = Jobs(session, rows, placed, owing=model.owing)
        for table, is_failed in zip(known, (False, True), strict=True):
            if table is not None:
                jobs.recover(table, errors=is_failed)
        if mode == Mode.PLAN:
            return self._planned(session, model, jobs.count(session.select()))
        columns, error_columns = columns_of(session.request, placed, rows)
        with self.service.use() as (service, relay):
            self.service.prepare(session, service, sends=mode != Mode.COLLECT)
            jobs = jobs.at(service)
            exchange = PartedExchange(
                session, jobs, rows.at_once, service, relay, _watch_of(session)
            )
            exchange.carry_out(None)
            if exchange.timed_out and session.request.options.on_await_timeout == "error":
                raise AwaitTimeoutError(
                    f"model '{session.model}': the service did not finish within await_timeout = "
                    f"{session.request.options.await_timeout:g} seconds; its batches go on, and "
                    "the next run collects them"
                )
        self._record_publication(session)
        return replace(
            self._outcome(session, "", columns, error_columns),
            enriched=jobs.publish(columns),
            errors=jobs.publish(error_columns, errors=True),
        )

    def _planned(self, session: Session, model: PartedModel, counted: Written) -> PartedOutcome:
        """Say and report what a run would do; rows that are to be asked are all new here."""
        request, fresh, config = session.request, counted.fresh, self.config
        selection = session.select()
        refusal = refusal_of_change(session.run.ledger, request, session.task_key, fresh)
        stopped = refusal or session.refusal_to_go_on(fresh.requests)
        destination = session.destination(selection, config)
        plan = plan_of(
            PlannedRows(
                staged=counted.rows.rows + model.done,
                skipped=counted.rows.skipped,
                owed=counted.rows.owed,
                answered=counted.done + model.done,
                new=counted.chosen.rows,
                files=counted.files,
                bytes=counted.bytes,
                upstream=model.upstream,
                waits_for=model.owing,
                failed_for_good=counted.finals,
            ),
            fresh,
            counted.estimate(),
            session.run,
            request,
            selection,
            destination,
            stopped,
            config,
        )
        report({"plan": plan.document()})
        return self._outcome(session, describe(plan), {}, {})

    def _outcome(
        self,
        session: Session,
        said: str,
        columns: Mapping[str, str],
        error_columns: Mapping[str, str],
    ) -> PartedOutcome:
        return PartedOutcome(
            run_id=session.run.id,
            enriched=None,
            errors=None,
            columns=columns,
            error_columns=error_columns,
            summary=f"{session.model}: {said}",
            figures=figures(session),
            session=session,
        )

    def _check_parted(self, session: Session, rows: PartedRows) -> PlacedColumns:
        """Refuse what is wrong with the task or the rows before a job begins."""
        self._check_request(session)
        shared_files(session)
        request, task = session.request, session.request.task
        _refuse_what_needs_one_machine(session)
        columns = dict(rows.columns)
        empty_tables(request.relation, task, request.placement)
        check_braces(task, columns, model=session.model)
        message_sql(task.template, columns, task.optional, model=session.model)
        placed, notice = place(request.placement, request.relation, task.outputs)
        if notice:
            session.console.warn(notice)
        return placed


def _watch_of(session: Session) -> Watch:
    """Return what watches the answers; examples are named by their keys, as rows are elsewhere."""
    return Watch(
        model=session.model,
        enrichment=session.request.enrichment,
        task_key=session.task_key,
        tolerance=session.tolerance,
        settings=session.sent_with,
        run=session.run,
    )


def request_of(model: PartedModel, columns: Mapping[str, str]) -> EnrichmentRequest:
    """Return what is asked, of a relation that has the rows' columns and none of them."""
    relation = empty_relation(columns, model.unique_key, model.name)
    return EnrichmentRequest(
        relation=relation,
        task=model.task,
        # dbt merges what is published.
        options=model.options.model_copy(update={"publish": "rebuild"}),
        enrichment=model.enrichment,
        target=model.target,
        constraints=model.constraints,
        placement=model.placement,
    )


def empty_relation(
    columns: Mapping[str, str], unique_key: tuple[str, ...], model: str
) -> StagedRelation:
    """Return a relation that has columns and no row.

    Args:
        columns: Their types, by name.
        unique_key: The columns that tell rows apart.
        model: What is enriched, for messages.
    """
    connection = rows_database(None, None)
    if columns:
        listed = ", ".join(f"{identifier(name)} {kind}" for name, kind in columns.items())
        connection.execute(f"create table staged ({listed})")
    return StagedRelation(connection, "staged", unique_key, model)


def columns_of(
    request: EnrichmentRequest, placed: PlacedColumns, rows: PartedRows
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the columns of the enriched table and of its errors table as they are held there.

    Raises:
        ConfigurationError: One of them cannot be.
    """
    made = empty_tables(request.relation, request.task, request.placement)
    found = []
    for select in placed.written(made.enriched_sql, made.errors_sql):
        described = request.relation.connection.execute(f"describe {select}").fetchall()
        held = {row[0]: (row[1], rows.held(row[1])) for row in described}
        for name, (kind, there) in held.items():
            if there is None:
                raise ConfigurationError(
                    f"model '{request.model}': the column '{name}' has the type {kind}, which "
                    "cannot be held where the rows lie",
                    fix="give it another type. Nothing was sent",
                )
        found.append({name: str(there) for name, (_, there) in held.items()})
    return found[0], found[1]


def _refuse_what_needs_one_machine(session: Session) -> None:
    """Refuse options that only one machine that has all rows can carry out.

    Raises:
        ConfigurationError: One of them is set.
    """
    request, options = session.request, session.request.options
    needs = {
        "images": bool(request.task.images),
        "via": options.via != Via.BATCH,
        "sync_below": bool(options.sync_below),
        "on_task_change: new_rows": options.on_task_change == "new_rows",
        "a constraint on outputs": bool(request.constraints),
        "mode: preview": options.mode == Mode.PREVIEW,
        f"a column named {PART}": PART in {name.lower() for name in request.relation.columns()},
    }
    for key, is_set in needs.items():
        if is_set:
            raise ConfigurationError(
                f"model '{session.model}': {key} needs all rows on one machine, and there are more "
                "new rows than partition_rows",
                fix=f"take {key} out, or raise partition_rows. Nothing was sent",
            )
