"""Cancel: end batches at the service on the user's word, and keep what they have finished."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass

from dbt_enrich.config import PluginConfig
from dbt_enrich.console.console import Console
from dbt_enrich.pipeline.without_warehouse import Attachment, attached
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.wording import counted

_POLL_SECONDS = 10.0


@dataclass(frozen=True)
class Cancellation:
    """What came of it.

    Attributes:
        batches: Batches that were to end.
        requests: Their requests.
        kept: Answers that they had finished, now in the answer store.
        waiting: Batches that another run waits for, and will take in.
        open: Batches that had not ended yet when the waiting was over.
    """

    batches: int = 0
    requests: int = 0
    kept: int = 0
    waiting: int = 0
    open: int = 0


def cancel(
    config: PluginConfig,
    namespace: str,
    *,
    models: Collection[str],
    wait: float,
    console: Console,
    cancelled: threading.Event | None = None,
) -> Cancellation:
    """Cancel the batches of a namespace that are in flight, and store what they finished.

    Args:
        config: The plugin's configuration.
        namespace: The mark of our own batches.
        models: Names or unique ids of the dbt models whose batches end; all if empty.
        wait: Seconds to wait for the service, which takes up to ten minutes.
        console: What the user reads.
        cancelled: Set when the user interrupts.

    Raises:
        EnrichmentError: The service or the state directory cannot be used.
    """
    with attached(config, namespace, console) as attachment:
        wanted = attachment.open_shards(models)
        for shard in wanted:
            _ask(shard, attachment)
        ours = [shard for shard in wanted if not attachment.run.owners.is_driven(shard)]
        batch_run = attachment.batch_run(
            poll_interval=min(config.poll_interval or _POLL_SECONDS, _POLL_SECONDS),
            await_timeout=wait,
            cancelled=cancelled or threading.Event(),
        )
        kept = attachment.keep(batch_run.wait(ours))
        return Cancellation(
            batches=len(wanted),
            requests=sum(shard.requests for shard in wanted),
            kept=kept,
            waiting=len(wanted) - len(ours),
            open=len(attachment.unfinished(ours)),
        )


def _ask(shard: Shard, attachment: Attachment) -> None:
    """Record the wish first, so that the next owner of the shard carries it out."""
    attachment.run.ledger.shards.request_cancel(shard.shard)
    if shard.step == Step.SUBMITTED and shard.batch_id:
        batch = attachment.dispatch.service_of(shard).cancel(shard.batch_id)
        requests = counted(shard.requests, "request")
        attachment.dispatch.console.say(
            f"batch {shard.batch_id} of {requests} is {batch.status.value}"
        )
