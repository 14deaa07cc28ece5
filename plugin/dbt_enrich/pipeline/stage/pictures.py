"""Pictures: what the rows refer to, read once each, and then the rows keyed by what was found.

First the rows are copied out of the user's database with references in the place of pictures, then
each distinct picture is read, and then the private DuckDB puts both together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from dbt_enrich.endpoints.response_lines import LINE_BYTES, lines_sql
from dbt_enrich.images.store import PictureStore
from dbt_enrich.pipeline.stage.picture_reader import ImageReading, PictureReader, lines_of
from dbt_enrich.sql import literal, literals
from dbt_enrich.task.enrichment_task import KEY_DIGITS
from dbt_enrich.task.image_columns import ADDRESS, HELD, PATH, ImageColumn
from dbt_enrich.warehouse.relation import StagedRelation
from dbt_enrich.workspace.database import Workspace

UNUSABLE: Final = "unusable_image: "
"""What the error of a row begins with that is skipped for a picture that no service would take."""

# Bytes of values that are fetched at once, and how many of them.
_FETCHED_BYTES, _FETCHED_VALUES = 8_388_608, 1_000
# Bytes of messages that are put together with their pictures at once.
_PART_BYTES = 16_777_216
_ROW_BYTES = 512
_COLUMNS = {
    "ref": "varchar", "identity": "varchar", "media_type": "varchar", "place": "bigint",
    "size": "bigint", "width": "integer", "height": "integer", "problem": "varchar",
    "is_absent": "boolean",
}  # fmt: skip
_PREFIX = "data:;base64,"
_SHOWN = 3


@dataclass(frozen=True)
class KeyedRows:
    """Rows with their pictures.

    Attributes:
        files: Parquet files as `StagedRows` has them, with `pictures`, a list of address, place,
            size, media_type, width and height, and of those `identities`, `picture_count` and
            `picture_bytes`, as they stand in a line.
        store: Where the pictures lie.
        unusable: Rows that are skipped for a picture that is not there, or cannot be sent.
        problems: Some of what is wrong with those pictures, the most frequent first.
    """

    files: tuple[Path, ...]
    store: PictureStore
    unusable: int
    problems: tuple[str, ...]


def key_sql(task_key: str, message: str, identities: str) -> str:
    """Build the request key of a row with pictures, as `image_row_key` makes it.

    Args:
        task_key: The task's identity.
        message: SQL expression of the row's message.
        identities: SQL expression of its pictures' identities, joined.
    """
    text = f"{literal(task_key)} || sha256({message}) || {identities}"
    return f"cast(left(sha256({text}), {KEY_DIGITS}) as uuid)"


def with_pictures(
    relation: StagedRelation,
    rows: Sequence[Path],
    columns: Sequence[ImageColumn],
    task_key: str,
    reading: ImageReading,
    workspace: Workspace,
) -> KeyedRows:
    """Read the pictures that rows refer to, and key the rows.

    Args:
        relation: The rows in the user's database, for what it holds itself.
        rows: Parquet files of row_id, user_message, is_owed, missing and refs.
        columns: The task's columns with pictures.
        task_key: The task's identity.
        reading: How pictures are read.
        workspace: Where the work is done.

    Raises:
        InputError: None of several files is there.
    """
    staging = _Staging(relation, f"read_parquet({literals(rows)})", columns, workspace)
    store = PictureStore(workspace.directory / "pictures.base64")
    report = workspace.directory / "pictures.jsonl"
    reader = PictureReader(reading, store, report)
    reader.read_files(staging.files(), model=relation.model)
    reader.read_values(staging.values())
    found = staging.found(report)
    files = staging.keyed(found, task_key, reading)
    unusable, problems = staging.problems(files)
    return KeyedRows(files, store, unusable, problems)


class _Staging:
    def __init__(
        self,
        relation: StagedRelation,
        rows: str,
        columns: Sequence[ImageColumn],
        workspace: Workspace,
    ) -> None:
        self._relation = relation
        self._rows = rows
        self._columns = columns
        self._workspace = workspace

    def files(self) -> Iterator[tuple[str, str]]:
        """Yield the references to local files, each once, with their paths."""
        path = self._workspace.directory / "picture-files.jsonl"
        self._workspace.write_lines(
            [
                f"""
                select cast(to_json([ref]) as varchar) as line
                from ({self._references_sql(PATH)})
                order by row_id, "column", position
                """
            ],
            path,
        )
        for (ref,) in lines_of(path):
            yield ref, ref.removeprefix(PATH)
        path.unlink()

    def values(self) -> Iterator[tuple[str, str | bytes]]:
        """Yield the references to what the warehouse holds, each once, with the values."""
        path = self._workspace.directory / "picture-values.jsonl"
        self._workspace.write_lines(
            [
                f"""
                with placed as (
                    select *,
                        sum(size) over in_order // {_FETCHED_BYTES} as by_size,
                        row_number() over in_order // {_FETCHED_VALUES} as by_number
                    from ({self._references_sql(*HELD)})
                    window in_order as (
                        order by row_id, "column", position rows unbounded preceding
                    )
                )
                select cast(
                    to_json([ref, by_size || ' ' || by_number, cast(row_id as varchar),
                        cast("column" as varchar), cast(position as varchar)]) as varchar
                ) as line
                from placed
                order by row_id, "column", position
                """
            ],
            path,
        )
        for _, batch in groupby(lines_of(path), key=lambda line: line[1]):
            yield from self._fetched(list(batch))
        path.unlink()

    def _fetched(self, batch: list[list[str]]) -> Iterator[tuple[str, str | bytes]]:
        for number, column in enumerate(self._columns):
            wanted = {
                (int(row), int(position)): ref
                for ref, _, row, of, position in batch
                if int(of) == number
            }
            if not wanted:
                continue
            ids = sorted({row for row, _ in wanted})
            found = self._relation.connection.execute(
                f"""
                select rowid, generate_subscripts({column.values_sql}, 1),
                    unnest({column.values_sql})
                from {self._relation.name}
                where rowid between {ids[0]} and {ids[-1]} and rowid in ({", ".join(map(str, ids))})
                """
            ).fetchall()
            for row, position, value in found:
                ref = wanted.get((row, position))
                if ref is not None:
                    yield ref, value

    def _references_sql(self, *kinds: str) -> str:
        """Build the SELECT of the distinct references of some kinds, each where it is first."""
        among = ", ".join(f"'{kind}'" for kind in kinds)
        return f"""
            with refs as (
                select row_id, unnest(refs) as found
                from {self._rows} as rows
                where user_message is not null and missing is null
            ),
            firsts as (
                select found.ref as ref, min(row_id) as row_id,
                    arg_min(found, row_id) as found
                from refs
                where left(found.ref, 1) in ({among})
                group by found.ref
            )
            select ref, row_id, found['column'] as "column", found.position as position,
                found.size as size
            from firsts
        """

    def found(self, report: Path) -> str:
        """Write what became of the pictures, by reference; return its table expression."""
        path = self._workspace.directory / "pictures.parquet"
        values = ", ".join(
            f"cast(json_extract_string(line, '$[{number}]') as {kind}) as {name}"
            for number, (name, kind) in enumerate(_COLUMNS.items())
        )
        self._workspace.write_parquet(
            f"select {values} from ({lines_sql([report], LINE_BYTES)})", path
        )
        report.unlink()
        return f"read_parquet({literal(path)})"

    def keyed(self, found: str, task_key: str, reading: ImageReading) -> tuple[Path, ...]:
        """Write the rows with their pictures and keys, some at a time; return the files."""
        starts = [int(start) for (start,) in self._workspace.rows(self._parts_sql())]
        written = []
        for number, start in enumerate(starts):
            path = self._workspace.directory / f"rows-with-pictures-{number}.parquet"
            among = f"row_id >= {start}"
            if number + 1 < len(starts):
                among += f" and row_id < {starts[number + 1]}"
            self._workspace.write_parquet(self._keyed_sql(found, among, task_key, reading), path)
            written.append(path)
        if not written:
            path = self._workspace.directory / "rows-with-pictures.parquet"
            self._workspace.write_parquet(self._keyed_sql(found, "true", task_key, reading), path)
            written.append(path)
        return tuple(written)

    def _parts_sql(self) -> str:
        return f"""
            with sizes as (
                select row_id,
                    sum(coalesce(strlen(user_message), 0) + {_ROW_BYTES}) over (
                        order by row_id rows unbounded preceding
                    ) // {_PART_BYTES} as part
                from {self._rows} as rows
            )
            select min(row_id) from sizes group by part order by 1
        """

    def _keyed_sql(self, found: str, among: str, task_key: str, reading: ImageReading) -> str:
        limits = reading.limits
        names = literals(column.name for column in self._columns)
        return f"""
            with rows as (select * from {self._rows} as all_rows where {among}),
            refs as (
                select row_id, unnest(refs) as found, generate_subscripts(refs, 1) as number
                from rows
                where user_message is not null and missing is null
            ),
            named as (
                select row_id, number, found.ref as ref, ({names})[found['column'] + 1] as name,
                    if(left(found.ref, 1) = '{ADDRESS}', substr(found.ref, 2), null) as address
                from refs
            ),
            looked_up as (
                select
                    named.row_id, named.number,
                    {{
                        'address': named.address, 'place': pictures.place, 'size': pictures.size,
                        'media_type': pictures.media_type, 'width': pictures.width,
                        'height': pictures.height
                    }} as picture,
                    if(named.address is null, pictures.identity, sha256('url:' || named.address))
                        as identity,
                    if(
                        named.address is null,
                        {len(_PREFIX) + len('""')} + strlen(pictures.media_type) + pictures.size,
                        strlen(cast(to_json(named.address) as varchar))
                    ) as bytes,
                    case
                        when pictures.problem is not null then
                            if(pictures.is_absent, '', {literal(UNUSABLE)})
                            || concat(named.name, ': ', pictures.problem)
                        when named.address is null and pictures.ref is null then
                            {literal(UNUSABLE)} || concat(named.name, ': the picture was not read')
                    end as problem
                -- The rows of a part are the smaller side.
                from {found} as pictures
                right join named using (ref)
            ),
            by_row as (
                select
                    row_id,
                    list(picture order by number) as pictures,
                    string_agg(identity, '' order by number) as identities,
                    count(*) as picture_count,
                    cast(sum(bytes) as bigint) as picture_bytes,
                    arg_min(problem, number) as problem
                from looked_up
                group by row_id
            ),
            judged as (
                select
                    rows.row_id, rows.user_message, rows.is_owed, by_row.pictures,
                    coalesce(by_row.identities, '') as identities,
                    coalesce(by_row.picture_count, 0) as picture_count,
                    coalesce(by_row.picture_bytes, 0) as picture_bytes,
                    case
                        when rows.missing is not null then rows.missing
                        when by_row.problem is not null then by_row.problem
                        when by_row.picture_count > {limits.per_request} then
                            {literal(UNUSABLE)} || by_row.picture_count
                            || ' pictures, more than the {limits.per_request:,} of a request'
                        when by_row.picture_bytes > {limits.request_bytes} then
                            {literal(UNUSABLE)} || by_row.picture_bytes
                            || ' bytes of pictures, more than a file may hold'
                    end as missing
                from rows
                left join by_row using (row_id)
            ),
            asked as (
                select * replace (
                    if(missing is null, user_message, null) as user_message
                )
                from judged
            )
            select
                row_id,
                {key_sql(task_key, "user_message", "identities")} as request_key,
                user_message,
                strlen(cast(to_json(user_message) as varchar)) as message_bytes,
                is_owed,
                missing,
                pictures,
                identities,
                picture_count,
                picture_bytes
            from asked
            order by row_id
        """

    def problems(self, files: Sequence[Path]) -> tuple[int, tuple[str, ...]]:
        """Return how many rows are skipped for a picture, and some of what is wrong with them."""
        rows = self._workspace.rows(
            f"""
            select replace(missing, {literal(UNUSABLE)}, '') as problem, count(*) as rows,
                sum(count(*)) over () as all_rows
            from read_parquet({literals(files)})
            -- A row without a picture has the names of columns alone.
            where starts_with(missing, {literal(UNUSABLE)}) or contains(missing, ': ')
            group by problem
            order by rows desc, problem
            limit {_SHOWN}
            """
        )
        total = int(rows[0][2]) if rows else 0
        return total, tuple(str(problem) for problem, _, _ in rows)


def shown(picture: dict[str, Any], store: PictureStore) -> str:
    """Return the address of a picture as it is sent: its own, or its bytes as `data:`."""
    if picture["address"] is not None:
        return str(picture["address"])
    encoded = store.text(picture["place"], picture["size"])
    return f"data:{picture['media_type']};base64,{encoded}"


def described(picture: dict[str, Any]) -> str:
    """Say what a picture is, without its bytes."""
    if picture["address"] is not None:
        return str(picture["address"])
    return f"{picture['media_type']} {picture['width']}x{picture['height']}"
