"""What the stages of one run share: the request, where its work is done, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from dbt_enrich.config.file_limits import ServiceLimits
from dbt_enrich.config.profile import PluginConfig
from dbt_enrich.console.progress import Progress
from dbt_enrich.console.timings import Timings
from dbt_enrich.cost.money import money_text
from dbt_enrich.endpoints.packs import Packing
from dbt_enrich.errors import StoppedError
from dbt_enrich.pipeline.breaker import LEAST_ANSWERS, Tolerance
from dbt_enrich.pipeline.budget import Budget, ModelBudget, Reservation, run_began
from dbt_enrich.pipeline.canary import is_proven
from dbt_enrich.pipeline.destination import Destination
from dbt_enrich.pipeline.few import Few, route_of
from dbt_enrich.pipeline.owed import Upstream
from dbt_enrich.pipeline.plan import PlanInputs
from dbt_enrich.pipeline.publish import Published
from dbt_enrich.pipeline.room import TokenRoom
from dbt_enrich.pipeline.selection import Chosen, NewRequests, Selection, Undone
from dbt_enrich.pipeline.spread import Spread
from dbt_enrich.pipeline.stage import StagedRows
from dbt_enrich.pipeline.stops import standing_error, standing_stop
from dbt_enrich.services.base import BatchService
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.sent_with import SentWith, present_settings
from dbt_enrich.state.shards import Shard
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.failures import final_sentence
from dbt_enrich.task.options import EnrichmentOptions
from dbt_enrich.warehouse.constraints import Constraint
from dbt_enrich.warehouse.enriched_table import ExistingTable
from dbt_enrich.warehouse.placement import Placement
from dbt_enrich.warehouse.relation import StagedRelation
from dbt_enrich.wording import counted
from dbt_enrich.workspace.database import Workspace

STATUSES = ("done", "pending", "stale", "failed", "skipped")


@dataclass(frozen=True)
class EnrichmentRequest:
    """What one model asks of the engine.

    Attributes:
        relation: The staged rows.
        task: What is asked of them.
        options: How far the run goes.
        enrichment: The dbt model's unique id.
        existing: The enriched table that is there already, or None.
        target: The enriched table, quoted and qualified, or None where it has no name.
        full_refresh: Whether the table is built anew, whatever the options say.
        upstream: Other enrichments that the model reads.
        empty: Whether dbt builds without rows (`--empty`), so that nothing is sent or waited for.
        constraints: Constraints of an enforced contract.
        placement: Where it is published.
    """

    relation: StagedRelation
    task: EnrichmentTask
    options: EnrichmentOptions
    enrichment: str
    existing: ExistingTable | None = None
    target: str | None = None
    full_refresh: bool = False
    upstream: tuple[Upstream, ...] = ()
    empty: bool = False
    constraints: tuple[Constraint, ...] = ()
    placement: Placement = field(default_factory=Placement)

    def identified(self) -> EnrichmentRequest:
        """Return the request with the task whose answers are its own."""
        if self.options.pack_shares_answers or not self.options.packs:
            return self
        variant = f"{self.task.variant or ''}:packed"
        return replace(self, task=self.task.model_copy(update={"variant": variant}))

    @property
    def merged_into(self) -> ExistingTable | None:
        """The table that the rows are merged into, or None where it is built from them."""
        merges = self.options.publish == "merge" and not self.full_refresh
        return self.existing if merges else None


@dataclass(frozen=True)
class Figures:
    """What one run did, in numbers, beside the rows that it published.

    Attributes:
        mode: How far the run went.
        requests: Requests that it sent.
        prompt_tokens: Tokens of the prompts whose answers the run took in.
        cached_tokens: How many of them the service had cached.
        completion_tokens: Tokens of those answers.
        cost: What those answers cost, or None if a price is unknown.
        saved: What the synchronous price would have been more, or None.
        currency: What cost and saved are in.
    """

    mode: str
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    saved: float | None = None
    currency: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a request.

    Attributes:
        run_id: The run, whose scratch directory `Engine.finish` removes after publishing.
        enriched_sql: SELECT of the enriched table.
        errors_sql: SELECT of the errors table.
        summary: One line for the log.
        figures: What the run did, in numbers.
        status: What dbt's result line says of a run that publishes no rows.
        warning: What dbt is to warn of, or empty.
        replaces: Whether an existing table is replaced. `plan` and `preview` leave it alone, and
            make empty, typed tables where there are none.
        merges: Whether the rows are merged into an existing table rather than replacing it.
        comment: What the table's comment says of how it was made.
        rows: How many rows the table has, or are merged.
    """

    run_id: str
    enriched_sql: str
    errors_sql: str
    summary: str
    figures: Figures
    status: str = ""
    warning: str = ""
    replaces: bool = True
    merges: bool = False
    comment: str = ""
    rows: int = 0


