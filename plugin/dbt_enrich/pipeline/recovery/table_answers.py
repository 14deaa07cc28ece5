"""Recover: answers and batches that the state directory does not know, from where they still are.

Two places outlive a lost state directory: the enriched table holds answers by `enrichment_key`,
and the service lists the batches of our namespace, whose custom_ids are the keys.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from dbt_enrich.pipeline.export.in_flight import in_flight_sql
from dbt_enrich.pipeline.export.new_requests import Selection, Undone
from dbt_enrich.pipeline.request import EnrichmentRequest
from dbt_enrich.sql import identifier, literal, literals
from dbt_enrich.state.answer_store import (
    ANSWER_COLUMNS,
    PREVIOUS_PREFIX,
    TYPED,
    answered_sql,
)
from dbt_enrich.state.run import Run
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.task.types import DataType, ListType, ScalarType, StructType
from dbt_enrich.task.vectors import vector_of
from dbt_enrich.task.version import short_version
from dbt_enrich.warehouse.copy_out import copy_out
from dbt_enrich.warehouse.enriched_table import IDENTITY_COLUMNS, ExistingTable
from dbt_enrich.warehouse.relation import StagedRelation

_KEY = "try_cast({} as uuid)"
# More than a file holds, so that file and row make one number.
_ROWS_OF_FILE = 1 << 40


def recover_answers(
    run: Run, undone: Undone, request: EnrichmentRequest, selection: Selection
) -> int:
    """Take answers, and failed attempts, that only the existing table still holds.

    Args:
        run: The run.
        undone: The rows that the answer store holds no answer of that is `done`.
        request: What names the staged relation, and the enriched table if there is one.
        selection: What is asked.

    Returns:
        How many were taken.
    """
    if request.existing is None:
        return 0
    in_flight = in_flight_sql(run, selection.task_key)
    answers = run.answers.table(*selection.answer_keys)
    wanted = run.workspace.directory / "wanted.parquet"
    taken = 0
    for part, path in undone.files.items():
        keys = f"read_parquet({literal(path)})"
        run.workspace.write_parquet(
            f"""
            select distinct keys.request_key
            from {keys} as keys
            anti join ({answered_sql(answers, keys, part=part)}) as answered using (request_key)
            anti join {part.of(in_flight)} as flying using (request_key)
            """,
            wanted,
        )
        if run.workspace.count(wanted):
            selects = _selects(run, wanted, request.relation, request.existing, selection)
            taken += sum(
                _take(run, select, request.relation, key, settings)
                for key, select, settings in selects
            )
        wanted.unlink()
    return taken


def _selects(
    run: Run,
    wanted: Path,
    relation: StagedRelation,
    existing: ExistingTable,
    selection: Selection,
) -> list[tuple[str, str, str | None]]:
    """Build the SELECTs of what the existing table holds of some keys.

    Returns:
        Each with its task, and with what the attempts in it were sent with.
    """
    task_key, outputs = selection.task_key, selection.task.outputs
    keys = f"(select request_key from read_parquet({literal(wanted)}))"
    forgotten = run.ledger.answers.forgotten().get(task_key)
    version = f"coalesce(enrichment_version, '') = {literal(short_version(task_key))}"
    selects: list[tuple[str, str, str | None]] = []
    is_keyed = set(IDENTITY_COLUMNS) <= {name.lower() for name in existing.columns}
    if is_keyed and existing.has_outputs(outputs):
        done = _done_sql(existing.name, outputs, keys, forgotten)
        selects.append((task_key, f"{done} and {version}", None))
        # What a run with on_task_change: new_rows has kept stays what it was.
        previous = _done_sql(
            existing.name,
            outputs,
            keys,
            forgotten,
            shard=f"{literal(PREVIOUS_PREFIX)} || enrichment_version",
        )
        selects += [
            (key, f"{previous} and not ({version})", None) for key in selection.answer_keys[1:]
        ]
    if existing.errors:
        where = f"{_KEY.format('enrichment_key')} in {keys} and {_since('received_at', forgotten)}"
        described = relation.connection.execute(f"describe {existing.errors}").fetchall()
        columns = {column[0] for column in described}
        selects += [
            (task_key, _failed_sql(existing.errors, columns, f"{where} and {among}"), settings)
            for among, settings in _recorded_settings(existing.errors, columns, where, relation)
        ]
    return selects


def _recorded_settings(
    table: str, columns: Collection[str], where: str, relation: StagedRelation
) -> list[tuple[str, str | None]]:
    """Return what failed attempts were sent with, each with the condition on its rows."""
    if "sent_with" not in columns:
        # An earlier version made the table.
        return [("true", None)]
    recorded = relation.connection.execute(
        f"select distinct sent_with from {table} as errors where {where}"
    ).fetchall()
    return [
        (f"sent_with = {literal(text)}" if text else "sent_with is null", text or None)
        for (text,) in recorded
    ]


def _take(
    run: Run, select: str, relation: StagedRelation, task_key: str, settings: str | None
) -> int:
    """Take what a SELECT in the user's database finds, of each key the newest attempt once.

    Rows that share a request hold the same answer.
    """
    name = f"warehouse-{secrets.token_hex(8)}"
    found = copy_out(
        relation.connection,
        select,
        run.workspace.directory / name,
        rows=f"model '{relation.model}': the answers of its table",
    )
    place = f"file_index * {_ROWS_OF_FILE} + file_row_number"
    placed = f"(select *, {place} as place from read_parquet({literals(found)}))"
    shard = f"coalesce(shard, {literal(name)}) as shard"
    columns = ", ".join(shard if column == "shard" else column for column in ANSWER_COLUMNS)
    if TYPED in run.workspace.columns(f"from read_parquet({literals(found)})"):
        columns += f", {TYPED}"
    # Only numbers are grouped, which can be spilled; the texts stream past them.
    taken = run.answers.add(
        f"""
        select {columns}
        from {placed} as found
        semi join (
            select arg_max(place, attempt) as place from {placed} as found group by request_key
        ) as newest using (place)
        """,
        task_key,
        name,
        settings=settings,
    )
    shutil.rmtree(run.workspace.directory / name)
    return taken


def _since(column: str, moment: datetime | None) -> str:
    """Build the condition that leaves out what the user wants forgotten."""
    if moment is None:
        return "true"
    return f"{column} > cast({literal(moment.isoformat())} as timestamp with time zone)"


def _done_sql(
    table: str,
    outputs: Sequence[OutputColumn],
    keys: str,
    forgotten: datetime | None,
    *,
    shard: str = "null",
) -> str:
    fields = ", ".join(f"{literal(o.name)}, {_json_value(o)}" for o in outputs)
    vector = vector_of(outputs)
    values = {
        "request_key": _KEY.format("enrichment_key"),
        "attempt": "1",
        "kind": "'done'",
        "content": "null" if vector else f"cast(json_object({fields}) as varchar)",
        "model": "enrichment_model",
        "batch_id": "enrichment_batch_id",
        "shard": shard,
        "received_at": "enriched_at",
    }
    typed = ""
    if vector:
        # Its numbers as they are, and never as text.
        value = f"cast({identifier(vector.name)} as float[])"
        typed = f", {{{literal(vector.name)}: {value}}} as {TYPED}"
    return f"""
        select {_answer_columns(values)}{typed}
        from {table} as enriched
        where enrichment_status in ('done', 'stale') and {values["request_key"]} in {keys}
            and {_since("enriched_at", forgotten)}
    """


def _json_value(output: OutputColumn) -> str:
    """Build the value of a column that DuckDB writes as JSON: `.5`, a decimal's, would be none."""
    written = _with_doubles(output.type)
    column = identifier(output.name)
    return column if written == output.type else f"cast({column} as {written.sql})"


def _with_doubles(kind: DataType) -> DataType:
    match kind:
        case ListType(item):
            return ListType(_with_doubles(item))
        case StructType(fields):
            return StructType(tuple((name, _with_doubles(field)) for name, field in fields))
        case ScalarType("decimal", _, scale) if scale:
            return ScalarType("double")
        case _:
            return kind


def _failed_sql(table: str, columns: Collection[str], where: str) -> str:
    values = {
        "request_key": _KEY.format("enrichment_key"),
        "attempt": "attempt",
        "kind": "kind",
        "message": "message",
        "content": "raw_answer",
        "status_code": "status_code" if "status_code" in columns else "null",
        "model": "enrichment_model",
        "batch_id": "enrichment_batch_id",
        "received_at": "received_at",
    }
    return f"""
        select {_answer_columns(values)}
        from {table} as errors
        where {where}
    """


def _answer_columns(values: Mapping[str, str]) -> str:
    return ", ".join(
        f"cast({values.get(name, 'null')} as {kind}) as {name}"
        for name, kind in ANSWER_COLUMNS.items()
    )
