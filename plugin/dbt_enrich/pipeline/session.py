"""What the stages of one run share: the request, where its work is done, and what came of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime

from dbt_enrich.config import PluginConfig
from dbt_enrich.console.console import Console
from dbt_enrich.console.progress import Progress
from dbt_enrich.console.timings import Timings
from dbt_enrich.endpoints.choice import endpoint_of
from dbt_enrich.errors import StoppedError
from dbt_enrich.pipeline.export.destination import Destination
from dbt_enrich.pipeline.export.new_requests import Chosen, Selection, Undone
from dbt_enrich.pipeline.export.outgoing import Outgoing
from dbt_enrich.pipeline.export.relayed_rounds import Relayed, is_relayed, routes_of
from dbt_enrich.pipeline.planning.budget import Budget, ModelBudget, Reservation
from dbt_enrich.pipeline.request import EnrichmentRequest, Tally
from dbt_enrich.pipeline.run.alike_failures import standing_error, standing_stop
from dbt_enrich.pipeline.run.breaker import LEAST_ANSWERS, Tolerance
from dbt_enrich.pipeline.run.deployments import Spread
from dbt_enrich.pipeline.run.dispatch import Dispatch, ShardFiles
from dbt_enrich.pipeline.run.token_quota import TokenRoom
from dbt_enrich.pipeline.stage.staged_rows import StagedRows
from dbt_enrich.services.base import BatchService
from dbt_enrich.services.relay import Relay
from dbt_enrich.state.run import Run
from dbt_enrich.state.sent_with import SentWith, present_settings
from dbt_enrich.task.options import Via

# The rows that are not done, and the requests of them that are new.
Found = tuple[Undone, Chosen]


@dataclass(frozen=True)
class Session:
    """One run of one model, from staging to publishing.

    `began` is when the run began, with its first dbt where a command runs several.
    """

    request: EnrichmentRequest
    task_key: str
    config: PluginConfig
    namespace: str
    run: Run
    console: Console
    progress: Progress
    cancelled: threading.Event
    tally: Tally
    timings: Timings
    budget: Budget
    began: datetime
    model_budget: ModelBudget = field(default_factory=ModelBudget)

    @property
    def model(self) -> str:
        """The dbt model's name."""
        return self.request.relation.model

    @property
    def reservation(self) -> Reservation:
        """In whose name requests are taken from the caps."""
        request = self.request
        return Reservation(self.model, request.enrichment, request.task.model, request.options)

    def select(self) -> Selection:
        """Return what decides now which of the rows' requests are new.

        It is read once a round: a `retry` of the user may have come meanwhile.
        """
        options = self.request.options
        return Selection(
            task=self.request.task,
            task_key=self.task_key,
            endpoint=endpoint_of(self.request.task.endpoint),
            max_attempts=options.max_attempts,
            ask_again=options.ask_again,
            retries=self.run.ledger.retries.of(self.request.enrichment),
            packing=self.request.packing,
            keeps_previous=options.on_task_change == "new_rows",
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
                self.task_key, self.sent_with, self.tolerance, self.run.ledger, self.began
            )
        return standing_error(self.model, stop) if stop else None

    def outgoing(
        self,
        rows: StagedRows,
        found: Found,
        selection: Selection,
        service: BatchService | None = None,
    ) -> Outgoing:
        """What a round would send.

        Args:
            rows: The staged rows.
            found: What was chosen of them.
            selection: What decided.
            service: Where it goes; None where it is only counted.
        """
        undone, chosen = found
        return Outgoing(
            run=self.run,
            rows=rows,
            undone=undone,
            chosen=chosen,
            request=self.request,
            selection=selection,
            destination=self.destination(selection, service or self.config),
            price=self.config.price(selection.task.model),
        )

    def destination(self, selection: Selection, at: BatchService | PluginConfig) -> Destination:
        """Return where requests go: to a service, or where the configuration says."""
        service, options = at.service_id, self.request.options
        deployments = self.config.deployments_of(selection.task.model)
        relayed = None
        if is_relayed(options, self.config):
            routes = routes_of(selection.task.model, options, self.config)
            spread = Spread(routes, service, self.room, self.run.ledger)
            relayed = Relayed(options.sync_below if options.via == Via.BATCH else None, spread)
        return Destination(
            enrichment=self.request.enrichment,
            spread=Spread(deployments, service, self.room, self.run.ledger),
            service=service,
            limits=at.limits,
            line_url=self.config.url_of(selection.endpoint.path),
            namespace=self.namespace,
            owner=self.run.id,
            sent_with=self.sent_with,
            tolerance=self.tolerance,
            relayed=relayed,
        )

    @property
    def room(self) -> TokenRoom:
        """How many tokens the deployments' batches may hold."""
        return TokenRoom(self.run.ledger, self.config.token_limit)

    def dispatch(self, service: BatchService, relay: Relay, files: ShardFiles) -> Dispatch:
        """What takes the run's shards through a service, and through the relay before it."""
        return Dispatch(
            run=self.run,
            config=self.config,
            service=service,
            relay=relay,
            poll_interval=self.config.poll_seconds,
            await_timeout=self.request.options.await_timeout,
            cancelled=self.cancelled,
            progress=self.progress,
            console=self.console,
            timings=self.timings,
            files=files,
        )