@dataclass
class Tally:
    """What one run did, beside the rows' statuses."""

    sent: int = 0
    requests: int = 0
    reused: int = 0
    stored: list[Shard] = field(default_factory=list)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompts whose answers were stored."""
        return sum(shard.prompt_tokens or 0 for shard in self.stored)

    @property
    def cached_tokens(self) -> int:
        """How many of them the service had cached."""
        return sum(shard.cached_tokens or 0 for shard in self.stored)

    @property
    def completion_tokens(self) -> int:
        """Tokens of the answers that were stored."""
        return sum(shard.completion_tokens or 0 for shard in self.stored)


@dataclass(frozen=True)
class Session:
    """One run of one model, from staging to publishing.

    `claimed` has the SELECTs of the requests of claimed shards whose files are still to be written.
    `began` is when the run began, with its first dbt where a command runs several.
    """

    run_id: str
    request: EnrichmentRequest
    task_key: str
    config: PluginConfig
    namespace: str
    workspace: Workspace
    ledger: Ledger
    store: StateDirectory
    progress: Progress
    tally: Tally
    timings: Timings
    budget: Budget
    model_budget: ModelBudget = field(default_factory=ModelBudget)
    claimed: dict[str, str] = field(default_factory=dict)
    began: datetime = field(default_factory=run_began)

    @property
    def model(self) -> str:
        """The dbt model's name."""
        return self.request.relation.model

    @property
    def reservation(self) -> Reservation:
        """In whose name requests are taken from the caps."""
        request = self.request
        return Reservation(self.model, request.enrichment, request.task.model, request.options)

    @property
    def packing(self) -> Packing | None:
        """How many rows go into one request, or None for one."""
        options = self.request.options
        if not options.packs:
            return None
        return Packing(rows=options.rows_per_request, tokens=options.tokens_per_request)

    @property
    def selection(self) -> Selection:
        """What decides which of the rows' requests are new."""
        options = self.request.options
        return Selection(
            task=self.request.task,
            task_key=self.task_key,
            max_attempts=options.max_attempts,
            ask_again=options.ask_again,
            retries=self.ledger.retries(self.request.enrichment),
            packing=self.packing,
            keeps_former=options.on_task_change == "new_rows",
            sent_with=self.sent_with,
            tolerance=self.tolerance,
            began=self.began,
            lost_since=self.budget.opened_at,
        )

    @property
    def sent_with(self) -> SentWith:
        """What the run's requests are sent with, apart from what identifies them."""
        return present_settings(self.request.task, self.request.options, self.config)

    @property
    def tolerance(self) -> Tolerance:
        """How many failures alike the run bears."""
        options = self.request.options
        return Tolerance(
            options.max_failed_share, min(LEAST_ANSWERS, options.canary or LEAST_ANSWERS)
        )

    def refusal_to_go_on(self, requests: int) -> StoppedError | None:
        """Return why so many requests are not sent, as an earlier run was stopped, or None."""
        stop = None
        if requests:
            stop = standing_stop(
                self.task_key, self.sent_with, self.tolerance, self.ledger, self.began
            )
        return standing_error(self.model, stop) if stop else None

    def is_proven(self) -> bool:
        """Whether the task has answers from which all is known to be well."""
        return is_proven(
            self.selection, workspace=self.workspace, ledger=self.ledger, store=self.store
        )

    def plan_inputs(self, rows: StagedRows, undone: Undone, chosen: Chosen) -> PlanInputs:
        """Where a plan for what was chosen of the staged rows is read from."""
        settings = self.config.service_settings()
        return PlanInputs(
            rows=rows,
            undone=undone,
            chosen=chosen,
            relation=self.request.relation,
            selection=self.selection,
            destination=self._destination(
                settings.service_id, settings.limits, settings.request_url
            ),
            price=self.config.task_price(self.request.task),
            workspace=self.workspace,
            ledger=self.ledger,
            store=self.store,
        )

    def destination(self, service: BatchService) -> Destination:
        """Where the run's requests go."""
        return self._destination(service.service_id, service.limits, service.line_url)

    def _destination(self, service: str, limits: ServiceLimits, line_url: str) -> Destination:
        deployments = self.config.deployments_of(self.request.task.model)
        options = self.request.options
        few = None
        if options.sync_below:
            alone = (route_of(self.request.task.model, options, self.config),)
            spread = Spread(alone, service, self.room, self.ledger)
            few = Few(options.sync_below, spread)
        return Destination(
            enrichment=self.request.enrichment,
            spread=Spread(deployments, service, self.room, self.ledger),
            service=service,
            limits=limits,
            line_url=line_url,
            namespace=self.namespace,
            owner=self.run_id,
            sent_with=self.sent_with,
            tolerance=self.tolerance,
            few=few,
        )

    @property
    def room(self) -> TokenRoom:
        """How many tokens the deployments' batches may hold."""
        return TokenRoom(self.ledger, self.config.token_limit)


