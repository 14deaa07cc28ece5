"""Previous answers: kept for rows whose text has not changed since a task's earlier versions."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from dbt_enrich.pipeline.export.new_requests import Selection, Undone
from dbt_enrich.pipeline.request import EnrichmentRequest
from dbt_enrich.pipeline.stage.pictures import key_sql
from dbt_enrich.pipeline.stage.staged_rows import StagedRows
from dbt_enrich.sql import literal, literals
from dbt_enrich.state.answer_store import (
    ANSWER_COLUMNS,
    PREVIOUS_PREFIX,
    TYPED,
    done_sql,
    previous_answers_key,
    standing_sql,
    text_sql,
)
from dbt_enrich.state.previous_tasks import previous_tasks
from dbt_enrich.state.run import Run
from dbt_enrich.state.tables.tasks import Task
from dbt_enrich.task.enrichment_task import KEY_DIGITS
from dbt_enrich.task.schema import OutputColumn, canonical_outputs
from dbt_enrich.task.template import message_sql, parse_template
from dbt_enrich.task.vectors import vector_of
from dbt_enrich.task.version import short_version
from dbt_enrich.warehouse.copy_out import copy_table
from dbt_enrich.warehouse.relation import StagedRelation
from dbt_enrich.workspace.database import Workspace
from dbt_enrich.workspace.key_ranges import ALL_KEYS, KeyPart


def keep_previous_answers(
    run: Run, rows: StagedRows, undone: Undone, request: EnrichmentRequest, selection: Selection
) -> int:
    """Keep the answers to previous versions of rows that have none to the task as it is now.

    Such an answer is that of a task with the same output columns, to what that task's own
    template makes of the row now: it stands as long as the columns that the template names do.

    Args:
        run: The run.
        rows: The staged rows.
        undone: Those that have no answer that is `done`.
        request: What names the staged relation and the model.
        selection: What is asked now, and whether it keeps such answers.

    Returns:
        How many answers were kept.
    """
    if not selection.keeps_previous:
        return 0
    outputs = canonical_outputs(selection.task.outputs)
    images = [name.lower() for name in selection.task.images]
    kept = 0
    for task in previous_tasks(run.ledger, request.enrichment, selection.task_key):
        shown = (task.document.get("images") or {}).get("columns") or []
        if task.document.get("outputs") != outputs or shown != images:
            continue
        messages = _messages_sql(rows, request.relation, selection, task, run.workspace)
        if messages is None:
            continue
        if images:
            pictures = f"select row_id, identities from {rows.all_sql}"
            messages = f"select * from ({messages}) join ({pictures}) using (row_id)"
        for part, path in undone.files.items():
            wanted = _wanted_sql(run, messages, path, part, selection, task)
            kept += _keep(run, wanted, selection, task)
    return kept


def _wanted_sql(
    run: Run, messages: str, undone: Path, part: KeyPart, selection: Selection, task: Task
) -> str:
    """Build the SELECT of the keys, now and by a previous task, of requests that are not done."""
    keys = f"read_parquet({literal(undone)})"
    answers = run.answers.table(*selection.answer_keys)
    digest = f"sha256({literal(task.task_key)} || messages.previous_message)"
    key = f"cast(left({digest}, {KEY_DIGITS}) as uuid)"
    if selection.task.images:
        key = key_sql(task.task_key, "messages.previous_message", "messages.identities")
    return f"""
        select distinct
            undone.request_key,
            {key} as previous_key
        from ({messages}) as messages
        join {keys} as undone using (row_id)
        -- A newer one of the previous tasks may have answered.
        anti join ({done_sql(answers, keys, part=part)}) as done using (request_key)
        where messages.previous_message is not null
    """


def _keep(run: Run, wanted: str, selection: Selection, task: Task) -> int:
    name = f"{PREVIOUS_PREFIX}{short_version(task.task_key)}-{secrets.token_hex(8)}"
    names = list(run.ledger.answers.live(task.task_key))
    keys = run.workspace.directory / f"{name}-keys.parquet"
    run.workspace.write_parquet(wanted, keys)
    previous_keys = f"(select previous_key as request_key from read_parquet({literal(keys)}))"
    standings = standing_sql(run.answers.table_of(names), previous_keys, part=ALL_KEYS)
    places = run.workspace.directory / f"{name}-places.parquet"
    # Only keys are held in memory; the answers stream past them.
    run.workspace.write_parquet(
        f"""
        -- Rows that are equal now may have differed in what the previous template named.
        select
            wanted.request_key,
            min(wanted.previous_key) as previous_key,
            arg_min(standings.file_index, wanted.previous_key) as file_index
        from read_parquet({literal(keys)}) as wanted
        join ({standings}) as standings on standings.request_key = wanted.previous_key
        where standings.kind = 'done'
        group by wanted.request_key
        """,
        places,
    )
    kept = run.answers.add(
        _previous_sql(run, names, places, name, selection.task.outputs),
        previous_answers_key(selection.task_key),
        name,
    )
    keys.unlink()
    places.unlink()
    return kept


def _previous_sql(
    run: Run, names: Sequence[str], places: Path, name: str, outputs: Sequence[OutputColumn]
) -> str:
    """Build the SELECT of previous answers as those to requests of now.

    Args:
        run: The run.
        names: The files of the previous answers.
        places: A Parquet file of request_key, and of previous_key and file_index of its answer.
        name: What the new file of answers is called.
        outputs: The output columns.
    """
    found = f"read_parquet({literal(places)})"
    numbers = run.workspace.rows(f"select distinct file_index from {found}")
    answers = run.answers.table_with_texts(names, [int(number) for (number,) in numbers])
    has_typed = run.answers.has_typed(answers)
    values = {
        **{column: f"previous.{column}" for column in ANSWER_COLUMNS},
        "request_key": "wanted.request_key",
        "attempt": "1",
        "content": text_sql("previous", has_typed=has_typed),
        "shard": literal(name),
    }
    if has_typed and vector_of(outputs):
        # Its numbers as they are, and never as text.
        values |= {"content": "previous.content", TYPED: f"previous.{TYPED}"}
    columns = ", ".join(f"{value} as {column}" for column, value in values.items())
    return f"""
        select {columns}
        from {answers} as previous
        join {found} as wanted
            on wanted.previous_key = previous.request_key
            and wanted.file_index = previous.file_index
    """


def _messages_sql(
    rows: StagedRows,
    relation: StagedRelation,
    selection: Selection,
    task: Task,
    workspace: Workspace,
) -> str | None:
    """Build the SELECT of each row's message by the previous template, or None if it has none."""
    current = selection.task
    template, optional = task.document.get("user", ""), task.document.get("optional") or []
    if template == current.user and optional == sorted(current.optional_texts):
        return f"select row_id, user_message as previous_message from {rows.all_sql} as staged"
    columns = relation.columns()
    parsed = parse_template(template)
    staged = {name.lower() for name in columns}
    if not all(name.lower() in staged for name in (*parsed.columns, *optional)):
        return None
    message = message_sql(
        parsed,
        columns,
        optional,
        model=relation.model,
        may_be_constant=bool(current.images),
    )
    select = f"select rowid as row_id, {message} as previous_message from {relation.name}"
    files = copy_table(
        relation.connection,
        lambda where: f"{select} {where}",
        relation.name,
        message,
        workspace.directory / f"former-{short_version(task.task_key)}",
        rows=f"model '{relation.model}': the staged rows",
    )
    return f"select * from read_parquet({literals(files)})"
