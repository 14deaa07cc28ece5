"""Stage: the SELECT's rows, checked, rendered and keyed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dbt_enrich.images.store import PictureStore
from dbt_enrich.pipeline.stage.input_checks import _check_unique_key, check_columns
from dbt_enrich.pipeline.stage.picture_reader import ImageReading
from dbt_enrich.pipeline.stage.pictures import with_pictures
from dbt_enrich.sql import literal, literals
from dbt_enrich.task.braces import check_braces
from dbt_enrich.task.enrichment_task import KEY_DIGITS, EnrichmentTask
from dbt_enrich.task.image_columns import (
    ImageColumn,
    image_columns,
    references_sql,
    without_images_sql,
)
from dbt_enrich.task.template import has_blank_sql, message_sql, missing_sql
from dbt_enrich.warehouse.awaited_texts import Upstream, find_owing
from dbt_enrich.warehouse.copy_out import copy_table
from dbt_enrich.warehouse.relation import StagedRelation
from dbt_enrich.workspace.database import Workspace

# Columns beside the user's own, while rows with pictures are copied.
_ROW, _REFERENCES = '"enrichment row"', '"enrichment pictures"'


@dataclass(frozen=True)
class StagedRows:
    """The staged rows as the engine works on them.

    Attributes:
        files: Parquet of row_id, request_key (a UUID), user_message and message_bytes (of the
            message as a JSON text), all NULL where a needed text is missing, is_owed, whether it
            is still to come, and missing, the names of such columns; the rows of each row group
            follow on each other.
        rows: All staged rows.
        skipped: Rows without a message, of which none is still to come.
        owed: Rows whose text another enrichment still owes.
        waits_for: The names of those that owe texts.
        among: Condition on row_id of the rows that are meant.
        pictures: Where the pictures lie, for a task that has some. The files then have the columns
            of `KeyedRows` too.
        unusable: Rows that are skipped for a picture that is not there, or cannot be sent.
        problems: Some of what is wrong with those pictures.
    """

    files: tuple[Path, ...]
    rows: int
    skipped: int
    owed: int = 0
    waits_for: tuple[str, ...] = ()
    among: str = ""
    pictures: PictureStore | None = None
    unusable: int = 0
    problems: tuple[str, ...] = ()

    @property
    def all_sql(self) -> str:
        """Table expression of all staged rows."""
        files = f"read_parquet({literals(self.files)})"
        return f"(select * from {files} where {self.among})" if self.among else files

    def within(self, ranges: Sequence[range], rows: int) -> StagedRows:
        """Return so many of the rows, those with a row_id in one of some ranges."""
        among = " or ".join(f"row_id between {one.start} and {one.stop - 1}" for one in ranges)
        return replace(self, rows=rows, among=among or "false")

    @property
    def keyed(self) -> int:
        """Rows that have a message."""
        return self.rows - self.skipped - self.owed

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def keys_sql(self) -> str:
        """Table expression of row_id and request_key, of the rows that have a message."""
        return f"(select row_id, request_key from {self.all_sql} where request_key is not null)"


def stage(
    relation: StagedRelation,
    task: EnrichmentTask,
    task_key: str,
    workspace: Workspace,
    upstream: Sequence[Upstream] = (),
    reading: ImageReading | None = None,
) -> StagedRows:
    """Check the staged rows, render their user messages and key them.

    Args:
        relation: The rows in the user's database.
        task: What is asked of them.
        task_key: The task's identity.
        workspace: Where keys are made and files are written.
        upstream: Other enrichments that the SELECT reads.
        reading: How pictures are read, for a task that has some.

    Returns:
        Where the messages and keys lie, and how many rows there are.

    Raises:
        ConfigurationError: A column that the task names is not staged, or clashes.
        InputError: The unique key is null or repeated, or a column cannot be rendered.
    """
    check_columns(relation, task)
    columns = relation.columns()
    check_braces(task, columns, model=relation.model)
    images = image_columns(task.images, columns, task.optional, model=relation.model)
    message = message_sql(
        task.template,
        columns,
        task.optional,
        model=relation.model,
        may_be_constant=bool(images),
    )
    missing = missing_sql(task.template, columns, task.optional, model=relation.model)
    _check_unique_key(relation)
    owing = find_owing(relation.connection, columns, upstream)
    blank = has_blank_sql(task.template, columns, model=relation.model)
    if images:
        without = without_images_sql(images, _REFERENCES)
        missing = f"nullif(concat_ws(', ', {missing}, nullif({without}, '')), '')"
        blank = f"({blank} or {without} <> '')"
    is_owed = f"({blank} and ({owing.condition}))" if owing else "false"
    rendered = f"{message} as message, {missing} as missing, {is_owed} as is_owed"
    directory, pictures = workspace.directory / "rows", None
    files = _copy_rows(relation, rendered, message, task_key, directory, images)
    if images and reading:
        pictures = with_pictures(relation, files, images, task_key, reading, workspace)
        shutil.rmtree(directory)
        files = pictures.files
    rows, keyed, owed = workspace.row(
        "select count(*), count(request_key), count(*) filter (is_owed) "
        f"from read_parquet({literals(files)})"
    )
    staged = StagedRows(
        files=files,
        rows=rows,
        skipped=rows - keyed - owed,
        owed=owed,
        waits_for=owing.names if owing and owed else (),
        pictures=pictures.store if pictures else None,
        unusable=pictures.unusable if pictures else 0,
        problems=pictures.problems if pictures else (),
    )
    workspace.give_back(staged.bytes)
    return staged


def _copy_rows(
    relation: StagedRelation,
    rendered: str,
    message: str,
    task_key: str,
    directory: Path,
    images: Sequence[ImageColumn],
) -> tuple[Path, ...]:
    """Write the rows' messages in one pass over the staged relation.

    With their keys, or of a task with pictures with what these are. The settings of the user's
    database change nothing about it: rendering and hashing depend on none of a session's.
    """
    found = f"""
        cast(left(sha256({literal(task_key)} || user_message), {KEY_DIGITS}) as uuid)
            as request_key,
        user_message,
        strlen(cast(to_json(user_message) as varchar)) as message_bytes,
        is_owed,
        missing
    """
    if images:
        rendered += f", {_REFERENCES} as refs"
        found = "user_message, is_owed, missing, refs"

    def source(where: str) -> str:
        if not images:
            return f"{relation.name} as staged {where}"
        # Computed once: what is missing, owed and read is told by the same references.
        return (
            f"(select *, rowid as {_ROW}, {references_sql(images)} as {_REFERENCES} "
            f"from {relation.name} {where}) as staged"
        )

    def query(where: str) -> str:
        return f"""
            with rendered as (
                select {_ROW if images else "rowid"} as row_id, {rendered}
                from {source(where)}
            ),
            messages as (
                -- A text in `optional` is waited for too: without it the row would be asked twice.
                select * exclude (message), if(is_owed, null, message) as user_message
                from rendered
            )
            select row_id, {found}
            from messages
        """

    return copy_table(
        relation.connection,
        query,
        relation.name,
        message,
        directory,
        rows=f"model '{relation.model}': the staged rows",
        other_bytes=" + ".join(["0", *(column.bytes_sql for column in images)]),
    )
