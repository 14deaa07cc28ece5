"""Rows of Parquet files in the order of a key, with less memory than DuckDB's own sort needs."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dbt_enrich.sql import literal, literals
from dbt_enrich.workspace.database import Workspace

# What is sorted at once, and how often rows may be read for that where they lie.
_SORTED_BYTES = 8_388_608
_READ_TIMES = 6


@dataclass(frozen=True)
class _Range:
    """A Parquet file, with the first and the last of a key's values in it."""

    path: Path
    first: int
    last: int


def write_sorted(
    workspace: Workspace,
    sources: Sequence[Path],
    key: str,
    within: Sequence[range] = (range(sys.maxsize),),
) -> dict[int, Path]:
    """Write the rows of Parquet files, in the order of a key, to files beside the first.

    Each holds so many keys as can be sorted in a small part of the memory: DuckDB's own sort
    does not find room for wide rows there. Rows that lie near their place are read once; those
    that lie anywhere are first brought near it, so that they are not read for each file anew.

    Args:
        workspace: The private DuckDB.
        sources: The files, with the same columns, written with `plain`.
        key: A column of distinct integers from 0 on, with few gaps.
        within: Ranges, in order, in which all keys lie; no file has keys of two of them.

    Returns:
        The files in order, by the least key that each may have; one without a row if there is none.
    """
    ranges = [
        _Range(Path(path), first, last)
        for path, first, last in workspace.rows(_ranges_sql(sources, key))
    ]
    groups = _groups_sql(sources, key)
    (size,) = workspace.row(f"select coalesce(sum(size), 0) from ({groups})")
    end = max((one.last for one in ranges), default=0) + 1
    chunks = max(1, -(-int(size) // _SORTED_BYTES))
    step = -(-end // chunks)
    (read,) = workspace.row(
        f"select coalesce(sum(size * (last // {step} - first // {step} + 1)), 0) from ({groups})"
    )
    steps = _cut(range(0, end, step), within)
    if read <= _READ_TIMES * size:
        return _sorted(workspace, ranges, key, steps, sources[0])
    wide = step * math.isqrt(chunks)
    paths: dict[int, Path] = {}
    for start in range(0, end, wide):
        stop = min(start + wide, end)
        near = workspace.directory / f"{sources[0].stem}-near-{start}.parquet"
        workspace.write_parquet(
            _between_sql(ranges, key, start, stop, sources[0]), near, plain=True
        )
        nearby = [_Range(near, start, stop - 1)]
        steps = _cut(range(start, stop, step), within)
        paths |= _sorted(workspace, nearby, key, steps, sources[0])
        near.unlink()
    return paths


def _cut(steps: range, within: Sequence[range]) -> list[range]:
    """Return the parts of each step that lie in the ranges."""
    parts = (
        range(max(start, one.start), min(start + steps.step, steps.stop, one.stop))
        for start in steps
        for one in within
    )
    return [part for part in parts if part]


def _sorted(
    workspace: Workspace, ranges: Sequence[_Range], key: str, steps: Sequence[range], beside: Path
) -> dict[int, Path]:
    paths = {}
    for step in steps:
        path = beside.with_name(f"{beside.stem}-{step.start}.parquet")
        rows = _between_sql(ranges, key, step.start, step.stop, beside)
        workspace.write_parquet(f"{rows} order by {key}", path)
        paths[step.start] = path
    return paths


def _between_sql(ranges: Sequence[_Range], key: str, start: int, stop: int, otherwise: Path) -> str:
    """Build the SELECT of the rows from one key on, below another.

    Only files that may hold some are opened: there may be as many files as there are such SELECTs.
    """
    paths = [one.path for one in ranges if one.first < stop and one.last >= start]
    return (
        f"select * from read_parquet({literals(paths or [otherwise])}) "
        f"where {key} >= {start} and {key} < {stop}"
    )


def _ranges_sql(sources: Sequence[Path], key: str) -> str:
    """Build the SELECT of the first and the last key of each Parquet file that has a row."""
    return f"""
        select file_name, min(first), max(last)
        from ({_groups_sql(sources, key)})
        group by file_name
    """


def _groups_sql(sources: Sequence[Path], key: str) -> str:
    """Build the SELECT of the row groups of Parquet files: bytes, first and last key."""
    is_key = f"path_in_schema = {literal(key)}"
    return f"""
        select
            file_name,
            sum(total_uncompressed_size) as size,
            min(try_cast(stats_min_value as bigint)) filter ({is_key}) as first,
            max(try_cast(stats_max_value as bigint)) filter ({is_key}) as last
        from parquet_metadata({literals(sources)})
        group by file_name, row_group_id
    """
