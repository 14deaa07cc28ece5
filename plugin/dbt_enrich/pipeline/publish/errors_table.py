"""The errors table: one row for each failed attempt, with its answer and what it was sent with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dbt_enrich.pipeline.export.final_failures import Finals
from dbt_enrich.pipeline.stage.staged_rows import StagedRows
from dbt_enrich.sql import identifier, literal, literals
from dbt_enrich.state.attempts import Attempts
from dbt_enrich.task.failures import retry_command
from dbt_enrich.task.result_columns import ERROR_TYPES
from dbt_enrich.warehouse.relation import StagedRelation
from dbt_enrich.workspace.database import Workspace
from dbt_enrich.workspace.key_ranges import KeyPart, key_parts


def empty_errors_sql(relation: StagedRelation) -> str:
    """Build the SELECT of an empty, typed errors table."""
    keys = [f"staged.{identifier(key)}" for key in relation.unique_key]
    columns = [f"cast(null as {kind}) as {name}" for name, kind in ERROR_TYPES.items()]
    return f"select {', '.join([*keys, *columns])} from {relation.name} as staged where false"


def write_errors(
    rows: StagedRows, attempts: Attempts, finals: Finals, model: str, workspace: Workspace
) -> list[Path]:
    """Write the failed attempts of the staged rows; return the files.

    Args:
        rows: The staged rows.
        attempts: The answers, and what each attempt was sent with.
        finals: The requests that failed for good.
        model: The dbt model's name.
        workspace: Where they are put together.
    """
    written = []
    for part in key_parts(rows.rows):
        path = workspace.directory / f"errors-{part.number}.parquet"
        workspace.write_parquet(
            _errors_sql(part.of(rows.keys_sql), attempts, finals, model, part), path
        )
        written.append(path)
    return written


def _errors_sql(keys: str, attempts: Attempts, finals: Finals, model: str, part: KeyPart) -> str:
    """Build the SELECT of the failed attempts of rows whose keys lie in a part.

    Failures are few, mostly: their keys are held in memory, and then those rows that have some.
    """
    answers = attempts.all_sql
    command = literal(retry_command(model, ["{}"]).removesuffix("{}"))
    return f"""
        with failing as (
            select keys.row_id, keys.request_key
            from {keys} as keys
            semi join (
                select distinct request_key
                from {answers} as answers
                where kind <> 'done' and {part.condition}
            ) as failures using (request_key)
        )
        select
            failing.row_id,
            answers.request_key as enrichment_key,
            answers.attempt,
            answers.kind,
            answers.message,
            answers.content as raw_answer,
            answers.model as enrichment_model,
            answers.batch_id as enrichment_batch_id,
            answers.received_at,
            answers.status_code,
            {_settings_sql(attempts)} as sent_with,
            {command} || finals.kind as retry_with
        from {answers} as answers
        join failing using (request_key)
        left join {part.of(finals.all_sql)} as finals using (request_key)
        where answers.kind <> 'done'
    """


def _settings_sql(attempts: Attempts) -> str:
    """Build the expression of what an attempt was sent with, by the file that holds it."""
    settings = [file.settings for file in attempts.files]
    texts = sorted({text for text in settings if text})
    if not texts:
        return "cast(null as varchar)"
    places = [texts.index(text) + 1 if text else 0 for text in settings]
    listed = ", ".join(literal(text) for text in texts)
    return f"[{listed}][{places}[cast(answers.file_index as bigint) + 1]]"


def errors_table_sql(relation: StagedRelation, errors: Sequence[Path]) -> str:
    """Build the SELECT of the errors table over the files of `write_errors`."""
    keys = ", ".join(f"staged.{identifier(key)}" for key in relation.unique_key)
    return (
        f"select {keys}, errors.* exclude (row_id) "
        f"from read_parquet({literals(errors)}) as errors "
        f"join {relation.name} as staged on staged.rowid = errors.row_id"
    )
