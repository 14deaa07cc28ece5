"""Export: what is new among the staged rows, cut into shards and claimed in the ledger."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dbt_enrich.config.file_limits import ServiceLimits
from dbt_enrich.cost.estimate import Estimate
from dbt_enrich.endpoints.packs import MARK
from dbt_enrich.endpoints.reply_shapes import NO_TEXT
from dbt_enrich.endpoints.request_lines import repair_sql
from dbt_enrich.errors import InputError
from dbt_enrich.pipeline.export.canary import first_requests
from dbt_enrich.pipeline.export.destination import Destination
from dbt_enrich.pipeline.export.file_limits import Group, groups_of, limits_in_room, shard_selects
from dbt_enrich.pipeline.export.in_flight import (
    abandoned_shards,
    let_go,
    manifests_sql,
    standing_claims,
)
from dbt_enrich.pipeline.export.manifests import count_requests
from dbt_enrich.pipeline.export.new_requests import Chosen, Selection, choose, find_undone
from dbt_enrich.pipeline.stage.staged_rows import StagedRows
from dbt_enrich.sql import literal, literals
from dbt_enrich.state.run import Run
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.task.enrichment_task import KEY_DIGITS
from dbt_enrich.task.failures import repaired_kinds
from dbt_enrich.task.version import short_version
from dbt_enrich.warehouse.relation import StagedRelation
from dbt_enrich.workspace.database import Workspace
from dbt_enrich.workspace.key_ranges import row_parts


@dataclass(frozen=True)
class Claim:
    """What a run has claimed.

    Attributes:
        new: New shards' names, each with the SELECT of its requests for `write_file`.
        kept: Names of shards of dead runs whose files are good as they are.
    """

    new: dict[str, str]
    kept: tuple[str, ...] = ()

    @property
    def shards(self) -> list[str]:
        """All their names."""
        return [*self.kept, *self.new]


@dataclass(frozen=True)
class Size:
    """How large what an export would send is.

    Attributes:
        files: Input files.
        bytes: Their bytes, about.
    """

    files: int
    bytes: int


def claim(
    run: Run,
    rows: StagedRows,
    relation: StagedRelation,
    selection: Selection,
    destination: Destination,
    *,
    expected: Estimate | None = None,
    check: Callable[[list[Shard]], None] | None = None,
    allow: Callable[[Chosen], int | None] | None = None,
) -> Claim:
    """Claim what is new among the rows, and take over what dead runs claimed of it and never sent.

    It is one critical section of the ledger: two runs that stage the same rows at the same time
    claim each of them once.

    Args:
        run: The run.
        rows: The staged rows.
        relation: The staged relation in the user's database.
        selection: What decides which requests are new.
        destination: Where they go.
        expected: What they are expected to take, noted with the claim, or None.
        check: Called inside the critical section before anything is claimed, with the claims of
            dead runs that were never sent; what it raises leaves the rows unclaimed.
        allow: Called there with what is new; returns how many of the requests may be claimed now,
            or None for all. What it raises leaves the rows unclaimed.

    Returns:
        What was claimed.

    Raises:
        InputError: A single row's line is larger than a file may be.
    """
    with run.ledger.critical_section():
        abandoned = abandoned_shards(run)
        if check:
            check(abandoned)
        undone = find_undone(run, rows, selection.answer_keys)
        chosen = choose(run, undone, selection)
        undone.remove()
        paths = _write_requests(run, chosen, rows, selection, destination)
        allowed = allow(chosen) if allow else None
        chosen.remove()
        if allowed is not None:
            paths = first_requests(paths, allowed, selection.packing, run.workspace)
        destination = destination.of_round(paths, selection.packing, run.workspace)
        kept = _take_over(run, abandoned, paths, selection, destination)
        if kept:
            paths = _without(run, paths, kept)
        groups = groups_of(paths, run.workspace)
        largest = max((group.largest for group in groups), default=0)
        if largest > destination.limits.max_bytes:
            _refuse_large_row(paths, largest, relation, destination.limits, run.workspace)
        claimed: dict[str, str] = {}
        for group in groups:
            claimed |= _claim(run, paths, group, selection, destination, expected)
        if claimed or kept:
            run.ledger.stops.lift(task_key=selection.task_key)
    return Claim(new=claimed, kept=tuple(kept))


def _take_over(
    run: Run,
    abandoned: Sequence[Shard],
    wanted: Sequence[Path],
    selection: Selection,
    destination: Destination,
) -> list[str]:
    """Take over the dead runs' shards whose files would be written again as they are.

    All others are let go.
    """
    # What goes through the synchronous endpoint has no use for a batch's file.
    ours = [
        shard
        for shard in abandoned
        if not (destination.is_synchronous or shard.synchronous)
        and shard.task_key == selection.task_key
        and shard.enrichment == destination.enrichment
        and shard.service == destination.service
        and shard.namespace == destination.namespace
        and shard.deployment in destination.spread.deployments
    ]
    standing = standing_claims(run, ours, wanted, selection.lines(destination.line_url))
    names = {shard.shard for shard in standing}
    for shard in standing:
        run.ledger.shards.claim_again(
            shard,
            destination.owner,
            settings=destination.settings,
            max_failed_share=destination.tolerance.max_failed_share,
            least_answers=destination.tolerance.least_answers,
        )
    let_go(run, [shard for shard in abandoned if shard.shard not in names])
    return sorted(names)


def _without(run: Run, paths: Sequence[Path], shards: Sequence[str]) -> list[Path]:
    """Write the requests that none of some shards asks; return the new files."""
    kept = manifests_sql(shards, run.store)
    written = []
    for path in paths:
        rest = path.with_name(f"{path.stem}-rest.parquet")
        run.workspace.write_parquet(
            f"""
            select wanted.*
            from read_parquet({literal(path)}) as wanted
            anti join (
                select kept.request_key
                from {kept} as kept
                semi join read_parquet({literal(path)}) as wanted using (request_key)
            ) as kept using (request_key)
            """,
            rest,
        )
        written.append(rest)
    return written


def size_to_send(
    run: Run, chosen: Chosen, rows: StagedRows, selection: Selection, destination: Destination
) -> Size:
    """Cut what an export would send into files as it would, without claiming it.

    Args:
        run: The run.
        chosen: What it would send.
        rows: The staged rows.
        selection: What decided which requests are new.
        destination: Where they would go.
    """
    paths = _write_requests(run, chosen, rows, selection, destination)
    groups = groups_of(paths, run.workspace)
    files = sum(
        len(shard_selects(paths, group, _limits_of(group, selection, destination), run.workspace))
        for group in groups
    )
    for path in paths:
        path.unlink()
    return Size(files=files, bytes=sum(group.weight for group in groups))


def _write_requests(
    run: Run, chosen: Chosen, rows: StagedRows, selection: Selection, destination: Destination
) -> list[Path]:
    """Write the chosen requests to Parquet files, with all that their lines need.

    Returns:
        The files; the rows of one come before those of the next.
    """
    answers = run.answers.table(*selection.answer_keys)
    overhead = _overhead(selection, destination)
    weight = f"staged.message_bytes + coalesce(strlen(repair), 0) + {overhead}"
    if selection.packing:
        overhead = _overhead(selection, destination, packed=True)
        packed = selection.packing.weight_sql("staged.message_bytes", overhead)
        weight = f"if(chosen.is_first, {packed}, {weight})"
    name = f"requests-{secrets.token_hex(4)}"
    paths = []
    for number, among in enumerate(row_parts(rows.rows)):
        query = f"""
            with chosen as (select * from {chosen.all_sql} as chosen where {among}),
            failed as (
                select request_key, file_index, content, message
                from {answers} as answers
                semi join (
                    select request_key from chosen where repair_file is not null
                ) as repaired using (request_key)
                where kind in ({repaired_kinds()}) and content is not null
                    and not starts_with(message, {literal(NO_TEXT)})
            )
            select
                chosen.request_key,
                chosen.row_id,
                chosen.attempt,
                chosen.is_first,
                chosen.enlarge,
                {repair_sql(selection.endpoint, "failed.content", "failed.message")} as repair,
                staged.message_bytes,
                {weight} as weight
            from (select row_id, message_bytes from {rows.all_sql} where {among}) as staged
            join chosen using (row_id)
            left join failed
                on failed.request_key = chosen.request_key
                and failed.file_index = chosen.repair_file
        """
        path = run.workspace.directory / f"{name}-{number}.parquet"
        run.workspace.write_parquet(query, path)
        paths.append(path)
    return paths


def _whole(path: Path) -> str:
    return f"select * from read_parquet({literal(path)})"


def _overhead(selection: Selection, destination: Destination, *, packed: bool = False) -> int:
    """Return the bytes of a line beside its user message, at most."""
    lines = selection.lines(destination.line_url)
    line = lines.template(max(destination.spread.deployments, key=len), packed=packed)
    return line.overhead + KEY_DIGITS + len(MARK if packed else "-99")


def _limits_of(group: Group, selection: Selection, destination: Destination) -> ServiceLimits:
    """Return what a file of a group may hold; a pack of rows is one request."""
    limits = destination.limits
    if selection.packing is not None and group.is_first:
        rows = selection.packing.rows or 1
        limits = replace(limits, max_requests=limits.max_requests * rows)
    return limits_in_room(limits, group, destination.room)


def _claim(
    run: Run,
    paths: Sequence[Path],
    group: Group,
    selection: Selection,
    destination: Destination,
    expected: Estimate | None,
) -> dict[str, str]:
    """Cut a group into shards, write their manifests and note the intent to send them.

    Returns:
        Each shard's name with the SELECT of its requests.
    """
    packing = selection.packing if group.is_first else None
    limits = _limits_of(group, selection, destination)
    claimed = {}
    for select in shard_selects(paths, group, limits, run.workspace):
        name = f"{short_version(selection.task_key)}-{secrets.token_hex(8)}"
        manifest = run.store.manifest(name)
        columns = "request_key, attempt"
        if packing:
            packed = run.workspace.directory / f"packed-{name}.parquet"
            run.workspace.write_parquet(packing.numbered_sql(select), packed)
            select, columns = _whole(packed), f"{columns}, custom_id, position"
        run.workspace.write_parquet(f"select {columns} from ({select})", manifest, durable=True)
        requests, asked_rows = count_requests(manifest, run.workspace)
        share = requests / max(1, expected.requests) if expected else 0.0
        shard = Shard(
            shard=name,
            step=Step.CLAIMED,
            owner=destination.owner,
            namespace=destination.namespace,
            service=destination.service,
            task_key=selection.task_key,
            enrichment=destination.enrichment,
            model=selection.task.model,
            deployment=destination.spread.choose(requests),
            requests=requests,
            synchronous=destination.is_synchronous,
            rows=asked_rows,
            settings=destination.settings,
            max_failed_share=destination.tolerance.max_failed_share,
            least_answers=destination.tolerance.least_answers,
            estimated_prompt_tokens=_share(expected.prompt_tokens if expected else None, share),
            estimated_completion_tokens=_share(
                expected.completion_tokens if expected else None, share
            ),
        )
        run.ledger.shards.add(shard, detail={"attempt": group.attempt, "enlarge": group.enlarge})
        claimed[name] = select
    return claimed


def _share(tokens: int | None, share: float) -> int | None:
    return None if tokens is None else round(tokens * share)


def _refuse_large_row(
    paths: Sequence[Path],
    size: int,
    relation: StagedRelation,
    limits: ServiceLimits,
    workspace: Workspace,
) -> None:
    (row_id,) = workspace.row(
        f"select row_id from read_parquet({literals(paths)}) where weight = {size} limit 1"
    )
    raise InputError(
        f"model '{relation.model}': the row with {relation.row_label(row_id)} makes a request of "
        f"{size:,} bytes, more than the {limits.max_bytes:,} that a file may hold",
        fix="shorten its text in the SELECT. Nothing was sent",
    )
