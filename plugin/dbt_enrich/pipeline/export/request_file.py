"""Write the input file of a claimed shard: one line of JSON a request."""

from __future__ import annotations

from collections.abc import Mapping

from dbt_enrich.console.timings import Stage, Timings
from dbt_enrich.endpoints.packs import MARK, message_sql
from dbt_enrich.endpoints.request_lines import RequestLines, images_sql, line_sql
from dbt_enrich.images.store import mark_sql
from dbt_enrich.pipeline.export.split_file import cut_in_two
from dbt_enrich.pipeline.stage.staged_rows import StagedRows
from dbt_enrich.sql import key_text_sql
from dbt_enrich.state.run import Run
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.workspace.database import Workspace
from dbt_enrich.workspace.row_sizes import CHUNK_BYTES, CHUNK_ROWS

# Bytes of the messages of a range, about.
_RANGE_BYTES = 4_194_304


class ClaimedFiles:
    """The input files of the shards that one run claims, each written when its turn comes.

    Args:
        run: The run.
        rows: The rows that were staged.
        lines: How the lines are made.
        timings: Counts the seconds of writing.
    """

    def __init__(self, run: Run, rows: StagedRows, lines: RequestLines, timings: Timings) -> None:
        self._run = run
        self._rows = rows
        self._lines = lines
        self._timings = timings
        self._sources: dict[str, str] = {}

    def expect(self, claimed: Mapping[str, str]) -> None:
        """Take the names of claimed shards, each with the SELECT of its requests."""
        self._sources.update(claimed)

    def write(self, shard: Shard) -> Shard | None:
        """Write a claimed shard's file; return None if this run did not claim it."""
        source = self._sources.pop(shard.shard, None)
        if source is None:
            return None
        with self._timings.span(Stage.WRITE, rows=shard.row_count) as span:
            written = write_file(self._run, shard, source, self._rows, self._lines)
            span.bytes = written.bytes
        return written

    def cut_in_two(self, shard: Shard) -> list[Shard]:
        """Put two shards in the place of one; return none if it cannot be cut."""
        return cut_in_two(self._run, shard)


def write_file(run: Run, shard: Shard, source: str, rows: StagedRows, lines: RequestLines) -> Shard:
    """Write a claimed shard's input file.

    Args:
        run: The run.
        shard: The shard.
        source: The SELECT of its requests, as `claim` returned it.
        rows: The rows that were staged.
        lines: How its lines are written.

    Returns:
        The shard, ready to upload.
    """
    path = run.store.requests(shard.shard)
    is_packed = "custom_id" in run.workspace.columns(source)
    enlarge, ranges = _ranges(source, run.workspace, is_packed=is_packed)
    template = lines.template(shard.deployment or "", enlarge=enlarge, packed=is_packed)
    line = line_sql(
        template,
        key="'pack'" if is_packed else key_text_sql("request_key"),
        attempt=f"substr(custom_id, {len(MARK) + 1})" if is_packed else "attempt",
        message="user_message",
        repair="cast(null as varchar)" if is_packed else "repair",
        images=images_sql(template, "pictures", _url_sql) if rows.pictures else None,
        is_json=is_packed and lines.endpoint.takes_lists,
    )
    message = "user_message"
    if is_packed:
        message = message_sql(message, "position", as_list=lines.endpoint.takes_lists)
    selects = [
        f"select {line} as line from {_asked_sql(rows, source, start, end, message, is_packed)}"
        for start, end in ranges
    ]
    if rows.pictures:
        marked = run.workspace.directory / f"{path.stem}-marked.jsonl"
        run.workspace.write_lines(selects, marked)
        rows.pictures.fill(marked, path)
        marked.unlink()
    else:
        run.workspace.write_lines(selects, path)
    return run.ledger.shards.record(shard, Step.EXPORTED, bytes=path.stat().st_size)


def _url_sql(picture: str) -> str:
    """Build the address of a picture, as JSON; with a mark in the place of its bytes."""
    mark = mark_sql(f"{picture}.place", f"{picture}.size")
    return (
        f"if({picture}.address is not null, cast(to_json({picture}.address) as varchar), "
        f"""concat('"data:', {picture}.media_type, ';base64,', {mark}, '"'))"""
    )


def _asked_sql(
    rows: StagedRows, source: str, first: int, last: int, message: str, is_packed: bool
) -> str:
    """Build the table expression of a range of a shard's requests, with their user messages."""
    # The range lets the reader pass over the row groups of other shards.
    between = f"where row_id between {first} and {last}"
    columns = "row_id, user_message" + (", pictures" if rows.pictures else "")
    requests = (
        f"(select {columns} from {rows.all_sql} {between}) as messages "
        f"join (select * from ({source}) {between}) as requests using (row_id)"
    )
    if not is_packed:
        return requests
    return f"(select custom_id, {message} as user_message from {requests} group by custom_id)"


def _ranges(
    source: str, workspace: Workspace, *, is_packed: bool
) -> tuple[int, list[tuple[int, int]]]:
    """Cut a shard's rows between lines, so that a range of them is put together in memory.

    Returns:
        The factor on the token limits, and the first and the last row of each range.
    """
    rows_in_line = "max(position)" if is_packed else "1"
    enlarge, first, last, most = workspace.row(
        f"""
        with chunks as (
            select
                any_value(enlarge) * {rows_in_line} as enlarge,
                min(row_id) as first,
                max(row_id) as last,
                sum(message_bytes) as bytes
            from ({source})
            group by row_id // {CHUNK_ROWS}
        )
        select max(enlarge), min(first), max(last), max(bytes) from chunks
        """
    )
    if not is_packed and most <= CHUNK_BYTES:
        return enlarge, [(first, last)]
    found = workspace.rows(
        f"""
        with lines as (
            select
                min(row_id) as first,
                sum(message_bytes) as bytes,
                (row_number() over (order by min(row_id)) - 1) // {workspace.least_rows} as number
            from ({source})
            group by {"custom_id" if is_packed else "row_id"}
        ),
        numbers as (
            select min(first) as first, sum(bytes) as bytes from lines group by number
        ),
        parts as (
            select first, sum(bytes) over (order by first) // {_RANGE_BYTES} as part from numbers
        )
        select min(first) from parts group by part order by 1
        """
    )
    starts = [int(start) for (start,) in found]
    ends = [start - 1 for start in starts[1:]]
    return enlarge, list(zip(starts, [*ends, last], strict=True))
