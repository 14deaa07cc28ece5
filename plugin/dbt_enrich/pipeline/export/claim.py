"""Export: what is new among the staged rows, cut into shards and claimed in the ledger."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from dbt_enrich.config.file_limits import ServiceLimits
from dbt_enrich.cost.estimate import Estimate, part_of
from dbt_enrich.endpoints.packs import MARK
from dbt_enrich.endpoints.reply_shapes import NO_TEXT
from dbt_enrich.endpoints.request_lines import repair_sql
from dbt_enrich.errors import InputError
from dbt_enrich.pipeline.export.canary import first_requests
from dbt_enrich.pipeline.export.destination import Destination
from dbt_enrich.pipeline.export.file_limits import Group, groups_of, limits_in_room, shard_selects
from dbt_enrich.pipeline.export.in_flight import (
    Seen,
    abandoned_shards,
    let_go,
    manifests_sql,
    seen_now,
    standing_claims,
)
from dbt_enrich.pipeline.export.manifests import count_requests
from dbt_enrich.pipeline.export.new_requests import Chosen, Selection
from dbt_enrich.pipeline.export.outgoing import Outgoing
from dbt_enrich.sql import literal, literals
from dbt_enrich.state.answer_store import POSITION
from dbt_enrich.state.connection import LedgerAwayError
from dbt_enrich.state.file_store import FileKind, StateFile
from dbt_enrich.state.run import Run
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.task.enrichment_task import KEY_DIGITS
from dbt_enrich.task.failures import repaired_kinds
from dbt_enrich.task.version import short_version
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


@dataclass(frozen=True)
class _Draft:
    """What a claim would write into the ledger; its manifests are there already.

    Attributes:
        destination: Where its requests go.
        abandoned: The claims of dead runs that were never sent.
        standing: Those of them whose files would be written again as they are.
        shards: The new shards, each with what its first event says.
        selects: The SELECT of each new shard's requests.
    """

    destination: Destination
    abandoned: Sequence[Shard]
    standing: Sequence[Shard]
    shards: Sequence[tuple[Shard, dict[str, int]]]
    selects: dict[str, str]


def claim(
    outgoing: Outgoing,
    *,
    expected: Estimate | None = None,
    check: Callable[[Sequence[Shard]], None] | None = None,
    allow: Callable[[Chosen], int | None] | None = None,
) -> Claim:
    """Claim requests that are new, and take over what dead runs claimed of them and never sent.

    Files are written first, and the critical section of the ledger holds what is written into it
    alone. Two runs that stage the same rows at the same time claim each of them once: what another
    run has claimed, or answered, since the rows were looked up is left out.

    Args:
        outgoing: The requests, and where they go.
        expected: What they are expected to take, recorded with the claim, or None.
        check: Called inside the critical section before anything is claimed, with the claims of
            dead runs that were never sent; what it raises leaves the rows unclaimed.
        allow: Called before and inside with what is new; returns how many of the requests may be
            claimed now, or None for all. What it raises leaves the rows unclaimed.

    Returns:
        What was claimed.

    Raises:
        InputError: A single row's line is larger than a file may be.
    """
    run, chosen, selection = outgoing.run, outgoing.chosen, outgoing.selection
    wanted, seen = _write_requests(outgoing), chosen.seen
    while True:
        allowed = allow(chosen) if allow else None
        paths = wanted
        if allowed is not None:
            paths = first_requests(wanted, allowed, selection.packing, run.workspace)
        with ExitStack() as manifests:
            draft = _drafted(outgoing, paths, expected, manifests, seen)
            # What has come meanwhile is fetched here, so that nobody waits for a network inside.
            new_since(run, seen, seen_now(run, selection.answer_keys))
            try:
                with run.ledger.critical_section():
                    now = seen_now(run, selection.answer_keys)
                    taken = taken_since(run, wanted, seen, now)
                    if not taken and (allow is None or allow(chosen) == allowed):
                        if check:
                            check(draft.abandoned)
                        claimed = _claim(run, draft, selection)
                        # Before the commit, after which the ledger names them.
                        manifests.pop_all()
                        return claimed
            except LedgerAwayError:
                # All of it is undone, and others may have claimed meanwhile.
                continue
        seen = now
        if taken:
            wanted = _without(run, wanted, taken)


def taken_since(run: Run, wanted: Sequence[Path], seen: Seen, now: Seen) -> str | None:
    """Return a table expression of the keys that are new in the ledger, if one of them is wanted.

    Args:
        run: The run.
        wanted: Parquet files with the request_key of what is about to be claimed.
        seen: What was there as they were chosen.
        now: What is there now.
    """
    taken = new_since(run, seen, now)
    if taken is None:
        return None
    found = run.workspace.rows(
        f"select 1 from read_parquet({literals(wanted)}) as wanted "
        f"semi join {taken} as taken using (request_key) limit 1"
    )
    return taken if found else None


def new_since(run: Run, seen: Seen, now: Seen) -> str | None:
    """Return a table expression of the keys that the ledger has now and had not; None for none."""
    claimed, answered = now.in_flight - seen.in_flight, now.answers - seen.answers
    if not (claimed or answered):
        return None
    return (
        f"(select request_key from {manifests_sql(run, claimed)} as claimed union all "
        f"select request_key from {run.answers.table_of(sorted(answered))} as answered)"
    )


def _drafted(
    outgoing: Outgoing,
    paths: Sequence[Path],
    expected: Estimate | None,
    manifests: ExitStack,
    seen: Seen,
) -> _Draft:
    """Cut requests into shards and write their manifests, which `manifests` removes."""
    run, selection = outgoing.run, outgoing.selection
    destination = outgoing.destination.of_round(paths, selection.packing, run.workspace)
    # What was in flight as the requests were chosen is not among them, though its run died since.
    abandoned = [one for one in abandoned_shards(run) if one.shard not in seen.in_flight]
    standing = _standing(run, abandoned, paths, selection, destination)
    if standing:
        paths = _without(run, paths, manifests_sql(run, [shard.shard for shard in standing]))
    groups = groups_of(paths, run.workspace)
    largest = max((group.largest for group in groups), default=0)
    if largest > destination.limits.max_bytes:
        _refuse_large_row(outgoing, paths, largest)
    shards, selects = [], {}
    for group in groups:
        detail = {"attempt": group.attempt, "enlarge": group.enlarge}
        limits = _limits_of(group, selection, destination)
        for select in shard_selects(paths, group, limits, run.workspace):
            name = f"{short_version(selection.task_key)}-{secrets.token_hex(8)}"
            manifests.callback(run.files.remove, StateFile(FileKind.MANIFEST, name))
            selects[name] = _write_manifest(run, name, select, selection, group)
            shards.append((_shard(run, name, selection, destination, expected), detail))
    run.files.put([StateFile(FileKind.MANIFEST, name) for name in selects])
    return _Draft(destination, abandoned, standing, shards, selects)


def _claim(run: Run, draft: _Draft, selection: Selection) -> Claim:
    """Write a draft into the ledger, and let go what dead runs left that it has no use for."""
    destination, table = draft.destination, run.ledger.shards
    kept = [
        shard.shard
        for shard in draft.standing
        if table.claim_again(
            shard,
            destination.owner,
            settings=destination.settings,
            max_failed_share=destination.tolerance.max_failed_share,
            least_answers=destination.tolerance.least_answers,
        )
    ]
    let_go(run, [shard for shard in draft.abandoned if shard not in draft.standing])
    for shard, detail in draft.shards:
        table.add(shard, detail=detail)
    if draft.shards or kept:
        run.ledger.stops.lift(task_key=selection.task_key)
    return Claim(new=draft.selects, kept=tuple(sorted(kept)))


def _standing(
    run: Run,
    abandoned: Sequence[Shard],
    wanted: Sequence[Path],
    selection: Selection,
    destination: Destination,
) -> list[Shard]:
    """Return the dead runs' shards whose files would be written again as they are."""
    # What goes through the synchronous endpoint has no use for a batch's file.
    ours = [
        shard
        for shard in abandoned
        if not (destination.is_synchronous or shard.synchronous)
        and shard.task_key == selection.task_key
        and shard.endpoint == selection.endpoint.name
        and shard.enrichment == destination.enrichment
        and shard.service == destination.service
        and shard.namespace == destination.namespace
        and shard.deployment in destination.spread.deployments
        # A file for a container may be too large to be uploaded.
        and shard.bytes <= destination.limits.max_bytes
    ]
    return standing_claims(run, ours, wanted, selection.lines(destination.line_url))