def plan_sentence(rows: StagedRows, fresh: NewRequests, reused: int) -> str:
    """Say what a run is about to send, before it does."""
    again = f" ({fresh.again:,} of them again)" if fresh.again else ""
    parts = [
        f"{counted(rows.rows, 'row')}: {reused:,} answered before",
        f"{counted(fresh.requests, 'request')} to send{again}",
    ]
    if fresh.equal:
        parts.append(f"{counted(fresh.equal, 'row')} equal to others")
    if fresh.in_flight:
        parts.append(f"{fresh.in_flight:,} in flight")
    if rows.owed:
        parts.append(f"{rows.owed:,} waiting for the text of {' and '.join(rows.waits_for)}")
    if rows.skipped:
        parts.append(f"{rows.skipped:,} skipped")
    return ", ".join(parts)


def summary(model: str, published: Published, tally: Tally) -> str:
    """Say in one line what a run did: rows by status, reused, sent, tokens."""
    counts = published.counts
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in published.errors.items())
    details = {"failed": f" ({kinds})"}
    statuses = [
        f"{counts.get(status, 0):,} {status}{details.get(status, '')}"
        for status in STATUSES
        if status == "done" or counts.get(status)
    ]
    final = final_sentence(model, published.finals)
    return (
        f"{model}: {', '.join(statuses)}; {tally.reused:,} reused, {tally.sent:,} sent, "
        f"{tally.prompt_tokens:,} input and {tally.completion_tokens:,} output tokens"
        + (f"; {final}" if final else "")
    )


def status_sentence(counts: Mapping[str, int], cost: float | None, currency: str | None) -> str:
    """Say what a run published and what its answers cost, for dbt's own result line."""
    parts = [
        f"{counts.get(status, 0):,} {status}"
        for status in STATUSES
        if status == "done" or counts.get(status)
    ]
    if cost is not None:
        parts.append(money_text(cost, currency or ""))
    return ", ".join(parts)
