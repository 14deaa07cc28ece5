"""Batches at the service that the ledger does not know: found by their marks, and adopted."""

from __future__ import annotations

from dbt_enrich.console.console import Console
from dbt_enrich.endpoints.batch_marks import RemoteMark, mark_of
from dbt_enrich.endpoints.choice import endpoint_asked
from dbt_enrich.errors import NotFoundError
from dbt_enrich.pipeline.export.manifests import count_requests, manifest_from_requests
from dbt_enrich.services.base import BatchService, RemoteBatch
from dbt_enrich.state.file_store import FileKind, StateFile
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.run import Run
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.wording import counted


def adopt_batches(run: Run, service: BatchService, namespace: str, console: Console) -> list[Shard]:
    """Take over the batches of our namespace that the ledger does not know.

    Each becomes a shard without an owner, at the step `submitted`, with its manifest read back
    from its input file. Batches of other namespaces are left alone.
    """
    with run.owners.adoption_lock():
        adopted = _adopted(run, service, namespace)
    if adopted:
        requests = counted(sum(shard.requests for shard in adopted), "request")
        console.say(
            f"found {counted(len(adopted), 'batch', 'batches')} of the namespace '{namespace}' at "
            f"{service.service_id} that the state directory does not know, with {requests}; "
            "collecting them instead of sending their rows again"
        )
    return adopted


def _adopted(run: Run, service: BatchService, namespace: str) -> list[Shard]:
    adopted = []
    filenames: dict[str, str] | None = None
    for batch in service.batches():
        mark = mark_of(batch.metadata)
        if mark is None and not batch.metadata and batch.input_file_id:
            if filenames is None:
                filenames = {file.id: file.filename for file in service.files()}
            mark = mark_of({}, filenames.get(batch.input_file_id))
        if mark is None or mark.namespace != namespace or _is_known(batch, mark, run.ledger):
            continue
        adopted.append(_adopt(run, service, batch, mark))
    return adopted


def _is_known(batch: RemoteBatch, mark: RemoteMark, ledger: Ledger) -> bool:
    return batch.is_void or ledger.shards.knows(batch_id=batch.id, shard=mark.shard)


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
        if not _is_known(batch, mark, run.ledger):
            run.ledger.shards.add(shard, detail={"adopted": True})

    run.ledger.exclusively(adopt)
    return run.ledger.shards.get(mark.shard)
