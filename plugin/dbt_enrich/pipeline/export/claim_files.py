"""Claim of files that were written where the rows lie: all of them at once, or none of a file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dbt_enrich.errors import EnrichmentError
from dbt_enrich.pipeline.export.claim import new_since, taken_since
from dbt_enrich.pipeline.export.destination import Destination
from dbt_enrich.pipeline.export.in_flight import Seen, abandoned_shards, let_go, seen_now
from dbt_enrich.pipeline.export.new_requests import Selection
from dbt_enrich.sql import literals
from dbt_enrich.state.connection import LedgerAwayError
from dbt_enrich.state.file_store import FileKind, StateFile, missing
from dbt_enrich.state.run import Run
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.workspace.key_ranges import key_parts


@dataclass(frozen=True)
class Claimed:
    """What was claimed of some files.

    Attributes:
        shards: The shards.
        left: The names of the files that hold a request which another run claimed, or which was
            answered, meanwhile.
    """

    shards: tuple[Shard, ...]
    left: tuple[str, ...]


def claim_files(
    run: Run,
    written: Sequence[Shard],
    seen: Seen,
    selection: Selection,
    destination: Destination,
    *,
    abandoned: Collection[str] = (),
    check: Callable[[Sequence[Shard]], None] | None = None,
) -> Claimed:
    """Claim shards whose files and manifests are in the bucket, in one critical section.

    Two runs that wrote the same rows claim each of them once: a file with a request that is new in
    the ledger is left out whole, and its other requests are new again.

    Args:
        run: The run.
        written: The shards, as the workers wrote them.
        seen: What the ledger held before they were written.
        selection: What decided which requests are new.
        destination: Where they go.
        abandoned: The claims of dead runs whose requests were chosen with the others: they are let
            go. What was in flight then is not among the files, though its run may have died since.
        check: Called inside before anything is claimed, with the claims of dead runs that were
            never sent; what it raises leaves the rows unclaimed.

    Raises:
        EnrichmentError: Two files hold the same request.
        LedgerError: A manifest is not in the bucket.
    """
    manifests = _manifests(run, written)
    _refuse_shared_requests(run, written, list(manifests.values()))
    kept, left = list(written), list[str]()
    while kept:
        paths = [manifests[shard.shard] for shard in kept]
        # What has come meanwhile is fetched here, so that nobody waits for a network inside.
        new_since(run, seen, seen_now(run, selection.answer_keys))
        try:
            with run.ledger.critical_section():
                now = seen_now(run, selection.answer_keys)
                taken = taken_since(run, paths, seen, now)
                if taken is None:
                    free = [one for one in abandoned_shards(run) if one.shard in abandoned]
                    if check:
                        check(free)
                    let_go(run, free)
                    return Claimed(_write(run, kept, selection, destination), tuple(left))
        except LedgerAwayError:
            # All of it is undone, and others may have claimed meanwhile.
            continue
        held = _holding(run, paths, taken)
        left += [shard.shard for shard in kept if manifests[shard.shard] in held]
        kept = [shard for shard in kept if manifests[shard.shard] not in held]
    return Claimed((), tuple(left))


def _write(
    run: Run,
    written: Sequence[Shard],
    selection: Selection,
    destination: Destination,
) -> tuple[Shard, ...]:
    """Write the shards into the ledger."""
    shards = []
    for shard in written:
        ours = replace(
            shard,
            step=Step.CLAIMED,
            owner=destination.owner,
            deployment=destination.spread.choose(shard.requests),
        )
        run.ledger.shards.add(ours)
        shards.append(ours)
    run.ledger.stops.lift(task_key=selection.task_key)
    return tuple(shards)


def _manifests(run: Run, written: Sequence[Shard]) -> Mapping[str, Path]:
    files = [StateFile(FileKind.MANIFEST, shard.shard) for shard in written]
    held = run.files.hold(files, run.workspace.directory)
    for file in files:
        if file not in held:
            raise missing(file, run.files.place)
    return {file.name: path for file, path in held.items()}


def _refuse_shared_requests(run: Run, written: Sequence[Shard], manifests: Sequence[Path]) -> None:
    """Refuse files of which two hold one request: it would be paid for twice."""
    if not manifests:
        return
    source = f"(select request_key from read_parquet({literals(manifests)}))"
    rows = sum(shard.row_count for shard in written)
    for part in key_parts(rows):
        (repeats,) = run.workspace.row(
            f"select count(*) - count(distinct request_key) from {part.of(source)} as keys"
        )
        if repeats:
            raise EnrichmentError(
                f"{repeats:,} requests stand in two of the files that workers wrote: rows that ask "
                "the same did not lie in one part",
                fix="look for what parts the rows anew after dbt-enrich has, and report it. "
                "Nothing was sent",
            )


def _holding(run: Run, manifests: Sequence[Path], taken: str) -> set[Path]:
    """Return those of some manifests that hold a taken request."""
    found = run.workspace.rows(
        f"select distinct filename from read_parquet({literals(manifests)}, filename = true) "
        f"as wanted semi join {taken} as taken using (request_key)"
    )
    return {Path(name) for (name,) in found}
