"""Attach: ledger, answer store and service for a command that works without a warehouse."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from dbt_enrich.config import PluginConfig
from dbt_enrich.console.console import Console
from dbt_enrich.console.progress import Progress
from dbt_enrich.console.timings import logged_timings
from dbt_enrich.errors import NotFoundError
from dbt_enrich.pipeline.load.load_shard import take_in
from dbt_enrich.pipeline.recovery.batch_adoption import adopt_batches
from dbt_enrich.pipeline.run.alike_failures import Watch
from dbt_enrich.pipeline.run.batch_run import BatchRun
from dbt_enrich.pipeline.run.breaker import Tolerance
from dbt_enrich.pipeline.run.dispatch import Dispatch
from dbt_enrich.services import BatchService, Relay, create_service
from dbt_enrich.state.run import Run, open_run
from dbt_enrich.state.sent_with import recorded_settings
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.state.tables.publications import Publication
from dbt_enrich.state.tables.tasks import Task
from dbt_enrich.task.model_names import chosen, label


@dataclass(frozen=True)
class Attachment:
    """What a command works with while it is attached.

    Attributes:
        dispatch: What takes shards through the service; it writes and uploads no file.
        namespace: The mark of the project's batches.
    """

    dispatch: Dispatch
    namespace: str

    @property
    def run(self) -> Run:
        """The command's own run, under which it takes shards over."""
        return self.dispatch.run

    def open_shards(self, models: Collection[str]) -> list[Shard]:
        """Return the project's shards in flight at the service, of some models or of all.

        Raises:
            ConfigurationError: A name fits no model that the ledger knows, or more than one.
        """
        wanted = chosen(models, self.run.ledger.enrichments())
        asked: list[Task | Publication] = [
            *self.run.ledger.tasks.all(),
            *self.run.ledger.publications.all(),
        ]
        tasks = {one.task_key for one in asked if one.enrichment in wanted}
        return [
            shard
            for shard in self.run.ledger.shards.open(service=self.dispatch.service.service_id)
            if shard.namespace == self.namespace
            and (
                not wanted
                or shard.enrichment in wanted
                # Its model was unknown when it was found at the service.
                or (shard.enrichment is None and shard.task_key in tasks)
            )
        ]

    def batch_run(
        self, *, poll_interval: float, await_timeout: float | None, cancelled: threading.Event
    ) -> BatchRun:
        """Return what drives shards that were sent to their end."""
        return BatchRun(
            replace(
                self.dispatch,
                poll_interval=poll_interval,
                await_timeout=await_timeout,
                cancelled=cancelled,
            )
        )

    def keep(self, shards: Iterable[Shard]) -> int:
        """Load downloaded shards into the answer store; return how many answers are valid.

        A shard of a task that the ledger does not know stays as it is downloaded.
        """
        loaded = [take_in(self.dispatch, shard) for shard in shards]
        return sum(one.done for one in loaded if one)

    def watch(self, shard: Shard) -> Watch:
        """Return what watches the answers of a shard's task as they come home.

        How many failures alike are borne is what the shard was claimed with.
        """
        usual = Tolerance()
        share, least = shard.max_failed_share, shard.least_answers
        task = self.run.ledger.tasks.get(shard.task_key)
        enrichment = shard.enrichment or (task.enrichment if task else None)
        return Watch(
            model=label(enrichment, self.run.ledger.enrichments()),
            enrichment=enrichment,
            task_key=shard.task_key,
            tolerance=Tolerance(
                usual.max_failed_share if share is None else share,
                usual.least_answers if least is None else least,
            ),
            settings=recorded_settings(shard),
            run=self.run,
        )

    def unfinished(self, shards: Iterable[Shard]) -> list[Shard]:
        """Return the shards whose batches have not been brought home."""
        found = self.run.ledger.shards.named([shard.shard for shard in shards])
        return [s for s in found if not s.is_closed and s.step != Step.DOWNLOADED]


@contextmanager
def attached(
    config: PluginConfig,
    namespace: str,
    console: Console,
) -> Iterator[Attachment]:
    """Open ledger and service, and adopt the batches that the ledger does not know.

    Where the user wants it, the log ends with where the time went.

    Raises:
        EnrichmentError: The service or the state directory cannot be used.
    """
    with ExitStack() as stack:
        run = stack.enter_context(open_run(config, clock=console.clock))
        timings = stack.enter_context(logged_timings(console))
        service = create_service(config, say=console.say)
        stack.callback(service.close)
        relay = Relay(config, say=console.say, clock=console.clock)
        stack.callback(relay.close)
        _adopt(run, service, namespace, console)
        dispatch = Dispatch(
            run=run,
            config=config,
            service=service,
            relay=relay,
            poll_interval=config.poll_seconds,
            await_timeout=None,
            cancelled=threading.Event(),
            progress=Progress(console.of("batches")),
            console=console,
            timings=timings,
        )
        yield Attachment(dispatch, namespace)


def _adopt(run: Run, service: BatchService, namespace: str, console: Console) -> None:
    """Adopt batches; where all that is in flight is with a relay, the service may have none."""
    try:
        adopt_batches(run, service, namespace, console)
    except NotFoundError:
        shards = run.ledger.shards.open(service=service.service_id)
        if not shards or not all(shard.synchronous for shard in shards):
            raise
