"""Cuts: how many requests go into one file, by the limits of the service and of the quota."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dbt_enrich.config.file_limits import ServiceLimits
from dbt_enrich.sql import literal, literals
from dbt_enrich.workspace.database import Workspace

# A quota that whole files fill to this share is filled well enough.
_FILLED = 0.9


@dataclass(frozen=True)
class Group:
    """Requests that share one form of body, and so a file; first attempts may be packed."""

    attempt: int
    enlarge: int
    requests: int
    weight: int
    largest: int
    is_first: bool = True


def groups_of(paths: Sequence[Path], workspace: Workspace) -> list[Group]:
    """Return the groups of requests in Parquet files, first attempts first."""
    found = workspace.rows(
        "select attempt, enlarge, count(*), sum(weight), max(weight), is_first "
        f"from read_parquet({literals(paths)}) group by all order by attempt, enlarge, is_first"
    )
    return [
        Group(int(attempt), int(enlarge), int(requests), int(weight), int(largest), bool(is_first))
        for attempt, enlarge, requests, weight, largest, is_first in found
    ]


def limits_in_room(limits: ServiceLimits, group: Group, room: int | None) -> ServiceLimits:
    """Return what a file may hold so that its batch finds room, and whole files fill the room.

    Files of 60 % of a quota would go one after the other; of files of 50 % two go at once.

    Args:
        limits: What the service takes.
        group: The requests that are cut.
        room: The bytes that are at the service at once, or None if unknown.
    """
    if room is None:
        return limits
    # A request that is larger is sent alone.
    room = max(room, group.largest)
    usual = min(limits.max_bytes, limits.max_requests * group.weight // max(1, group.requests))
    if usual >= room:
        return replace(limits, max_bytes=min(limits.max_bytes, room))
    if group.weight <= room or room // usual * usual >= _FILLED * room:
        return limits
    fitted = room // -(-room // usual)
    return replace(limits, max_bytes=min(limits.max_bytes, max(fitted, group.largest)))


def shard_selects(
    paths: Sequence[Path], group: Group, limits: ServiceLimits, workspace: Workspace
) -> list[str]:
    """Return the SELECTs of the requests that go into a file each.

    Args:
        paths: Parquet files of all requests; the rows of one come before those of the next.
        group: Those that are cut.
        limits: What one file may hold.
        workspace: Where they are counted.
    """
    source = f"select * from read_parquet({literals(paths)}) where {_condition(group)}"
    if group.requests <= limits.max_requests and group.weight <= limits.max_bytes:
        return [source]
    return [
        f"{source} and row_id between {first} and {last}"
        for first, last in _cuts(paths, group, limits, workspace)
    ]


def _condition(group: Group) -> str:
    return (
        f"attempt = {group.attempt} and enlarge = {group.enlarge} "
        f"and is_first = {str(group.is_first).lower()}"
    )


def _cuts(
    paths: Sequence[Path], group: Group, limits: ServiceLimits, workspace: Workspace
) -> list[tuple[int, int]]:
    """Cut the requests into shards, each within the limits on requests and bytes.

    A running sum over a weight of at least max_bytes / max_requests holds both limits at once. A
    request belongs to the shard in which it begins, so a shard may end one request late: the room
    for the largest one is kept free.

    Returns:
        The first and the last row of each shard.
    """
    unit = -(-limits.max_bytes // limits.max_requests)
    room = limits.max_bytes - group.largest + 1
    weight = f"greatest(weight, {unit})"
    if group.largest <= limits.max_bytes // limits.max_requests:
        # The number of requests alone is in the way, so that shards are exactly full.
        weight, room = "1", limits.max_requests
    cuts: dict[int, tuple[int, int]] = {}
    before = 0
    for path in paths:
        found = workspace.rows(
            f"""
            with weighed as (
                select row_id, {weight} as weight
                from read_parquet({literal(path)})
                where {_condition(group)}
            ),
            placed as (
                select
                    *,
                    (cast(sum(weight) over (order by row_id rows unbounded preceding) as bigint)
                        - weight + {before}) // {room} as shard_number
                from weighed
            )
            select shard_number, min(row_id), max(row_id), sum(weight)
            from placed
            group by shard_number
            order by shard_number
            """
        )
        for number, first, last, weighed in found:
            cuts[number] = (cuts.get(number, (int(first),))[0], int(last))
            before += int(weighed)
    return list(cuts.values())