def _without(run: Run, paths: Sequence[Path], taken: str) -> list[Path]:
    """Write the requests whose keys are not in a table expression; return the new files."""
    written = []
    for path in paths:
        rest = path.with_name(f"{path.stem}-rest.parquet")
        run.workspace.write_parquet(
            f"""
            select wanted.*
            from read_parquet({literal(path)}) as wanted
            anti join (
                select taken.request_key
                from {taken} as taken
                semi join read_parquet({literal(path)}) as wanted using (request_key)
            ) as taken using (request_key)
            """,
            rest,
        )
        written.append(rest)
    return written


def size_to_send(outgoing: Outgoing) -> Size:
    """Cut what an export would send into files as it would, without claiming it."""
    run, selection, destination = outgoing.run, outgoing.selection, outgoing.destination
    paths = _write_requests(outgoing)
    groups = groups_of(paths, run.workspace)
    files = sum(
        len(shard_selects(paths, group, _limits_of(group, selection, destination), run.workspace))
        for group in groups
    )
    for path in paths:
        path.unlink()
    return Size(files=files, bytes=sum(group.weight for group in groups))


def _write_requests(outgoing: Outgoing) -> list[Path]:
    """Write the chosen requests to Parquet files, with all that their lines need.

    Returns:
        The files; the rows of one come before those of the next.
    """
    run, selection, destination = outgoing.run, outgoing.selection, outgoing.destination
    answers = run.answers.table(*selection.answer_keys)
    overhead = _overhead(selection, destination)
    weight = f"staged.message_bytes + coalesce(strlen(repair), 0) + {overhead}"
    sizes = "row_id, message_bytes"
    if selection.task.images:
        each = selection.lines(destination.line_url).template("").image_overhead
        weight += f" + staged.picture_bytes + staged.picture_count * {each}"
        sizes += ", picture_bytes, picture_count"
    if selection.packing:
        overhead = _overhead(selection, destination, packed=True)
        packed = selection.packing.weight_sql("staged.message_bytes", overhead)
        weight = f"if(chosen.is_first, {packed}, {weight})"
    name = f"requests-{secrets.token_hex(4)}"
    paths = []
    for number, among in enumerate(row_parts(outgoing.rows.rows)):
        query = f"""
            with chosen as (select * from {outgoing.chosen.all_sql} as chosen where {among}),
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
            from (select {sizes} from {outgoing.rows.all_sql} where {among}) as staged
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
    """Return what a file of a group may hold; a pack is one request, or so many as it has rows."""
    limits = destination.limits
    packing, counts_rows = selection.packing, selection.endpoint.takes_lists
    if packing is not None and group.is_first and not counts_rows:
        rows = packing.rows or 1
        limits = replace(limits, max_requests=limits.max_requests * rows)
    return limits_in_room(limits, group, destination.room)


def _write_manifest(run: Run, name: str, select: str, selection: Selection, group: Group) -> str:
    """Write which requests a shard holds; return their SELECT."""
    columns = "request_key, attempt, row_id"
    if selection.packing and group.is_first:
        packed = run.workspace.directory / f"packed-{name}.parquet"
        run.workspace.write_parquet(selection.packing.numbered_sql(select), packed)
        select, columns = _whole(packed), "request_key, attempt, custom_id, position"
        if selection.endpoint.takes_lists:
            columns += f", {POSITION}"
    manifest = run.store.manifest(name)
    run.workspace.write_parquet(f"select {columns} from ({select})", manifest, durable=True)
    return select


def _shard(
    run: Run,
    name: str,
    selection: Selection,
    destination: Destination,
    expected: Estimate | None,
) -> Shard:
    """Return the shard of a manifest, as it is claimed."""
    requests, asked_rows = count_requests(run.store.manifest(name), run.workspace)
    share = requests / max(1, expected.requests) if expected else 0.0
    return Shard(
        shard=name,
        step=Step.CLAIMED,
        owner=destination.owner,
        namespace=destination.namespace,
        service=destination.service,
        task_key=selection.task_key,
        endpoint=selection.endpoint.name,
        enrichment=destination.enrichment,
        model=selection.task.model,
        deployment=destination.spread.choose(requests),
        requests=requests,
        synchronous=destination.is_synchronous,
        rows=asked_rows,
        settings=destination.settings,
        max_failed_share=destination.tolerance.max_failed_share,
        least_answers=destination.tolerance.least_answers,
        estimated_prompt_tokens=part_of(expected.prompt_tokens if expected else None, share),
        estimated_completion_tokens=part_of(
            expected.completion_tokens if expected else None, share
        ),
    )


def _refuse_large_row(outgoing: Outgoing, paths: Sequence[Path], size: int) -> None:
    (row_id,) = outgoing.run.workspace.row(
        f"select row_id from read_parquet({literals(paths)}) where weight = {size} limit 1"
    )
    relation, most = outgoing.request.relation, outgoing.destination.limits.max_bytes
    raise InputError(
        f"model '{relation.model}': the row with {relation.row_label(row_id)} makes a request of "
        f"{size:,} bytes, more than the {most:,} that a file may hold",
        fix="shorten its text in the SELECT. Nothing was sent",
    )
