"""Enrich one relation: the four stages in their order, for every mode."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field

from dbt_enrich.config import PluginConfig
from dbt_enrich.errors import ConfigurationError, FailedRowsError
from dbt_enrich.identity import answered_by
from dbt_enrich.ledger import AT_SERVICE_STEPS, Ledger, Shard, Step
from dbt_enrich.pipeline.answers import answers_sql, standing_sql
from dbt_enrich.pipeline.export import Export, NewRequests, export, new_requests
from dbt_enrich.pipeline.load import load, outputs_of
from dbt_enrich.pipeline.preview import PreviewedRow, answer_problem, preview
from dbt_enrich.pipeline.progress import Progress
from dbt_enrich.pipeline.publish import ExistingTable, Published, empty_table_sql, publish
from dbt_enrich.pipeline.recover import adopt_batches, recover_answers
from dbt_enrich.pipeline.run import BatchRun, RunSettings
from dbt_enrich.pipeline.stage import StagedRelation, StagedRows, stage
from dbt_enrich.services import create_service
from dbt_enrich.services.base import BatchService
from dbt_enrich.sql import literal
from dbt_enrich.store import RunLock, StateDirectory
from dbt_enrich.task import EnrichmentOptions, EnrichmentTask, Mode
from dbt_enrich.workspace import Workspace

_POLL_SECONDS = {"local": 2.0}
_REMOTE_POLL_SECONDS = 60.0
_GRACE_SECONDS = {"local": 2.0}
_REMOTE_GRACE_SECONDS = 600.0


@dataclass(frozen=True)
class EnrichmentRequest:
    """What one model asks of the engine.

    Attributes:
        relation: The staged rows.
        task: What is asked of them.
        options: How far the run goes.
        enrichment: The dbt model's unique id.
        existing: The enriched table that is there already, or None.
    """

    relation: StagedRelation
    task: EnrichmentTask
    options: EnrichmentOptions
    enrichment: str
    existing: ExistingTable | None = None


@dataclass
class Tally:
    """What one run did, beside the rows' statuses."""

    sent: int = 0
    reused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add_tokens(self, shard: Shard) -> None:
        """Count the tokens of a shard that was stored."""
        self.prompt_tokens += shard.prompt_tokens or 0
        self.completion_tokens += shard.completion_tokens or 0


@dataclass(frozen=True)
class Outcome:
    """What came of a request.

    Attributes:
        run_id: The run, whose scratch directory `Engine.finish` removes after publishing.
        enriched_sql: SELECT of the enriched table; of an empty one in `plan` and `preview`.
        errors_sql: SELECT of the errors table, or None in `plan` and `preview`.
        summary: One line for the log.
        counts: Rows by status.
    """

    run_id: str
    enriched_sql: str
    errors_sql: str | None
    summary: str
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Session:
    """What the stages of one run share."""

    run_id: str
    request: EnrichmentRequest
    task_key: str
    workspace: Workspace
    ledger: Ledger
    progress: Progress
    tally: Tally


