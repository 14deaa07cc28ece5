"""Cancel: end batches at the service on the user's word, and keep what they have finished."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass

from dbt_enrich.config import PluginConfig
from dbt_enrich.ledger import Ledger, Shard, Step
from dbt_enrich.pipeline.load import load, outputs_of
from dbt_enrich.pipeline.progress import Progress
from dbt_enrich.pipeline.recover import adopt_batches
from dbt_enrich.pipeline.room import TokenRoom
from dbt_enrich.pipeline.run import BatchRun, RunSettings
from dbt_enrich.services import create_service
from dbt_enrich.services.base import BatchService
from dbt_enrich.store import StateDirectory
from dbt_enrich.workspace import Workspace

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
    log: Callable[[str], None],
    cancelled: threading.Event | None = None,
) -> Cancellation:
    """Cancel the batches of a namespace that are in flight, and store what they finished.

    Args:
        config: The plugin's configuration.
        namespace: The mark of our own batches.
        models: Names or unique ids of the dbt models whose batches end; all if empty.
        wait: Seconds to wait for the service, which takes up to ten minutes.
        log: Takes a line for the user.
        cancelled: Set when the user interrupts.

    Raises:
        EnrichmentError: The service or the state directory cannot be used.
    """
    store = StateDirectory(config.state_dir)
    with ExitStack() as stack:
        run_id = f"run-{secrets.token_hex(8)}"
        run = store.begin_run(run_id)
        stack.callback(run.remove)
        workspace = Workspace(run.path, memory_limit=config.memory_limit, threads=config.threads)
        stack.callback(workspace.close)
        ledger = stack.enter_context(Ledger(store.ledger))
        service = create_service(config.service_settings())
        stack.callback(service.close)
        adopt_batches(service, namespace, workspace=workspace, ledger=ledger, store=store, warn=log)
        wanted = [
            shard
            for shard in ledger.open_shards(service=service.service_id)
            if shard.namespace == namespace and _is_of(shard, models)
        ]
        for shard in wanted:
            _ask(shard, ledger, service, log)
        ours = [s for s in wanted if s.owner is None or not store.is_alive(s.owner)]
        batch_run = BatchRun(
            service=service,
            ledger=ledger,
            store=store,
            settings=RunSettings(
                owner=run_id,
                poll_interval=min(config.poll_interval or _POLL_SECONDS, _POLL_SECONDS),
                adoption_grace=config.adoption_grace or 0.0,
                await_timeout=wait,
            ),
            room=TokenRoom(ledger, config.token_limit),
            cut=lambda _: [],
            cancelled=cancelled or threading.Event(),
            progress=Progress("cancel", log),
            warn=log,
        )
        kept = sum(_keep(shard, config, workspace, ledger, store) for shard in batch_run.wait(ours))
        left = [
            shard
            for shard in ledger.shards([shard.shard for shard in ours])
            if not shard.is_closed and shard.step != Step.DOWNLOADED
        ]
        return Cancellation(
            batches=len(wanted),
            requests=sum(shard.requests for shard in wanted),
            kept=kept,
            waiting=len(wanted) - len(ours),
            open=len(left),
        )


def _is_of(shard: Shard, models: Collection[str]) -> bool:
    if not models:
        return True
    enrichment = shard.enrichment or ""
    return enrichment in models or enrichment.rsplit(".", 1)[-1] in models


def _ask(shard: Shard, ledger: Ledger, service: BatchService, log: Callable[[str], None]) -> None:
    """Note the wish first, so that it is carried out by whoever drives the shard next."""
    ledger.request_cancel(shard.shard)
    if shard.step == Step.SUBMITTED and shard.batch_id:
        batch = service.cancel(shard.batch_id)
        log(f"batch {shard.batch_id} of {shard.requests:,} requests is {batch.status.value}")


def _keep(
    shard: Shard,
    config: PluginConfig,
    workspace: Workspace,
    ledger: Ledger,
    store: StateDirectory,
) -> int:
    outputs = outputs_of(ledger, shard.task_key)
    if outputs is None:
        return 0
    loaded = load(
        shard,
        outputs,
        workspace=workspace,
        ledger=ledger,
        store=store,
        keep_files=config.keep_files,
    )
    return loaded.done
