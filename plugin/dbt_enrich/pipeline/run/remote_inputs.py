"""Inputs: the files with the rows' text at the service, where they may not stay there."""

from __future__ import annotations

from collections.abc import Iterable

from dbt_enrich.console.console import Console
from dbt_enrich.endpoints.batch_marks import file_name
from dbt_enrich.errors import ServiceError
from dbt_enrich.services.base import BatchService
from dbt_enrich.services.relay import Relay
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.shards import Shard, Step


def inputs_may_be_left(service_id: str, ledger: Ledger) -> bool:
    """Whether a service may still have the input file of a closed shard."""
    return bool(
        ledger.shards.closed_with_input(service_id) or _with_lost_uploads(service_id, ledger)
    )


def forget_inputs(service: BatchService, *, ledger: Ledger, console: Console) -> None:
    """Delete the input files of closed shards, of this run and of previous ones, at the service.

    The ledger forgets the id of a file that is deleted, so that each is deleted once. What cannot
    be deleted now is left for the next run.

    Args:
        service: Where the files are.
        ledger: Which shards are closed, and where the ids are forgotten.
        console: The user's log.
    """
    try:
        for shard in ledger.shards.closed_with_input(service.service_id):
            if not shard.synchronous:
                service.delete_file(shard.input_file_id or "")
                ledger.shards.forget_input(shard.shard)
        lost = _with_lost_uploads(service.service_id, ledger)
        _forget_lost_uploads([s for s in lost if not s.synchronous], service, ledger)
    except ServiceError as error:
        console.say(f"{error}; the next run that turns to the service deletes it")


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
