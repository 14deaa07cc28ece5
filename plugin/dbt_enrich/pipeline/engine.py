"""Enrich one relation: the stages in their order, and what the models of one process share."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from datetime import datetime

from dbt_enrich.clock import MACHINE_CLOCK, Clock
from dbt_enrich.config import PluginConfig
from dbt_enrich.config.model_endpoints import check_endpoint
from dbt_enrich.console.console import Console
from dbt_enrich.console.live_lines import live_terminal
from dbt_enrich.console.progress import Progress
from dbt_enrich.console.timings import Stage, Timings, logged_timings
from dbt_enrich.endpoints.choice import endpoint_of
from dbt_enrich.endpoints.packs import check_packing
from dbt_enrich.environment import report
from dbt_enrich.errors import concerning
from dbt_enrich.pipeline.checks import (
    BlankRows,
    check_container,
    check_examples,
    check_images,
    failure_warning,
    figures,
    publication,
    reading_of,
    refuse_failures,
    table_comment,
    unpublished,
    unusable_warning,
    without_rows,
)
from dbt_enrich.pipeline.export.new_requests import (
    Selection,
    Undone,
    choose,
    find_undone,
    new_requests,
)
from dbt_enrich.pipeline.export.relayed_rounds import check_route
from dbt_enrich.pipeline.planning.budget import Budget, run_began
from dbt_enrich.pipeline.planning.plan import describe, make_plan
from dbt_enrich.pipeline.planning.preview import preview
from dbt_enrich.pipeline.planning.task_changes import refusal_of_change
from dbt_enrich.pipeline.publish.changes import (
    content_of,
    errors_differ,
    find_changes,
    published_content_sql,
)
from dbt_enrich.pipeline.publish.results import Published, publish
from dbt_enrich.pipeline.publish.usage_relations import Relations, fingerprint, relations
from dbt_enrich.pipeline.recovery.previous_answers import keep_previous_answers
from dbt_enrich.pipeline.recovery.table_answers import recover_answers
from dbt_enrich.pipeline.request import EnrichmentRequest, Outcome, Tally
from dbt_enrich.pipeline.rounds import exchange
from dbt_enrich.pipeline.sentences import summary
from dbt_enrich.pipeline.session import Session
from dbt_enrich.pipeline.shared_service import SharedService
from dbt_enrich.pipeline.stage.input_checks import check_columns
from dbt_enrich.pipeline.stage.staged_rows import StagedRows, stage
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.file_cleanup import sweep_files
from dbt_enrich.state.filesystems import network_file_system
from dbt_enrich.state.open_ledger import has_ledger, open_ledger
from dbt_enrich.state.run import Run, existing_ledger, open_run
from dbt_enrich.state.tables.contents import Content, RowSums, add_rows
from dbt_enrich.state.tables.publications import KEPT, Publication
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.options import Mode, Via
from dbt_enrich.warehouse.merge import stage_unfinished, untouched_kept
from dbt_enrich.warehouse.placement import place


class Engine:
    """Enriches relations for one profile; used by several dbt threads at once.

    Args:
        config: The plugin's configuration.
        project: The dbt project's name, the default namespace.
        console: The user's log.
        target: The profile's target whose tables are published, or None.
        clock: The time.
    """

    def __init__(
        self,
        config: PluginConfig,
        *,
        project: str,
        console: Console,
        target: str | None = None,
        clock: Clock = MACHINE_CLOCK,
    ) -> None:
        self.config = config
        self._target = target
        self._clock = clock
        self.namespace = config.namespace or project
        self.cancelled = threading.Event()
        self._console = console
        self._lock = threading.RLock()
        self.service = SharedService(config, self.cancelled, console, clock)
        self._has_warned = False
        self._budget = Budget(config, self.namespace, clock)
        self._published: dict[str, ExitStack] = {}
        self._publications: dict[str, Publication] = {}
        self._contents: dict[str, Content] = {}

    def check(self) -> None:
        """Refuse a profile that cannot work, before a row is staged.

        Raises:
            ConfigurationError: A value is missing or wrong, or an extra is not installed.
        """
        self.config.check()
        self.config.check_installed()
        check_container(self.config)
        _ = self.config.price_table

    def task_key(self, request: EnrichmentRequest) -> str:
        """Return the identity of what a request asks.

        Raises:
            ConfigurationError: Its options and its task contradict each other.
        """
        return self._task_key(request.identified().task)

    def _task_key(self, task: EnrichmentTask) -> str:
        return task.task_key(self.config.answered_by(task.model, task.endpoint))

    def enrich(self, request: EnrichmentRequest) -> Outcome:
        """Enrich a relation as far as its mode says.

        Returns:
            The SELECTs that publish the result. Call `finish` with its run_id afterwards.

        Raises:
            EnrichmentError: Something is wrong with the input, the service or the state directory,
                or rows failed that `fail_on` names. Paid answers are safe in every case.
        """
        self.check()
        with concerning(model=request.relation.model):
            return self._run(request.identified())

    def _run(self, request: EnrichmentRequest) -> Outcome:
        """Open what a run works with, enrich, and keep open what its SELECTs read."""
        columns, notice = place(request.placement, request.relation, request.task.outputs)
        if notice:
            self._console.warn(notice)
        if request.existing:
            request = replace(request, existing=columns.read(request.existing))
        with (
            ExitStack() as until_published,
            open_run(
                self.config, until_published, clock=self._clock, cancelled=self.cancelled
            ) as run,
        ):
            run.store.sweep_runs()
            self._warn_of_network(run.store)
            console = self._console.of(request.relation.model, live_terminal())
            timings = until_published.enter_context(logged_timings(console))
            session = self.session(run, request, console, timings)
            if not self.config.keep_files:
                sweep_files(run)
            with closing(console):
                outcome = self._enrich(session)
            enriched_sql, errors_sql = columns.written(outcome.enriched_sql, outcome.errors_sql)
            outcome = replace(outcome, enriched_sql=enriched_sql, errors_sql=errors_sql)
            # The SELECTs that publish read the scratch files once more.
            published = until_published.pop_all()
            published.enter_context(timings.span(Stage.TABLE, rows=outcome.rows))
            with self._lock:
                self._published[run.id] = published
            return outcome

    def session(
        self, run: Run, request: EnrichmentRequest, console: Console, timings: Timings
    ) -> Session:
        """Return what a run of a request works with."""
        return Session(
            run=run,
            request=request,
            task_key=self._task_key(request.task),
            config=self.config,
            namespace=self.namespace,
            console=console,
            progress=Progress(console),
            cancelled=self.cancelled,
            tally=Tally(),
            timings=timings,
            budget=self._budget,
            began=run_began(self._clock),
        )

    def _warn_of_network(self, store: StateDirectory) -> None:
        # Whose ledger is in a database has no locks there.
        name = None if self.config.state else network_file_system(store.root)
        with self._lock:
            if name is None or self._has_warned:
                return
            self._has_warned = True
        self._console.warn(
            f"the state directory {store.root} is on a network file system ({name}), where locks "
            "are not safe between machines: two runs at once may pay twice; set state_dir to a "
            "local disk, or let one machine run at a time"
        )

    def forgotten(self) -> dict[str, datetime]:
        """Return when the user had answers forgotten, by task key."""
        ledger = existing_ledger(self.config)
        if ledger is None:
            return {}
        with ledger:
            return ledger.answers.forgotten()

    def known_models(self) -> set[str]:
        """Return the unique ids of the models that the ledger knows."""
        ledger = existing_ledger(self.config)
        if ledger is None:
            return set()
        with ledger:
            return ledger.enrichments()

    def relations(self, known: str | None) -> tuple[str, Relations] | None:
        """Write what the relations of the schema `enrichment` hold, from ledger and answer store.

        Args:
            known: The fingerprint of the relations that are there, or None.

        Returns:
            The run to finish once they are published, and their SELECTs; None if nothing changed.
        """
        if not has_ledger(self.config):
            return None
        with (
            ExitStack() as until_published,
            open_run(self.config, until_published, clock=self._clock) as run,
        ):
            if known == fingerprint(self.config, run.ledger):
                return None
            made = relations(run, self.config)
            with self._lock:
                self._published[run.id] = until_published.pop_all()
            return run.id, made

    def finish(
        self,
        run_id: str,
        counts: Mapping[str, int] | None = None,
        content: Mapping[str, RowSums] | None = None,
    ) -> None:
        """End a run: note what it published, and remove its scratch files.

        Args:
            run_id: The run.
            counts: Rows of the published table by status, or None if nothing was published. Done
                rows of other versions, under KEPT, are those beside the ones that it looked at.
            content: Of the rows that were put into the table: their number by status, and the sums
                of the expressions `content` of the outcome; None if they were not summed up.
        """
        with self._lock:
            scratch = self._published.pop(run_id, None)
            publication = self._publications.pop(run_id, None)
            recorded = self._contents.pop(run_id, None)
        if publication and counts is not None:
            with open_ledger(self.config, clock=self._clock) as ledger:
                kept = counts.get(KEPT, 0) + publication.counts.get(KEPT, 0)
                counts = {**counts, **({KEPT: kept} if kept else {})}
                published = replace(publication, counts=counts, target=self._target)
                ledger.publications.put(published)
                report({"published": asdict(published)})
                if recorded and content is not None:
                    rows = add_rows(recorded.rows, content)
                    ledger.contents.put(replace(recorded, rows=rows))
        if scratch:
            scratch.close()

    def _enrich(self, session: Session) -> Outcome:
        run, request = session.run, session.request
        mode = request.options.mode
        self._check_request(session)
        if request.empty and mode not in (Mode.PLAN, Mode.PREVIEW):
            self.record_task(session)
            self._record_publication(session)
            return without_rows(session)
        rows = _staged(session)
        if mode == Mode.PREVIEW:
            return self._preview(session, rows)
        self.record_task(session)
        selection = session.select()
        undone = _undone(session, rows, selection)
        session.tally.reused = rows.keyed - undone.rows + request.done
        chosen = choose(run, undone, selection)
        fresh = new_requests(run, rows, chosen, selection)
        refusal = refusal_of_change(run.ledger, request, session.task_key, fresh)
        if mode == Mode.PLAN:
            outgoing = session.outgoing(rows, (undone, chosen), selection)
            stopped = refusal or session.refusal_to_go_on(fresh.requests)
            plan = make_plan(outgoing, fresh, stopped, self.config)
            report({"plan": plan.document()})
            return unpublished(session, describe(plan), status=plan.short())
        if refusal and mode != Mode.COLLECT:
            raise refusal
        blank = BlankRows(session)
        blank.refuse_before_sending(rows, undone, chosen, fresh)
        exchange(session, rows, (undone, chosen), fresh, self.service)
        undone.remove()
        chosen.remove()
        with session.timings.span(Stage.PUBLISH, rows=rows.rows) as span:
            selection = session.select()
            changes = find_changes(run, rows, request, selection)
            published = publish(run, rows, request, selection, changes)
            span.bytes = published.bytes
        refuse_failures(session, published)
        blank.refuse_before_publishing(published)
        kept = published.kept
        if request.merged_into:
            kept += untouched_kept(request.relation, request.merged_into, session.task_key)
        self._record_publication(session, kept)
        content = published_content_sql(request)
        self._record_content(session, content_of(request, selection, published.files, changes))
        return Outcome(
            run_id=run.id,
            enriched_sql=published.enriched_sql,
            errors_sql=published.errors_sql,
            summary=summary(session.model, published, session.tally),
            figures=replace(figures(session), rows_touched=_rows_touched(published)),
            warning=failure_warning(session, published),
            merges=request.merged_into is not None,
            comment=table_comment(session) if request.placement.catalog.has_comments else "",
            rows=rows.rows,
            touched=published.touched,
            gone=published.gone,
            replaces_errors=changes is None or errors_differ(request, published.errors_sql),
            content=content,
        )

    def _check_request(self, session: Session) -> None:
        """Refuse what cannot be asked, before a row is staged."""
        request = session.request
        in_batches = self.config.facts.runs_here or request.options.via == Via.BATCH
        check_endpoint(session.model, request.task, self.config, in_batches=in_batches)
        check_route(session.model, request.options, self.config)
        check_examples(session)
        check_images(session)
        if request.options.packs and not endpoint_of(request.task.endpoint).takes_lists:
            check_packing(request.task, request.options.rows_per_request)

    def _record_content(self, session: Session, content: Content | None) -> None:
        """Have `finish` record it, as it does the publication."""
        with self._lock:
            if content:
                self._contents[session.run.id] = content

    def _record_publication(self, session: Session, kept: int = 0) -> None:
        """Have `finish` record it: a table that dbt cannot commit is not published."""
        with self._lock:
            self._publications[session.run.id] = publication(session, kept)

    def record_task(self, session: Session) -> None:
        """Have the ledger know the task whose answers come home."""
        request, task = session.request, session.request.task
        session.run.ledger.tasks.add(
            session.task_key,
            enrichment=request.enrichment,
            document=task.document(self.config.answered_by(task.model, task.endpoint)),
            outputs=[asdict(output) for output in task.outputs],
        )

    def _preview(self, session: Session, rows: StagedRows) -> Outcome:
        with self.service.use() as (service, _):
            previewed = preview(
                session.run, rows, session.request, session.select(), self.config, service
            )
        for row in previewed.rows:
            self._console.say(str(row))
        report({"preview": asdict(previewed)})
        status = f"rows previewed: {len(previewed.rows):,}"
        return unpublished(session, previewed.sentence, status=status)


def _rows_touched(published: Published) -> int | None:
    if published.touched is None:
        return None
    return max(published.touched, published.gone)


def _staged(session: Session) -> StagedRows:
    """Check, key and copy the rows out of the user's database."""
    request, task = session.request, session.request.task
    if request.merged_into and request.options.mode != Mode.PREVIEW:
        check_columns(request.relation, task)
        forgotten = session.run.ledger.answers.forgotten()
        stage_unfinished(request.relation, task.outputs, request.merged_into, forgotten)
    with session.timings.span(Stage.STAGE) as span:
        rows = stage(
            request.relation,
            task,
            session.task_key,
            session.run.workspace,
            request.upstream,
            reading_of(session),
        )
        span.rows, span.bytes = rows.rows, rows.bytes
    warning = unusable_warning(rows)
    if warning:
        session.console.warn(warning)
    return rows


def _undone(session: Session, rows: StagedRows, selection: Selection) -> Undone:
    """Find the rows that are not done, once all answers that are somewhere are taken in."""
    run, request = session.run, session.request
    undone = find_undone(run, rows, selection.answer_keys)
    if undone.rows and recover_answers(run, undone, request, selection):
        undone.remove()
        undone = find_undone(run, rows, selection.answer_keys)
    if undone.rows and keep_previous_answers(run, rows, undone, request, selection):
        undone.remove()
        undone = find_undone(run, rows, selection.answer_keys)
    return undone
