"""Aligned answers: files of the answer store that lie as the staged rows do.

`load` writes a file in the order in which the rows were staged. Where they are staged in that order
again and each of them has its one answer there, the table is built from the file as it is: nothing
is looked up, sorted or written once more.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dbt_enrich.files import link_or_copy
from dbt_enrich.pipeline.stage.staged_rows import StagedRows
from dbt_enrich.sql import literal, literals
from dbt_enrich.state.answer_store import POSITION, TYPED
from dbt_enrich.state.attempts import Attempts
from dbt_enrich.state.run import Run
from dbt_enrich.workspace.database import Workspace
from dbt_enrich.workspace.key_ranges import key_parts


def find_aligned(run: Run, rows: StagedRows, attempts: Attempts) -> dict[Path, range]:
    """Find the files that have one answer of each of the rows in a range, in order, all `done`.

    Args:
        run: The run, which keeps the files until it has published.
        rows: The staged rows.
        attempts: The answers.

    Returns:
        The files, each with its range of row_id, in order; no two of them overlap.
    """
    names = [file.name for file in attempts.files]
    likely = list(range(len(names)))
    if attempts.store.is_shared:
        # What does not fit is not fetched to find it out.
        of_keys = attempts.store.without_texts(names)
        fitting = _fitting(of_keys, rows, run.workspace, "kind")
        likely = [number for number, path in enumerate(of_keys) if path in fitting]
    paths = attempts.store.with_texts([names[number] for number in likely])
    numbers = dict(zip(paths, likely, strict=True))
    fitting = _fitting(paths, rows, run.workspace, f"{TYPED},")
    contested = _contested(rows, list(fitting.values()), attempts, run.workspace)
    aligned = {}
    for path, there in sorted(fitting.items(), key=lambda found: found[1].start):
        if numbers[path] in contested:
            continue
        held = run.workspace.directory / f"held-{path.name}"
        # Another process may take it out of the answer store.
        with suppress(FileNotFoundError):
            link_or_copy(path, held)
            aligned[held] = there
    return aligned


def gaps_between(ranges: Sequence[range]) -> list[range]:
    """Return the ranges that others leave, from 0 on.

    Args:
        ranges: They, in order.
    """
    starts = [0, *(one.stop for one in ranges)]
    stops = [*(one.start for one in ranges), sys.maxsize]
    return [range(*ends) for ends in zip(starts, stops, strict=True) if ends[0] < ends[1]]


def _fitting(
    paths: Sequence[Path], rows: StagedRows, workspace: Workspace, column: str
) -> dict[Path, range]:
    """Return the files with the keys of all rows in a range, in their order, and with a column."""
    return {
        path: there
        for path, there in _in_order(paths, workspace, column).items()
        if _fits(path, there, rows, workspace)
    }


def _in_order(paths: Sequence[Path], workspace: Workspace, column: str) -> dict[Path, range]:
    """Return the files that may be in order and without gaps, by what their metadata says.

    Args:
        paths: The files.
        workspace: Where they are read.
        column: How the name of a column begins that they must have, for the others to be any good.
    """
    if not paths:
        return {}
    found = workspace.rows(
        f"""
        with columns as (
            select
                file_name, path_in_schema as name, num_values as rows,
                try_cast(stats_min_value as varchar) as least,
                try_cast(stats_max_value as varchar) as most
            from parquet_metadata({literals(paths)})
        )
        select
            file_name,
            min(try_cast(least as bigint)) filter (name = {literal(POSITION)}) as first,
            max(try_cast(most as bigint)) filter (name = {literal(POSITION)}) as last
        from columns
        group by file_name
        having count(*) filter (starts_with(name, {literal(column)})) > 0
            and sum(rows) filter (name = {literal(POSITION)}) = last - first + 1
            and bool_and(least = 'done' and most = 'done') filter (name = 'kind')
        """
    )
    return {Path(path): range(first, last + 1) for path, first, last in found}


def _fits(path: Path, there: range, rows: StagedRows, workspace: Workspace) -> bool:
    """Whether a file has the keys of all rows in a range, in their order."""
    within = f"between {there.start} and {there.stop - 1}"
    (fitting,) = workspace.row(
        f"""
        select count(*)
        from (
            select row_id, request_key from {rows.all_sql} where row_id {within}
        ) as staged
        join (
            select {POSITION}, request_key
            from read_parquet({literal(path)})
            where kind = 'done' and {POSITION} = {there.start} + file_row_number
        ) as answers using (row_id, request_key)
        """
    )
    return int(fitting) == len(there)


def _contested(
    rows: StagedRows, ranges: Sequence[range], attempts: Attempts, workspace: Workspace
) -> set[int]:
    """Return the numbers of the files that share a `done` answer of rows in some ranges.

    Which of them stands is no question of order.
    """
    if len(attempts.files) < 2 or not ranges:
        return set()
    there = rows.within(ranges, sum(map(len, ranges)))
    contested = set()
    for part in key_parts(there.rows):
        found = workspace.rows(
            f"""
            with done as (
                select answers.request_key, answers.file_index
                from {attempts.all_sql} as answers
                semi join {part.of(there.keys_sql)} as keys using (request_key)
                where {part.condition} and answers.kind = 'done'
            )
            select distinct file_index
            from done
            semi join (
                select request_key from done group by request_key having count(*) > 1
            ) as shared using (request_key)
            """
        )
        contested |= {int(number) for (number,) in found}
    return contested
