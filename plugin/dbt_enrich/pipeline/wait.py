"""Wait: batches that were submitted, brought home without a warehouse."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass

from dbt_enrich.config import PluginConfig
from dbt_enrich.console.console import Console
from dbt_enrich.errors import StoppedError
from dbt_enrich.pipeline.without_warehouse import attached


@dataclass(frozen=True)
class Waited:
    """What came home.

    Attributes:
        batches: Batches that were in flight.
        stored: Valid answers that are in the answer store now.
        open: Batches that are still in flight, or that another run waits for.
    """

    batches: int = 0
    stored: int = 0
    open: int = 0


def wait_for_batches(
    config: PluginConfig,
    namespace: str,
    *,
    models: Collection[str],
    timeout: float | None,
    console: Console,
    cancelled: threading.Event,
) -> Waited:
    """Wait for a project's batches at the service and store what they bring.

    No request is sent that was not on its way. Batches that another live run drives are waited for
    too.

    Args:
        config: The plugin's configuration.
        namespace: The mark of the project's batches.
        models: Names or unique ids of the dbt models; all if empty.
        timeout: Seconds after which waiting ends, or None.
        console: What the user reads.
        cancelled: Set when the user interrupts.

    Raises:
        StoppedError: Too many answers of a task failed alike; its batches are cancelled.
        EnrichmentError: The service or the state directory cannot be used.
    """
    with attached(config, namespace, console) as attachment:
        wanted = [s for s in attachment.open_shards(models) if s.step.is_at_service]
        batch_run = attachment.batch_run(
            poll_interval=config.poll_seconds,
            await_timeout=timeout,
            cancelled=cancelled,
        )
        stored = 0
        stopped: StoppedError | None = None
        for shard in batch_run.wait(wanted):
            stored += attachment.keep([shard])
            try:
                attachment.watch(shard).look()
            except StoppedError as error:
                # Its batches are cancelled by the ledger's word; what they finished comes home.
                stopped = stopped or error
                console.say(str(error))
        if stopped:
            raise stopped
        return Waited(len(wanted), stored, len(attachment.unfinished(wanted)))