class Engine:
    """Enriches relations for one profile; used by several dbt threads at once.

    Args:
        config: The plugin's configuration.
        project: The dbt project's name, the default namespace.
        log: Takes a line for the user's log.
        warn: Takes a warning for the user's log.
    """

    def __init__(
        self,
        config: PluginConfig,
        *,
        project: str,
        log: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self.config = config
        self.namespace = config.namespace or project
        self.cancelled = threading.Event()
        self._log = log
        self._warn = warn
        self._lock = threading.RLock()
        self._service: BatchService | None = None
        self._service_users = 0
        self._adopted = False
        self._checked: set[str] = set()
        self._runs: dict[str, RunLock] = {}

    def enrich(self, request: EnrichmentRequest) -> Outcome:
        """Enrich a relation as far as its mode says.

        Returns:
            The SELECTs that publish the result. Call `finish` with its run_id afterwards.

        Raises:
            EnrichmentError: Something is wrong with the input, the service or the state directory,
                or rows failed that `fail_on` names. Paid answers are safe in every case.
        """
        self.config.service_settings()
        store = StateDirectory(self.config.state_dir)
        store.sweep_runs()
        run_id = f"run-{secrets.token_hex(8)}"
        with ExitStack() as stack:
            run = store.begin_run(run_id)
            stack.callback(run.remove)
            ledger = stack.enter_context(Ledger(store.ledger))
            workspace = Workspace(
                run.path, memory_limit=self.config.memory_limit, threads=self.config.threads
            )
            stack.callback(workspace.close)
            session = _Session(
                run_id=run_id,
                request=request,
                task_key=request.task.task_key(answered_by(self.config, request.task.model)),
                workspace=workspace,
                ledger=ledger,
                progress=Progress(request.relation.model, self._log),
                tally=Tally(),
            )
            outcome = self._enrich(session, store)
            # The scratch files are read once more, by the SELECTs that publish.
            stack.pop_all()
            ledger.close()
            workspace.close()
            with self._lock:
                self._runs[run_id] = run
            return outcome

    def finish(self, run_id: str) -> None:
        """Remove the scratch files of a run whose result is published."""
        with self._lock:
            run = self._runs.pop(run_id, None)
        if run:
            run.remove()

    def _enrich(self, session: _Session, store: StateDirectory) -> Outcome:
        request, workspace, ledger = session.request, session.workspace, session.ledger
        task, options = request.task, request.options
        self._check_examples(session)
        rows = stage(request.relation, task, session.task_key, workspace)
        if options.mode == Mode.PREVIEW:
            return self._preview(session, rows)
        ledger.add_task(
            session.task_key,
            enrichment=request.enrichment,
            document=task.document(answered_by(self.config, task.model)),
            outputs=[asdict(output) for output in task.outputs],
        )
        if request.existing:
            recover_answers(
                rows, request.relation, task, session.task_key, request.existing,
                workspace=workspace, ledger=ledger, store=store,
            )  # fmt: skip
        session.tally.reused = self._answered_rows(session, rows, store)
        if options.mode == Mode.PLAN:
            return self._plan(session, rows, store)
        self._exchange(session, rows, store)
        published = publish(
            rows,
            request.relation,
            task,
            session.task_key,
            existing=request.existing if options.on_pending == "keep" else None,
            workspace=workspace,
            ledger=ledger,
            store=store,
        )
        self._judge(session, published)
        return Outcome(
            run_id=session.run_id,
            enriched_sql=published.enriched_sql,
            errors_sql=published.errors_sql,
            summary=_summary(request.relation.model, published, session.tally),
            counts=published.counts,
        )

    def _exchange(self, session: _Session, rows: StagedRows, store: StateDirectory) -> None:
        """Send what is new and take in what is finished, if there is anything of either."""
        mode = session.request.options.mode
        sends = mode in (Mode.RUN, Mode.SUBMIT)
        fresh = self._count_new(session, rows, store) if sends else None
        in_flight = session.ledger.open_shards(task_key=session.task_key)
        leftovers = self._leftovers(session, store)
        if not (mode == Mode.COLLECT or in_flight or leftovers or (fresh and fresh.requests)):
            return
        with self._use_service() as service:
            if fresh and fresh.requests:
                self._check_deployment(service, session.request.task.model)
            if not self._adopted:
                adopt_batches(
                    service, self.namespace, workspace=session.workspace, ledger=session.ledger,
                    store=store, warn=session.progress.say,
                )  # fmt: skip
                self._adopted = True
            batch_run = self._batch_run(session, service, store)
            if mode == Mode.RUN:
                self._run_to_the_end(session, rows, store, service, batch_run)
            else:
                self._collect(session, store, service, batch_run)
            if mode == Mode.SUBMIT:
                self._submit(session, rows, store, service, batch_run)
            self._collect_leftovers(session, store, batch_run)

    def _run_to_the_end(
        self,
        session: _Session,
        rows: StagedRows,
        store: StateDirectory,
        service: BatchService,
        batch_run: BatchRun,
    ) -> None:
        """Send, wait and load until no row is to be asked again."""
        while True:
            self._export(session, rows, store, service)
            waiting = session.ledger.open_shards(
                service=service.service_id, task_key=session.task_key
            )
            if not waiting:
                break
            for shard in batch_run.wait(waiting):
                self._load(session, shard, store)
            if session.ledger.open_shards(service=service.service_id, task_key=session.task_key):
                break
        self._name_other_services(session, service)

    def _submit(
        self,
        session: _Session,
        rows: StagedRows,
        store: StateDirectory,
        service: BatchService,
        batch_run: BatchRun,
    ) -> None:
        shards = self._export(session, rows, store, service)
        batch_run.submit(shards)

    def _collect(
        self, session: _Session, store: StateDirectory, service: BatchService, batch_run: BatchRun
    ) -> None:
        shards = session.ledger.open_shards(service=service.service_id, task_key=session.task_key)
        for shard in batch_run.collect(s for s in shards if s.step in AT_SERVICE_STEPS):
            self._load(session, shard, store)

    def _export(
        self, session: _Session, rows: StagedRows, store: StateDirectory, service: BatchService
    ) -> list[Shard]:
        spec = self._export_spec(session, service)
        shards = export(
            rows, session.request.relation, spec,
            workspace=session.workspace, ledger=session.ledger, store=store,
        )  # fmt: skip
        session.tally.sent += sum(shard.requests for shard in shards)
        return shards

    def _export_spec(self, session: _Session, service: BatchService | None) -> Export:
        task = session.request.task
        return Export(
            task=task,
            task_key=session.task_key,
            enrichment=session.request.enrichment,
            deployment=self.config.deployment(task.model),
            service=service.service_id if service else "",
            limits=service.limits if service else None,
            line_url=service.line_url if service else "",
            namespace=self.namespace,
            owner=session.run_id,
            max_attempts=session.request.options.max_attempts,
        )

    def _count_new(
        self, session: _Session, rows: StagedRows, store: StateDirectory
    ) -> NewRequests:
        """Count what will be sent, and say it before it is."""
        fresh = new_requests(
            rows, self._export_spec(session, None),
            workspace=session.workspace, ledger=session.ledger, store=store,
        )  # fmt: skip
        if fresh.requests or fresh.in_flight:
            session.progress.say(_plan_sentence(rows, fresh, session.tally.reused))
        return fresh

    def _load(self, session: _Session, shard: Shard, store: StateDirectory) -> None:
        outputs = outputs_of(session.ledger, shard.task_key)
        if outputs is None:
            # An adopted batch of a task that no model here has: its files stay until one does.
            session.progress.say(
                f"batch {shard.batch_id} answers a task that no model of this project asks now; "
                f"its answers are kept in {store.root}"
            )
            return
        loaded = load(
            shard, outputs, workspace=session.workspace, ledger=session.ledger, store=store,
            keep_files=self.config.keep_files,
        )  # fmt: skip
        session.tally.add_tokens(loaded.shard)

    def _leftovers(self, session: _Session, store: StateDirectory) -> list[Shard]:
        """Return batches of this model's former tasks, and adopted ones, that nobody waits for."""
        everything = session.request.options.mode == Mode.COLLECT
        return [
            shard
            for shard in session.ledger.open_shards()
            if shard.task_key != session.task_key
            and shard.step in AT_SERVICE_STEPS
            and (everything or shard.enrichment in (session.request.enrichment, None))
            and (shard.owner is None or not store.is_alive(shard.owner))
            and (
                shard.step != Step.DOWNLOADED
                or session.ledger.task_outputs(shard.task_key) is not None
            )
        ]

    def _collect_leftovers(
        self, session: _Session, store: StateDirectory, batch_run: BatchRun
    ) -> None:
        """Keep what was paid for: answers to former prompts are stored, though not published."""
        service_id = batch_run.service.service_id
        leftovers = [s for s in self._leftovers(session, store) if s.service == service_id]
        for shard in batch_run.collect(leftovers):
            self._load(session, shard, store)

    def _name_other_services(self, session: _Session, service: BatchService) -> None:
        elsewhere = [
            shard
            for shard in session.ledger.open_shards(task_key=session.task_key)
            if shard.service != service.service_id
        ]
        if elsewhere:
            names = ", ".join(sorted({shard.service for shard in elsewhere}))
            session.progress.say(
                f"{sum(shard.requests for shard in elsewhere)} requests are in flight at {names}; "
                "run with that target to collect them"
            )

    def _batch_run(
        self, session: _Session, service: BatchService, store: StateDirectory
    ) -> BatchRun:
        provider = self.config.provider
        poll = self.config.poll_interval or _POLL_SECONDS.get(provider, _REMOTE_POLL_SECONDS)
        grace = self.config.adoption_grace
        if grace is None:
            grace = _GRACE_SECONDS.get(provider, _REMOTE_GRACE_SECONDS)
        return BatchRun(
            service=service,
            ledger=session.ledger,
            store=store,
            settings=RunSettings(
                owner=session.run_id,
                poll_interval=poll,
                adoption_grace=grace,
                await_timeout=session.request.options.await_timeout,
            ),
            cancelled=self.cancelled,
            progress=session.progress,
            warn=lambda text: self._warn(f"{session.request.relation.model}: {text}"),
        )

    def _check_deployment(self, service: BatchService, model: str) -> None:
        """Check endpoint, key and deployment once, before anything is uploaded."""
        deployment = self.config.deployment(model)
        with self._lock:
            if deployment in self._checked:
                return
            service.check(deployment)
            self._checked.add(deployment)

    def _check_examples(self, session: _Session) -> None:
        task = session.request.task
        for number, example in enumerate(task.examples, start=1):
            problem = answer_problem(json.dumps(example.answer), task, session.workspace)
            if problem:
                raise ConfigurationError(
                    f"model '{session.request.relation.model}': the answer of enrichment.examples "
                    f"number {number} does not fit the output columns ({problem}); mend it, as the "
                    "language model copies what the examples show"
                )

    def _answered_rows(
        self, session: _Session, rows: StagedRows, store: StateDirectory
    ) -> int:
        keys = f"read_parquet({literal(rows.keys)})"
        answers = answers_sql(session.ledger, store, session.task_key)
        (count,) = session.workspace.row(
            f"select count(*) from {keys} as keys where request_key in "
            f"(select request_key from ({standing_sql(answers, keys)}) where kind = 'done')"
        )
        return int(count)

    def _plan(self, session: _Session, rows: StagedRows, store: StateDirectory) -> Outcome:
        spec = self._export_spec(session, None)
        fresh = new_requests(
            rows, spec, workspace=session.workspace, ledger=session.ledger, store=store
        )
        sentence = _plan_sentence(rows, fresh, session.tally.reused)
        return self._unpublished(session, f"{session.request.relation.model}: {sentence}")

    def _preview(self, session: _Session, rows: StagedRows) -> Outcome:
        request = session.request
        options = request.options
        deployment = options.preview_model or self.config.deployment(request.task.model)
        with self._use_service() as service:
            previewed: list[PreviewedRow] = preview(
                rows, request.relation, request.task,
                deployment=deployment, limit=options.preview_rows,
                service=service, workspace=session.workspace,
            )  # fmt: skip
        for row in previewed:
            self._log(str(row))
        problems = sum(row.problem is not None for row in previewed)
        return self._unpublished(
            session,
            f"{request.relation.model}: previewed {len(previewed)} rows by {deployment}, "
            f"{problems} would fail; nothing was stored",
        )

    def _unpublished(self, session: _Session, summary: str) -> Outcome:
        request = session.request
        empty = empty_table_sql(request.relation, request.task.outputs)
        return Outcome(session.run_id, enriched_sql=empty, errors_sql=None, summary=summary)

    def _judge(self, session: _Session, published: Published) -> None:
        named = session.request.options.fail_on
        failed = {
            kind: count
            for kind, count in published.errors.items()
            if kind in named or "any" in named
        }
        if not failed:
            return
        said = ", ".join(f"{count} {kind}" for kind, count in failed.items())
        raise FailedRowsError(
            f"model '{session.request.relation.model}': rows failed that fail_on names ({said}); "
            "the former table stays and all answers are kept. Mend the rows or the prompt, or take "
            "the kind out of fail_on to publish the table with them"
        )

    @contextmanager
    def _use_service(self) -> Iterator[BatchService]:
        """Share one service between the models that run at once, and close it with the last."""
        with self._lock:
            if self._service is None:
                self._service = create_service(self.config.service_settings())
            self._service_users += 1
            service = self._service
        try:
            yield service
        finally:
            with self._lock:
                self._service_users -= 1
                if self._service_users == 0:
                    self._service = None
                    service.close()


def _plan_sentence(rows: StagedRows, fresh: NewRequests, reused: int) -> str:
    again = f" ({fresh.again:,} of them again)" if fresh.again else ""
    parts = [
        f"{rows.rows:,} rows: {reused:,} answered before",
        f"{fresh.requests:,} requests to send{again}",
    ]
    if fresh.equal:
        parts.append(f"{fresh.equal:,} rows equal to others")
    if fresh.in_flight:
        parts.append(f"{fresh.in_flight:,} in flight")
    if rows.skipped:
        parts.append(f"{rows.skipped:,} skipped")
    return ", ".join(parts)


def _summary(model: str, published: Published, tally: Tally) -> str:
    counts = published.counts
    parts = [f"{counts.get('done', 0):,} done"]
    for status in ("pending", "stale", "failed", "skipped"):
        if counts.get(status):
            parts.append(f"{counts[status]:,} {status}")
    if published.errors:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in published.errors.items())
        parts[-1 if not counts.get("skipped") else -2] += f" ({kinds})"
    tokens = f"{tally.prompt_tokens:,} + {tally.completion_tokens:,} tokens"
    return (
        f"{model}: {', '.join(parts)}; {tally.reused:,} reused, {tally.sent:,} sent, {tokens}"
    )
