"""Changes: which rows of the enriched table a rebuild would make anew, so that only they are.

The ledger says what the table held when it was published, and from which answers. Where it still
holds that, a row with the columns of a row of the SELECT is what a rebuild would make of it, unless
an answer to it came since. Whatever cannot be proved this way is built anew.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from dbt_enrich import __version__
from dbt_enrich.pipeline.export.in_flight import in_flight_sql
from dbt_enrich.pipeline.export.new_requests import Selection
from dbt_enrich.pipeline.request import EnrichmentRequest
from dbt_enrich.pipeline.stage.staged_rows import StagedRows
from dbt_enrich.sql import literal, literals
from dbt_enrich.state.run import Run
from dbt_enrich.state.tables.contents import Content, RowSums, add_rows
from dbt_enrich.task.result_columns import ERROR_TYPES, STATUS_TYPES
from dbt_enrich.task.version import short_version
from dbt_enrich.warehouse.catalogs import Catalog
from dbt_enrich.warehouse.content import content_sql
from dbt_enrich.warehouse.copy_out import copy_out
from dbt_enrich.warehouse.enriched_table import ExistingTable, empty_table_sql
from dbt_enrich.warehouse.relation import StagedRelation
from dbt_enrich.warehouse.stays import Stays
from dbt_enrich.workspace.database import Workspace
from dbt_enrich.workspace.key_ranges import hash_parts

# A rebuild is faster where more of the rows than this are to be touched.
_MOST_TOUCHED = 0.3
# Statuses that only an answer changes, or the row itself.
_SETTLED = "('done', 'failed', 'skipped')"


@dataclass(frozen=True)
class Changes:
    """What is to be changed in a table so that it is what a rebuild would make.

    Attributes:
        rows: The staged rows that are to be put into it, in place of those with their unique keys.
        gone: Rows of it that the SELECT does not yield as they are: changed, or gone.
        counts: Its other rows, which stay, by status.
        content: What these hold.
        kept: Those of them that keep an answer to a previous version of the task.
        errors: Those of them that failed, by kind.
        files: The files of the answer store that were looked at.
    """

    rows: StagedRows
    gone: int
    counts: Mapping[str, int]
    content: Mapping[str, RowSums]
    kept: int
    errors: Mapping[str, int]
    files: frozenset[str]


def content_of(
    request: EnrichmentRequest,
    selection: Selection,
    files: frozenset[str],
    changes: Changes | None,
) -> Content | None:
    """Return what the ledger is to record of a table once it is committed, but for new rows.

    Args:
        request: What names the table.
        selection: What was asked, and whose answers stand.
        files: The files of the answer store of which every row was made.
        changes: What alone is changed in the table, or None where all of it is made anew.
    """
    if request.target is None:
        return None
    rows = changes.content if changes else {}
    return Content(request.target, _basis(request, selection), files, rows)


def published_content_sql(request: EnrichmentRequest) -> tuple[str, ...] | None:
    """Build the expressions of what a row of the published table holds.

    Returns:
        They, or None where a column is of a type that has no such expression, or nothing is to be
        recorded of the table.
    """
    if request.merged_into or request.placement.catalog != Catalog.DUCKDB:
        return None
    relation, outputs = request.relation, request.task.outputs
    columns = {**relation.columns(), **{o.name: o.type.sql for o in outputs}, **STATUS_TYPES}
    expressions = content_sql(columns)
    try:
        relation.connection.execute(
            f"select {', '.join(expressions)} from ({empty_table_sql(relation, outputs)})"
        )
    except duckdb.Error:
        return None
    return expressions


def find_changes(
    run: Run, rows: StagedRows, request: EnrichmentRequest, selection: Selection
) -> Changes | None:
    """Find what is to be changed in the table that is there, or None where it is built anew.

    Args:
        run: The run.
        rows: The staged rows.
        request: What names the staged relation, the table, and how much of it may stay.
        selection: What was asked, and whose answers stand.
    """
    existing, recorded = request.existing, _recorded(run, request, selection)
    if existing is None or recorded is None:
        return None
    # Before the answers: what is stored meanwhile is in one of the two.
    flying = in_flight_sql(run, selection.task_key)
    files = _files(run, selection)
    came = {name: answers for name, answers in files.items() if name not in recorded.files}
    if not recorded.files <= files.keys() or sum(came.values()) > _MOST_TOUCHED * rows.rows:
        return None
    table = _Table(run.workspace, request, existing, short_version(selection.task_key))
    try:
        if table.sums() != recorded.rows:
            return None
        comparison = _Comparison(run.workspace, request.relation, rows, table)
        answered = f"(select request_key from {run.answers.table_of(list(came))})"
        open_keys = [answered, flying] if came else [flying]
        return comparison.changes(open_keys, request.stays, frozenset(files))
    finally:
        table.remove()


def errors_differ(request: EnrichmentRequest, select: str) -> bool:
    """Whether the errors table that is there is another one than a SELECT would make.

    Args:
        request: What names the staged relation and the tables.
        select: The SELECT of the errors.
    """
    relation, existing = request.relation, request.existing
    if existing is None or existing.errors is None or not request.errors_may_stay:
        return True

    def found(sql: str) -> list[tuple[object, ...]]:
        return relation.connection.execute(sql).fetchall()

    there, made = (found(f"describe {table}") for table in (existing.errors, f"({select})"))
    if [row[:2] for row in there] != [row[:2] for row in made]:
        return True
    sums = ", ".join(
        f"sum({value})" for value in content_sql({str(row[0]): str(row[1]) for row in made})
    )
    tables = (existing.errors, f"({select})")
    one, other = (found(f"select count(*), {sums} from {table}") for table in tables)
    return one != other


def _recorded(run: Run, request: EnrichmentRequest, selection: Selection) -> Content | None:
    """Return what the table held when it was published, if it was made as it would be now."""
    if request.stays == Stays.NOTHING or request.merged_into or request.target is None:
        return None
    recorded = run.ledger.contents.get(request.target)
    if recorded is None or recorded.basis != _basis(request, selection):
        return None
    return recorded


def _basis(request: EnrichmentRequest, selection: Selection) -> str:
    relation = request.relation
    decides = (
        __version__,
        duckdb.__version__,
        selection.answer_keys,
        relation.unique_key,
        list(relation.columns().items()),
        [(output.name, output.type.sql) for output in selection.task.outputs],
        STATUS_TYPES,
        ERROR_TYPES,
    )
    return hashlib.sha256(repr(decides).encode()).hexdigest()


def _files(run: Run, selection: Selection) -> dict[str, int]:
    """Return the live files of the answers that stand, with how many each holds."""
    live = run.ledger.answers.live
    return {name: count for key in selection.answer_keys for name, count in live(key).items()}


class _Table:
    """What the rows of the table that is there hold, as Parquet files."""

    def __init__(
        self,
        workspace: Workspace,
        request: EnrichmentRequest,
        existing: ExistingTable,
        version: str,
    ) -> None:
        relation = request.relation
        outputs = {output.name: output.type.sql for output in request.task.outputs}
        staged = relation.columns()
        own = content_sql(staged)
        whole = content_sql({**staged, **outputs, **STATUS_TYPES})
        self._workspace = workspace
        self._directory = workspace.directory / "table"
        files = copy_out(
            relation.connection,
            f"""
            select
                rowid as place, {own[0]} as first, {own[1]} as second,
                {whole[0]} as whole_first, {whole[1]} as whole_second,
                cast(enrichment_status as varchar) as status,
                if(enrichment_status = 'failed', split_part(enrichment_error, ':', 1), null)
                    as kind,
                enrichment_status = 'done' and enrichment_version <> {literal(version)} as is_kept
            from {existing.name} as there
            """,
            self._directory,
            rows=f"model '{relation.model}': what its table holds",
        )
        self.sql = f"read_parquet({literals(files)})"

    def sums(self) -> dict[str, RowSums]:
        """Sum up what the rows of each status hold."""
        found = self._workspace.rows(
            "select status, count(*), cast(sum(whole_first) as varchar), "
            f"cast(sum(whole_second) as varchar) from {self.sql} group by status"
        )
        return {status: (count, first, second) for status, count, first, second in found}

    def remove(self) -> None:
        """Remove the files."""
        shutil.rmtree(self._directory)


class _Comparison:
    """The rows of the SELECT beside those of the table that hold the same."""

    def __init__(
        self, workspace: Workspace, relation: StagedRelation, rows: StagedRows, table: _Table
    ) -> None:
        self._workspace = workspace
        self._rows = rows
        first, second = content_sql(relation.columns())
        directory = workspace.directory / "staged-content"
        files = copy_out(
            relation.connection,
            f"select rowid as row_id, {first} as first, {second} as second "
            f"from {relation.name} as staged",
            directory,
            rows=f"model '{relation.model}': the staged rows",
        )
        self._pairs = self._paired(f"read_parquet({literals(files)})", table)
        (self._in_table,) = workspace.row(f"select count(*) from {table.sql}")
        shutil.rmtree(directory)

    def _paired(self, staged: str, table: _Table) -> str:
        """Write each staged row beside what the table has of it; return the table expression."""
        written = []
        for number, condition in enumerate(hash_parts("first", self._rows.rows)):
            path = self._workspace.directory / f"pairs-{number}.parquet"
            self._workspace.write_parquet(
                f"""
                select
                    staged.row_id, there.status, there.kind, there.is_kept,
                    there.whole_first, there.whole_second,
                    there.place is distinct from staged.row_id as has_moved
                from (select * from {staged} where {condition}) as staged
                left join (
                    select place, first, second, whole_first, whole_second, status, kind, is_kept
                    from {table.sql} where {condition}
                ) as there using (first, second)
                """,
                path,
            )
            written.append(path)
        return f"read_parquet({literals(written)})"

    def changes(
        self, open_keys: Sequence[str], stays: Stays, files: frozenset[str]
    ) -> Changes | None:
        """Return what is to be changed, or None where so much is that a rebuild is better.

        Args:
            open_keys: Table expressions of the request keys whose rows may have become others.
            stays: How much of the table may stay.
            files: The files of the answer store that were looked at.
        """
        touched = self._touched(open_keys)
        (count,) = self._workspace.row(f"select count(*) from read_parquet({literal(touched)})")
        found, moved = self._workspace.row(
            f"select count(status), count(*) filter (has_moved) from {self._pairs}"
        )
        gone = self._in_table - found
        if stays != Stays.ROWS and (count or gone):
            return None
        if stays == Stays.ORDERED and moved:
            return None
        if max(count, gone) > _MOST_TOUCHED * self._rows.rows:
            return None
        return self._changes(touched, gone, files)

    def _touched(self, open_keys: Sequence[str]) -> Path:
        """Write the row_ids of the rows that the table does not have as a rebuild would."""
        path = self._workspace.directory / "touched-ids.parquet"
        keys = " union all ".join(f"select request_key from {keys}" for keys in open_keys)
        self._workspace.write_parquet(
            f"""
            select distinct row_id
            from (
                select row_id from {self._pairs} where status is null or status not in {_SETTLED}
                union all
                select row_id from {self._rows.all_sql} as staged where is_owed
                union all
                select keys.row_id
                from {self._rows.keys_sql} as keys
                semi join ({keys}) as open using (request_key)
            )
            """,
            path,
        )
        return path

    def _changes(self, touched: Path, gone: int, files: frozenset[str]) -> Changes:
        path = self._workspace.directory / "touched.parquet"
        ids = f"(select row_id from read_parquet({literal(touched)}))"
        self._workspace.write_parquet(
            "select row_id, request_key, is_owed, missing "
            f"from {self._rows.all_sql} as staged semi join {ids} as touched using (row_id)",
            path,
        )
        rows, keyed, owed = self._workspace.row(
            "select count(*), count(request_key), count(*) filter (is_owed) "
            f"from read_parquet({literal(path)})"
        )
        found = self._workspace.rows(
            f"""
            select status, kind, is_kept, count(*), sum(whole_first), sum(whole_second)
            from {self._pairs} as pairs
            anti join {ids} as touched using (row_id)
            group by all
            """
        )
        counts: Counter[str] = Counter()
        errors: Counter[str] = Counter()
        content: dict[str, RowSums] = {}
        for status, kind, _, count, *sums in found:
            counts[status] += count
            content = add_rows(content, {status: (count, *map(str, sums))})
            if kind is not None:
                errors[kind] += count
        return Changes(
            rows=StagedRows(
                files=(path,),
                rows=rows,
                skipped=rows - keyed - owed,
                owed=owed,
                waits_for=self._rows.waits_for,
            ),
            gone=gone,
            counts=counts,
            content=content,
            kept=sum(count for _, _, is_kept, count, *_ in found if is_kept),
            errors=errors,
            files=files,
        )
