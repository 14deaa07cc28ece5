"""Publish: the answers of the staged rows as SQL that builds the enriched table and its errors.

Answers that lie in their file as the rows do are read from there. The private DuckDB writes the
results of all other rows, and the errors, to Parquet files. The two SELECTs that read them run in
the user's database, on dbt's own connection and in its transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dbt_enrich.pipeline.export.final_failures import Finals, find_finals
from dbt_enrich.pipeline.export.in_flight import in_flight_sql
from dbt_enrich.pipeline.export.new_requests import Selection, find_undone
from dbt_enrich.pipeline.publish.aligned_answers import find_aligned, gaps_between
from dbt_enrich.pipeline.publish.changes import Changes
from dbt_enrich.pipeline.publish.errors_table import errors_table_sql, write_errors
from dbt_enrich.pipeline.request import EnrichmentRequest
from dbt_enrich.pipeline.stage.pictures import UNUSABLE
from dbt_enrich.pipeline.stage.staged_rows import StagedRows
from dbt_enrich.sql import literal, literals
from dbt_enrich.state.answer_store import PREVIOUS_PREFIX, TYPED, standing_sql
from dbt_enrich.state.attempts import Attempts, attempts_of
from dbt_enrich.state.run import Run
from dbt_enrich.state.tables.answers import AnswerFile
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.task.version import VERSION_DIGITS
from dbt_enrich.validation.answers import answer_struct_type, typed_answers_sql
from dbt_enrich.validation.values import parquet_answer_sql
from dbt_enrich.warehouse.catalogs import Catalog
from dbt_enrich.warehouse.enriched_table import Pairing, enriched_sql
from dbt_enrich.workspace.database import Workspace
from dbt_enrich.workspace.key_ranges import key_parts
from dbt_enrich.workspace.sorted_files import write_sorted

# Answers whose rows are looked up at once: their keys fit into a small part of the memory, so that
# the answers' texts stream past them and are never spilled.
_LOOKED_UP = 200_000
# Two row groups of DuckDB's tables, each of which one thread writes: so few rows gain nothing from
# more threads, and keep the order in which they came.
_ROWS_OF_ONE_THREAD = 245_760
# Bytes that a hash join holds of a byte of an lz4 Parquet file; 6 were measured of a million films.
_HELD_PER_BYTE = 8
# Rows of one row group of a file that is read once, in pieces.
_RESULT_GROUP = 8_192
# Of a row whose text another enrichment still owes; no other pending row has an error.
_MISSING = "missing_input: "
_WAITS = f"{_MISSING}waits for the text of "


@dataclass(frozen=True)
class Published:
    """What the materialization publishes.

    Attributes:
        enriched_sql: SELECT of the enriched table, over the staged relation.
        errors_sql: SELECT of the errors table.
        counts: Rows of the model by status.
        kept: Rows that keep an answer to a previous version of the task.
        errors: Failed rows by kind.
        finals: Those of them that no run asks again by itself, by kind.
        bytes: The files that the SELECTs read.
        files: The files of the answer store of which every row is made.
        touched: How many rows `enriched_sql` yields, where they alone are put into the table that
            is there, or None where all are.
        gone: How many rows of that table the SELECT does not yield as they are, then.
    """

    enriched_sql: str
    errors_sql: str
    counts: Mapping[str, int]
    kept: int
    errors: Mapping[str, int]
    finals: Mapping[str, int]
    bytes: int
    files: frozenset[str] = frozenset()
    touched: int | None = None
    gone: int = 0


def publish(
    run: Run,
    rows: StagedRows,
    request: EnrichmentRequest,
    selection: Selection,
    changes: Changes | None = None,
) -> Published:
    """Give every staged row its status, and its answer where there is one.

    Args:
        run: The run.
        rows: The staged rows.
        request: What names the staged relation, and the table whose outputs a pending row keeps.
        selection: What was asked, and whose answers stand.
        changes: What alone is to be changed in the table that is there, or None where it is built.
    """
    written = changes.rows if changes else rows
    relation, outputs, task_key = request.relation, selection.task.outputs, selection.task_key
    in_flight = in_flight_sql(run, task_key)
    # Listed once: what another run stores meanwhile would change the files' numbers.
    attempts = attempts_of(run, selection.answer_keys, None)
    aligned = {} if changes else find_aligned(run, rows, attempts)
    results = _Results()
    others = written.rows - sum(len(there) for there in aligned.values())
    if others or not aligned:
        gaps = None if changes else gaps_between(list(aligned.values()))
        among = rows.within(gaps or [], others) if aligned else written
        results = _write_results(among, gaps, attempts, in_flight, outputs, run.workspace)
    counts: Counter[str] = Counter(changes.counts if changes else {})
    counts.update(results.counts)
    if aligned:
        counts["done"] += written.rows - others
    if request.done:
        counts["done"] += request.done
    finals = Finals()
    if counts.get("failed"):
        finals = find_finals(run, find_undone(run, rows, selection.answer_keys), selection)
    errors = write_errors(rows, attempts, finals, relation.model, run.workspace)
    keeps = counts.get("pending") and request.options.on_pending == "keep"
    previous = request.existing if keeps else None
    kinds: Counter[str] = Counter(changes.errors if changes else {})
    kinds.update(results.errors)
    starts = {there.start: path for path, there in aligned.items()}
    in_order = [path for _, path in sorted({**starts, **results.files}.items())]
    return Published(
        enriched_sql=enriched_sql(
            relation,
            outputs,
            in_order,
            previous,
            task_key,
            pairing=_pairing(request, rows, in_order, changes),
            stored=list(aligned),
        ),
        errors_sql=errors_table_sql(relation, errors),
        counts=counts,
        kept=results.kept + (changes.kept if changes else 0) + request.kept,
        errors=dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0]))),
        finals=finals.kinds,
        bytes=sum(path.stat().st_size for path in (*in_order, *errors)),
        files=changes.files if changes else frozenset(file.name for file in attempts.files),
        touched=changes.rows.rows if changes else None,
        gone=changes.gone if changes else 0,
    )


def _pairing(
    request: EnrichmentRequest, rows: StagedRows, results: Sequence[Path], changes: Changes | None
) -> Pairing:
    """Return how rows and results come together: in order, or faster where none is asked for."""
    if changes:
        return Pairing.SOME
    is_ordered = request.is_ordered or rows.rows <= _ROWS_OF_ONE_THREAD
    if is_ordered or request.placement.catalog != Catalog.DUCKDB:
        return Pairing.IN_ORDER
    held = _HELD_PER_BYTE * sum(path.stat().st_size for path in results)
    return Pairing.BY_NUMBER if request.relation.leaves_room(held) else Pairing.IN_ORDER


@dataclass(frozen=True)
class _Results:
    """What became of some staged rows.

    Attributes:
        files: Parquet files of it, by the least row that each may have where rows are in order.
        counts: Rows by status.
        kept: Rows that keep an answer to a previous version of the task.
        errors: Failed rows by kind.
    """

    files: Mapping[int, Path] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    kept: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)


def _write_results(
    rows: StagedRows,
    ranges: Sequence[range] | None,
    attempts: Attempts,
    in_flight: str,
    outputs: Sequence[OutputColumn],
    workspace: Workspace,
) -> _Results:
    """Write what became of staged rows, wherever their answers lie.

    Args:
        rows: The rows.
        ranges: The ranges in which they lie, or None where they may be in any order.
        attempts: The answers.
        in_flight: Table expression of the requests that are in flight.
        outputs: The output columns.
        workspace: Where answers are looked up and typed.
    """
    places = _write_places(rows, attempts.all_sql, in_flight, workspace)
    written = _write_typed(rows, places, attempts, outputs, workspace)
    file = f"read_parquet({literals(written)})"
    in_order = dict(enumerate(written))
    if ranges is not None:
        in_order = write_sorted(workspace, written, "row_id", ranges)
    kept = f"select count(previous_version) from {file} where status = 'done'"
    errors = (
        f"select split_part(error, ':', 1), count(*) from {file} where status = 'failed' group by 1"
    )
    return _Results(
        files=in_order,
        counts=dict(workspace.rows(f"select status, count(*) from {file} group by status")),
        kept=workspace.row(kept)[0],
        errors=dict(workspace.rows(errors)),
    )


def _write_places(
    rows: StagedRows, answers: str, in_flight: str, workspace: Workspace
) -> list[Path]:
    """Write where the answer of each row that has a message lies: the file, or none.

    Each step joins or groups keys alone, and is the only one that holds memory.
    """
    standings = workspace.directory / "standings.parquet"
    written = []
    for part in key_parts(rows.rows):
        keys = part.of(rows.keys_sql)
        workspace.write_parquet(
            f"""
            select
                standings.request_key, standings.file_index,
                flying.request_key is not null as flies
            from ({standing_sql(answers, keys, part=part)}) as standings
            left join (select distinct request_key from {part.of(in_flight)} as claimed) as flying
                using (request_key)
            """,
            standings,
        )
        places = workspace.directory / f"places-{part.number}.parquet"
        workspace.write_parquet(
            f"""
            select keys.row_id, keys.request_key, standings.file_index, standings.flies
            from {keys} as keys
            left join read_parquet({literal(standings)}) as standings using (request_key)
            """,
            places,
        )
        written.append(places)
        standings.unlink()
    return written


def _write_typed(
    rows: StagedRows,
    places: Sequence[Path],
    attempts: Attempts,
    outputs: Sequence[OutputColumn],
    workspace: Workspace,
) -> list[Path]:
    """Write one row for each staged row: its status, and its answer if it has one.

    Args:
        rows: The staged rows.
        places: Where the answer of each row lies.
        attempts: The answers.
        outputs: The output columns.
        workspace: Where answers are typed.

    Returns:
        The files, together with one row for each staged row, in no order.
    """
    path = workspace.directory / "results.parquet"
    written = [path]
    places_sql = f"read_parquet({literals(places)})"
    unanswered = _unanswered_sql(rows, places_sql, outputs)
    workspace.write_parquet(unanswered, path, row_group=_RESULT_GROUP, plain=True)
    read = {int(number) for (number,) in workspace.rows(_read_sql(places_sql))}
    # At once: where they are fetched, they come side by side.
    attempts.store.with_texts([attempts.files[number].name for number in sorted(read)])
    for first, group in _groups(attempts.files):
        if read.isdisjoint(range(first, first + len(group))):
            continue
        path = workspace.directory / f"results-of-{first}.parquet"
        answers = attempts.store.table_with_texts(group, [n - first for n in read])
        typed = TYPED if attempts.store.has_typed(answers) else None
        query = _answered_sql(places_sql, answers, first, len(group), outputs, typed)
        workspace.write_parquet(query, path, row_group=_RESULT_GROUP, plain=True)
        written.append(path)
    for path in places:
        path.unlink()
    return written


def _read_sql(places: str) -> str:
    """Build the SELECT of the numbers of the files in which the answers of rows lie."""
    return f"select distinct file_index from {places} as places where file_index is not null"


def _groups(files: Sequence[AnswerFile]) -> Iterator[tuple[int, list[str]]]:
    """Yield files, in order, that are read together, each time with the number of the first."""
    group: list[str] = []
    first = held = 0
    for number, file in enumerate(files):
        if group and held + file.answers > _LOOKED_UP:
            yield first, group
            group, first, held = [], number, 0
        group.append(file.name)
        held += file.answers
    if group:
        yield first, group


def _answered_sql(
    places: str,
    answers: str,
    first: int,
    files: int,
    outputs: Sequence[OutputColumn],
    typed: str | None,
) -> str:
    """Build the SELECT of the results of the rows whose answers lie in some files.

    Args:
        places: Table expression of where the answer of each row lies.
        answers: Table expression of those files.
        first: The number of the first of them.
        files: How many there are.
        outputs: The output columns.
        typed: The column of typed answers, if one of the files has it.
    """
    stored = f"answers.{typed} as stored," if typed else ""
    standing = f"""(
        select
            places.row_id, places.flies,
            answers.request_key, answers.kind, answers.message, answers.model, answers.batch_id,
            answers.received_at, answers.shard, {stored}
            if(answers.kind = 'done', answers.content, null) as clean_content
        from {answers} as answers
        join (
            select row_id, request_key, flies, file_index - {first} as file_index
            from {places} as places
            where file_index between {first} and {first + files - 1}
        ) as places using (request_key, file_index)
    )"""
    return f"""
        with typed as (
            {typed_answers_sql(standing, list(outputs), stored="stored" if typed else None)}
        ),
        answered as (
            select
                *,
                case
                    when answer is not null then 'done'
                    when flies then 'pending'
                    else 'failed'
                end as status
            from typed
        )
        select
            row_id,
            status,
            case
                when status <> 'failed' then null
                when kind = 'done' then 'schema_mismatch: the stored answer cannot be read as the '
                    || 'output columns'
                else concat_ws(': ', kind, message)
            end as error,
            if(status = 'pending', null, model) as model,
            if(status = 'pending', null, batch_id) as batch_id,
            if(status = 'done', received_at, null) as enriched_at,
            request_key,
            if(starts_with(shard, {literal(PREVIOUS_PREFIX)}),
                substr(shard, {len(PREVIOUS_PREFIX) + 1}, {VERSION_DIGITS}), null)
                as previous_version,
            {parquet_answer_sql("answer", outputs)} as answer
        from answered
    """


def _unanswered_sql(rows: StagedRows, places: str, outputs: Sequence[OutputColumn]) -> str:
    """Build the SELECT of the results of the rows that have no answer."""
    none = parquet_answer_sql(f"cast(null as {answer_struct_type(list(outputs))})", outputs)
    return f"""
        with unanswered as (
            select row_id, request_key, false as is_owed, null as missing
            from {places} as places
            where file_index is null
            union all
            select row_id, request_key, is_owed, missing
            from {rows.all_sql} as staged
            where request_key is null
        )
        select
            row_id,
            if(request_key is null and not is_owed, 'skipped', 'pending') as status,
            case
                when is_owed then {literal(_WAITS + " and ".join(rows.waits_for))}
                when starts_with(missing, {literal(UNUSABLE)}) then missing
                when request_key is null then {literal(_MISSING)} || missing
            end as error,
            cast(null as varchar) as model,
            cast(null as varchar) as batch_id,
            cast(null as timestamp with time zone) as enriched_at,
            request_key,
            cast(null as varchar) as previous_version,
            {none} as answer
        from unanswered
    """
