"""Batches at the service that the ledger does not know: found by their marks, and adopted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from dbt_enrich.console.console import Console
from dbt_enrich.endpoints.batch_marks import RemoteMark, mark_of
from dbt_enrich.endpoints.choice import endpoint_asked
from dbt_enrich.errors import NotFoundError, ServiceError
from dbt_enrich.pipeline.export.manifests import count_requests, manifest_from_requests
from dbt_enrich.services.base import BatchService, RemoteBatch
from dbt_enrich.state.file_store import FileKind, StateFile
from dbt_enrich.state.run import Run
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.wording import counted


def adopt_batches(run: Run, service: BatchService, namespace: str, console: Console) -> list[Shard]:
    """Take over the batches of our namespace that the ledger does not know.

    Each becomes a shard without an owner, at the step `submitted`, with its manifest read back
    from its input file. Batches of other namespaces are left alone.

    A batch that asks what another one of the ledger asks was created by a run that was stopped
    between its last look at its lease and the call. The younger of the two is cancelled, as far as
    it is not done, and what each of them answered is kept.
    """
    with run.owners.adoption_lock():
        adopted = _adopted(run, service, namespace, console)
    if adopted:
        requests = counted(sum(shard.requests for shard in adopted), "request")
        console.say(
            f"found {counted(len(adopted), 'batch', 'batches')} of the namespace '{namespace}' at "
            f"{service.service_id} that the state directory does not know, with {requests}; "
            "collecting them instead of sending their rows again"
        )
    return adopted


def _adopted(run: Run, service: BatchService, namespace: str, console: Console) -> list[Shard]:
    adopted = []
    listed: dict[str, RemoteBatch] = {}
    twins: list[tuple[Shard, RemoteBatch]] = []
    filenames: dict[str, str] | None = None
    for batch in service.batches():
        listed[batch.id] = batch
        mark = mark_of(batch.metadata)
        if mark is None and not (batch.metadata or batch.is_on_blob) and batch.input_file_id:
            if filenames is None:
                filenames = {file.id: file.filename for file in service.files()}
            mark = mark_of({}, filenames.get(batch.input_file_id))
        if mark is None or mark.namespace != namespace or batch.is_void or batch.is_cleared:
            continue
        if run.ledger.shards.knows(batch_id=batch.id):
            continue
        first = run.ledger.shards.find(mark.shard)
        if first is not None:
            if not _is_settled(first):
                # Its owner looks for its batch, and finds this one.
                continue
            if batch.status.is_terminal and not _has_answers(batch):
                continue
            twins.append((first, batch))
            mark = replace(mark, shard=_twin_name(mark.shard, batch.id))
        adopted.append(_adopt(run, service, batch, mark))
    for first, second in twins:
        _cancel_younger(service, listed, first, second, console)
    return adopted


def _has_answers(batch: RemoteBatch) -> bool:
    return bool(batch.output_file_id or batch.error_file_id or batch.counts.completed)


def _is_settled(shard: Shard) -> bool:
    """Whether no other batch can become the shard's than the one that it has, if it has one."""
    return shard.batch_id is not None or shard.is_closed


def _twin_name(shard: str, batch_id: str) -> str:
    """Name the shard of a batch that asks what another one asks, each time the same."""
    task, _, _ = shard.partition("-")
    return f"{task}-{hashlib.sha256(f'{shard} {batch_id}'.encode()).hexdigest()[:16]}"


def _cancel_younger(
    service: BatchService,
    listed: Mapping[str, RemoteBatch],
    first: Shard,
    second: RemoteBatch,
    console: Console,
) -> None:
    """End the younger of two batches that ask the same, and say so."""
    known = listed.get(first.batch_id or "")
    older, younger = (known, second) if known else (None, second)
    if known and known.created_at and second.created_at and second.created_at < known.created_at:
        older, younger = second, known
    of_what = f"asks the same {counted(first.requests, 'request')} as"
    other = f"batch {older.id}" if older else f"the shard {first.shard}"
    if younger.status.is_terminal:
        console.warn(f"batch {younger.id} {of_what} {other}; the answers of both are kept")
        return
    try:
        service.cancel(younger.id)
    except ServiceError as error:
        console.warn(f"batch {younger.id} {of_what} {other}, and cannot be cancelled ({error})")
        return
    console.warn(
        f"batch {younger.id} is cancelled, as it {of_what} {other}; the answers of both are kept"
    )


def _adopt(run: Run, service: BatchService, batch: RemoteBatch, mark: RemoteMark) -> Shard:
    requests = run.store.requests(mark.shard)
    manifest = run.store.manifest(mark.shard)
    size = 0
    try:
        size = service.download(batch.input_file_id or "", requests)
        endpoint = endpoint_asked(requests, batch.endpoint)
        manifest_from_requests(
            requests, manifest, run.workspace, task_key=mark.task_key, endpoint=endpoint
        )
    except NotFoundError:
        # The input file is gone: once they are there, the answers' custom_ids say what was asked.
        manifest.unlink(missing_ok=True)
        endpoint = endpoint_asked(requests, batch.endpoint)
    count = rows = 0
    if manifest.exists():
        run.files.put([StateFile(FileKind.MANIFEST, mark.shard)])
        count, rows = count_requests(manifest, run.workspace)
    task = run.ledger.tasks.get(mark.task_key)
    shard = Shard(
        shard=mark.shard,
        step=Step.SUBMITTED,
        owner=None,
        namespace=mark.namespace,
        service=service.service_id,
        task_key=mark.task_key,
        endpoint=endpoint.name,
        enrichment=task.enrichment if task else None,
        model=task.document.get("model") if task else None,
        requests=count,
        rows=rows,
        bytes=size,
        input_file_id=batch.input_file_id,
        batch_id=batch.id,
        status=batch.status.value,
    )

    def adopt() -> None:
        if not run.ledger.shards.knows(batch_id=batch.id, shard=mark.shard):
            run.ledger.shards.add(shard, detail={"adopted": True})

    run.ledger.exclusively(adopt)
    return run.ledger.shards.get(mark.shard)
