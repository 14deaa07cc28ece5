"""Inputs: the files with the rows' text at the service, where they may not stay there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dbt_enrich.endpoints.batch_marks import file_name
from dbt_enrich.errors import ServiceError
from dbt_enrich.services.base import BatchService
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.shards import Shard


def inputs_may_be_left(service_id: str, ledger: Ledger) -> bool:
    """Whether a service may still have the input file of a closed shard."""
    return bool(ledger.shards_to_forget(service_id) or ledger.shards_with_lost_uploads(service_id))


def forget_inputs(service: BatchService, *, ledger: Ledger, warn: Callable[[str], None]) -> None:
    """Delete the input files of closed shards, of this run and of former ones, at the service.

    The ledger forgets the id of a file that is deleted, so that each is deleted once. What cannot
    be deleted now is left for the next run.

    Args:
        service: Where the files are.
        ledger: Which shards are closed, and where the ids are forgotten.
        warn: Takes a sentence for the user's log.
    """
    try:
        for shard in ledger.shards_to_forget(service.service_id):
            service.delete_file(shard.input_file_id or "")
            ledger.note(shard.shard, input_file_id=None)
        _forget_lost_uploads(ledger.shards_with_lost_uploads(service.service_id), service, ledger)
    except ServiceError as error:
        warn(f"{error}; the next run that turns to the service deletes it")


def _forget_lost_uploads(shards: Iterable[Shard], service: BatchService, ledger: Ledger) -> None:
    """Delete files whose upload got no reply, or whose run died before it noted the id."""
    lost = {file_name(s.namespace, s.task_key, s.shard): s.shard for s in shards}
    if not lost:
        return
    for file in list(service.files()):
        if file.filename in lost:
            service.delete_file(file.id)
    for shard in lost.values():
        ledger.note(shard, uploads_sought=True)
