"""Inputs: the files of batches, at the service or in the container, that may not stay there."""

from __future__ import annotations

from collections.abc import Iterable

from dbt_enrich.buckets.blob_address import is_blob
from dbt_enrich.config import PluginConfig
from dbt_enrich.console.console import Console
from dbt_enrich.endpoints.batch_marks import file_name
from dbt_enrich.errors import ServiceError
from dbt_enrich.services.base import BatchService
from dbt_enrich.services.relay import Relay
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.shards import Shard, Step


def inputs_may_be_left(config: PluginConfig, ledger: Ledger) -> bool:
    """Whether there may still be a file of a closed shard that is not to stay."""
    if config.store_inputs and not config.clears_container:
        return False
    return bool(_to_forget(config, ledger) or _with_lost_uploads(config.service_id, ledger))


def forget_inputs(
    service: BatchService, config: PluginConfig, *, ledger: Ledger, console: Console
) -> None:
    """Delete the files of closed shards, of this run and of previous ones, that are not to stay.

    At the service they are the input files, unless the rows' text may stay there. In the container,
    whose files no service lets expire, they are what a batch read and wrote; the input goes last,
    so that a batch without one is one whose answers are safe. The ledger forgets the id of an input
    that is deleted, so that each is deleted once. What cannot be deleted now is left for the next
    run.

    Args:
        service: Where the files are.
        config: Says what may stay.
        ledger: Which shards are closed, and where the ids are forgotten.
        console: The user's log.
    """
    if config.store_inputs and not config.clears_container:
        return
    try:
        for shard in _to_forget(config, ledger):
            for file_id in _files_of(shard):
                service.delete_file(file_id)
            ledger.shards.forget_input(shard.shard)
        lost = _with_lost_uploads(service.service_id, ledger)
        _forget_lost_uploads([s for s in lost if not s.synchronous], service, ledger)
    except ServiceError as error:
        console.say(f"{error}; the next run that turns to the service deletes it")


def _to_forget(config: PluginConfig, ledger: Ledger) -> list[Shard]:
    """Return the closed shards whose files are not to stay."""
    in_use = {shard.input_file_id for shard in ledger.shards.open(service=config.service_id)}

    def is_to_go(shard: Shard) -> bool:
        # Another batch of the same requests may still read it.
        if shard.synchronous or shard.input_file_id in in_use:
            return False
        if not is_blob(shard.input_file_id or ""):
            return not config.store_inputs
        # Of answers to unknown rows, what the batch wrote is all that there is.
        is_taken_in = shard.requests > 0 or shard.step is Step.RELEASED
        return config.clears_container and is_taken_in

    return [s for s in ledger.shards.closed_with_input(config.service_id) if is_to_go(s)]


def _files_of(shard: Shard) -> list[str]:
    """Return the files of a shard that go, its input last; what a service wrote expires there."""
    input_id = shard.input_file_id or ""
    written = (shard.output_file_id, shard.error_file_id) if is_blob(input_id) else ()
    return [*filter(None, written), input_id]


def tidy_relay(relay: Relay, service_id: str, *, ledger: Ledger, console: Console) -> None:
    """Have the relay forget the batches of closed shards, whose answers are in the answer store.

    What cannot be forgotten now is left for the next run.

    Args:
        relay: The way to the relay, which is opened only where there is something to forget.
        service_id: The service that it stands before.
        ledger: Which shards are closed, and where the ids are forgotten.
        console: The user's log.
    """
    closed = [s for s in ledger.shards.closed_with_input(service_id) if s.synchronous]
    lost = [s for s in _with_lost_uploads(service_id, ledger) if s.synchronous]
    try:
        for shard in closed:
            relay.open().discard(shard.batch_id, shard.input_file_id)
            ledger.shards.forget_input(shard.shard)
        if lost:
            _forget_lost_uploads(lost, relay.open(), ledger)
    except ServiceError as error:
        console.say(f"{error}; the next run that turns to the relay does it")


def _with_lost_uploads(service_id: str, ledger: Ledger) -> list[Shard]:
    """Return the closed shards of which the service may have files whose ids are unknown."""
    names = ledger.events.shards_without_next(Step.UPLOADING, Step.UPLOADED)
    return [
        shard
        for shard in ledger.shards.named(names)
        if shard.is_closed and shard.service == service_id and not shard.uploads_sought
    ]


def _forget_lost_uploads(shards: Iterable[Shard], service: BatchService, ledger: Ledger) -> None:
    """Delete files whose upload got no reply, or whose run died before it recorded the id."""
    lost = {file_name(s.namespace, s.task_key, s.shard): s.shard for s in shards}
    if not lost:
        return
    for file in list(service.files()):
        if file.filename in lost:
            service.delete_file(file.id)
    for shard in lost.values():
        ledger.shards.mark_uploads_sought(shard)
