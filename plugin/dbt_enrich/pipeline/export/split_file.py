"""Halves: a shard whose batch is too big for the quota alone, cut in two."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

from dbt_enrich.cost.estimate import part_of
from dbt_enrich.endpoints.choice import endpoint_of
from dbt_enrich.files import make_private, settle, writing
from dbt_enrich.pipeline.export.manifests import count_requests, manifest_from_requests
from dbt_enrich.state.file_store import FileKind, StateFile
from dbt_enrich.state.run import Run
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.task.version import short_version


def cut_in_two(run: Run, shard: Shard) -> list[Shard]:
    """Replace a shard that was refused by two of half its size; nothing of it may be in flight.

    Returns:
        The halves, claimed by the same owner and ready to upload; empty if there is one request,
        or if the shard's file is gone.
    """
    path = run.store.requests(shard.shard)
    middle = _line_end_after(path)
    if middle is None:
        return []
    halves = []
    for start, end in ((0, middle), (middle, path.stat().st_size)):
        name = f"{short_version(shard.task_key)}-{secrets.token_hex(8)}"
        _copy_range(path, run.store.requests(name), start, end)
        manifest_from_requests(
            run.store.requests(name),
            run.store.manifest(name),
            run.workspace,
            task_key=shard.task_key,
            endpoint=endpoint_of(shard.endpoint),
        )
        requests, asked_rows = count_requests(run.store.manifest(name), run.workspace)
        share = (end - start) / path.stat().st_size
        halves.append(
            replace(
                shard,
                shard=name,
                step=Step.EXPORTED,
                requests=requests,
                rows=asked_rows,
                estimated_prompt_tokens=part_of(shard.estimated_prompt_tokens, share),
                estimated_completion_tokens=part_of(shard.estimated_completion_tokens, share),
                bytes=end - start,
                input_file_id=None,
                error=None,
            )
        )
    run.files.put([StateFile(FileKind.MANIFEST, half.shard) for half in halves])

    def replace_by_halves() -> None:
        run.ledger.shards.record(
            shard, Step.RELEASED, detail={"cut into": [half.shard for half in halves]}
        )
        for half in halves:
            run.ledger.shards.add(half, detail={"cut from": shard.shard})

    run.ledger.exclusively(replace_by_halves)
    path.unlink(missing_ok=True)
    run.files.remove(StateFile(FileKind.MANIFEST, shard.shard))
    return [run.ledger.shards.get(half.shard) for half in halves]


def _line_end_after(path: Path) -> int | None:
    """Return the end of the line in the middle of a file, or None if nothing comes after it."""
    if not path.exists():
        return None
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(size // 2)
        file.readline()
        middle = file.tell()
        if middle < size:
            return middle
        # The longest line is the last one: end the first half before it.
        file.seek(0)
        end = len(file.readline())
        while 0 < end < size:
            before = end
            end += len(file.readline())
            if end >= size:
                return before
    return None


def _copy_range(source: Path, target: Path, start: int, end: int) -> None:
    temporary = target.with_name(f".{target.name}.writing")
    make_private(temporary)
    with writing(temporary), source.open("rb") as reader, temporary.open("wb") as writer:
        reader.seek(start)
        left = end - start
        while left > 0:
            block = reader.read(min(left, 1 << 20))
            writer.write(block)
            left -= len(block)
    settle(temporary, target)
