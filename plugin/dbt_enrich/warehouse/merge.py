"""Merge: the rows of a SELECT that yields only new ones, put into the enriched table by key.

What an earlier run left unfinished in the table is staged again, so that its answers get there
although the SELECT no longer yields its rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from dbt_enrich.errors import ConfigurationError
from dbt_enrich.sql import identifier, literal
from dbt_enrich.task.result_columns import STATUS_TYPES
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.task.types import spelling
from dbt_enrich.task.version import short_version
from dbt_enrich.warehouse.awaited_texts import DUE
from dbt_enrich.warehouse.enriched_table import ExistingTable
from dbt_enrich.warehouse.relation import StagedRelation

_MEND = "run dbt with --full-refresh, which rebuilds the table and asks no answered row again"
_UNFINISHED = "('pending', 'stale', 'failed')"


def stage_unfinished(
    relation: StagedRelation,
    outputs: Sequence[OutputColumn],
    existing: ExistingTable,
    forgotten: Mapping[str, datetime],
) -> None:
    """Add the table's rows that are to be looked at, and that the SELECT does not yield.

    They are the unfinished ones, and those whose answers were forgotten. Where rows wait for the
    text of another enrichment, the SELECT yields the whole (see the macro `is_incremental`): of
    that, rows are left out that are done and unchanged.

    Args:
        relation: The rows that the SELECT yields.
        outputs: The output columns.
        existing: The table that they are merged into.
        forgotten: When the answers of tasks were forgotten, by task key.

    Raises:
        ConfigurationError: The table has other columns than the SELECT and the outputs.
    """
    staged = relation.columns()
    check_merged(relation.model, staged, outputs, existing.columns)
    columns = ", ".join(f"previous.{identifier(name)}" for name in staged)
    wait = f"enrichment_status in {DUE} and enrichment_error is not null"
    if relation.connection.execute(f"select 1 from {existing.name} where {wait}").fetchone():
        same = " and ".join(
            f"previous.{identifier(name)} is not distinct from staged.{identifier(name)}"
            for name in staged
        )
        relation.connection.execute(
            f"delete from {relation.name} as staged using {existing.name} as previous "
            f"where {same} and enrichment_status = 'done'"
        )
    relation.connection.execute(
        f"insert into {relation.name} by name select {columns} from {existing.name} as previous "
        f"where (enrichment_status in {_UNFINISHED} or {forgotten_sql(forgotten)}) "
        "and not exists ("
        f"select 1 from {relation.name} as staged where {_same_row(relation)})"
    )


def forgotten_sql(forgotten: Mapping[str, datetime]) -> str:
    """Build the condition that a row's answer is one that was forgotten.

    Args:
        forgotten: When the answers of tasks were forgotten, by task key.
    """
    conditions = [
        f"(enrichment_version = {literal(short_version(key))} and enriched_at <= "
        f"cast({literal(moment.isoformat())} as timestamp with time zone))"
        for key, moment in forgotten.items()
    ]
    return " or ".join(conditions) or "false"


def untouched_kept(relation: StagedRelation, existing: ExistingTable, task_key: str) -> int:
    """Count the table's done rows that are not staged and were answered by another version."""
    (kept,) = relation.connection.execute(
        f"select count(*) from {existing.name} as previous where enrichment_status = 'done' "
        f"and enrichment_version <> {literal(short_version(task_key))} and not exists ("
        f"select 1 from {relation.name} as staged where {_same_row(relation)})"
    ).fetchall()[0]
    return int(kept)


def _same_row(relation: StagedRelation) -> str:
    return " and ".join(
        f"previous.{identifier(key)} = staged.{identifier(key)}" for key in relation.unique_key
    )


def check_merged(
    model: str,
    staged: Mapping[str, str],
    outputs: Sequence[OutputColumn],
    existing: Mapping[str, str],
) -> None:
    """Check that a table that rows are merged into has their columns.

    Args:
        model: The dbt model's name.
        staged: The types of the SELECT's columns, by name.
        outputs: The output columns.
        existing: The types of the table's columns, by name.

    Raises:
        ConfigurationError: It has others.
    """
    there = {name.lower(): kind for name, kind in existing.items()}
    types = {output.name: output.type.sql for output in outputs}
    for name in (*staged, *types, *STATUS_TYPES):
        found = there.pop(name.lower(), None)
        if found is None:
            raise ConfigurationError(
                f"model '{model}': the table that is merged into has no column '{name}'",
                fix=_MEND,
            )
        kind = staged.get(name, found) if name not in types else types[name]
        if kind not in (found, spelling(found)):
            raise ConfigurationError(
                f"model '{model}': the column '{name}' is {kind}, but {found} in the "
                "table that is merged into",
                fix=_MEND,
            )
    if there:
        raise ConfigurationError(
            f"model '{model}': the table that is merged into has a column '{min(there)}' "
            "that is neither in the SELECT nor among the outputs",
            fix=_MEND,
        )
