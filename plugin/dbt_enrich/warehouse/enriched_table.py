"""The enriched table as SQL: its columns, empty or full, with what stood there before."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from dbt_enrich.sql import identifier, literal, literals
from dbt_enrich.task.result_columns import STATUS_TYPES
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.task.types import spelling
from dbt_enrich.task.version import short_version
from dbt_enrich.warehouse.relation import StagedRelation


@dataclass(frozen=True)
class ExistingTable:
    """The enriched table that is there already.

    Attributes:
        name: Its name, quoted and qualified.
        columns: Its columns' types, by name.
        errors: The name of its errors table, or None where there is none.
    """

    name: str
    columns: Mapping[str, str]
    errors: str | None = None

    def has_outputs(self, outputs: Sequence[OutputColumn]) -> bool:
        """Whether it has a column of each output, of the output's own type."""
        types = {name.lower(): kind for name, kind in self.columns.items()}
        return all(spelling(types.get(o.name.lower(), "")) == o.type.sql for o in outputs)


def empty_table_sql(relation: StagedRelation, outputs: Sequence[OutputColumn]) -> str:
    """Build the SELECT of an empty, typed enriched table."""
    columns = [
        *(f"cast(null as {o.type.sql}) as {identifier(o.name)}" for o in outputs),
        *(f"cast(null as {kind}) as {name}" for name, kind in STATUS_TYPES.items()),
    ]
    return f"select staged.*, {', '.join(columns)} from {relation.name} as staged where false"


# Those that say whose answer a row holds.
IDENTITY_COLUMNS = ("enrichment_key", "enrichment_version")


class Pairing(Enum):
    """How staged rows and their results come together, as a join."""

    # One for each, in the same order, which the table keeps.
    IN_ORDER = "{staged} positional join {results}"
    # One for each, found by the row's number: in all threads, in memory, and in no order.
    BY_NUMBER = "{staged} left join {results} on results.row_id = staged.rowid"
    # Only the rows that have one.
    SOME = "{staged} join {results} on results.row_id = staged.rowid"


def enriched_sql(
    relation: StagedRelation,
    outputs: Sequence[OutputColumn],
    results: Sequence[Path],
    existing: ExistingTable | None,
    task_key: str,
    *,
    pairing: Pairing = Pairing.IN_ORDER,
    stored: Collection[Path] = (),
) -> str:
    """Build the SELECT of the enriched table, over the staged relation.

    Args:
        relation: The staged rows, in the order of their rowid.
        outputs: The output columns.
        results: Parquet files with the results.
        existing: The table whose previous outputs pending rows keep, or None.
        task_key: The task.
        pairing: Of which staged rows the results are, and in which order.
        stored: Those of the files that are the answer store's own, of `done` answers alone.
    """
    # What their columns are called differs.
    options = ", union_by_name = true" if stored else ""
    results_sql = f"read_parquet({literals(results)}{options}) as results"
    rows = pairing.value.format(staged=f"{relation.name} as staged", results=results_sql)
    columns = _result_columns(outputs, task_key, _names(results, stored))
    previous = _previous_columns(relation, outputs, existing)
    arrays = {o.name: o.type.sql for o in outputs if o.type != o.held_type}
    if existing is None or previous is None:
        return f"select staged.*, {_listed(columns, arrays)} from {rows}"
    is_stale = "results.status = 'pending' and previous.enrichment_status is not null"
    columns = {
        name: f"case when {is_stale} then {previous.get(name, value)} else {value} end"
        for name, value in columns.items()
    }
    return (
        f"select staged.*, {_listed(columns, arrays)} from {rows} "
        f"left join ({_previous_rows_sql(relation, rows, existing)}) as previous "
        f"on {_same_key(relation, 'previous', 'staged')}"
    )


def _names(results: Sequence[Path], stored: Collection[Path]) -> dict[str, str]:
    """Return what gives a result's status, error, time and previous version."""
    if not stored:
        names = ("status", "error", "enriched_at", "previous_version")
        return {name: f"results.{name}" for name in names}
    if len(stored) == len(results):
        return {
            "status": "'done'",
            "error": "cast(null as varchar)",
            "enriched_at": "results.received_at",
            "previous_version": "cast(null as varchar)",
        }
    return {
        "status": "coalesce(results.status, 'done')",
        "error": "results.error",
        "enriched_at": "coalesce(results.enriched_at, results.received_at)",
        "previous_version": "results.previous_version",
    }


def _result_columns(
    outputs: Sequence[OutputColumn], task_key: str, names: Mapping[str, str]
) -> dict[str, str]:
    """Return the expressions of a row's own result, by the names of the columns."""
    answers = {
        o.name: f"cast(struct_extract(results.answer, {literal(o.name)}) as {o.held_type.sql})"
        for o in outputs
    }
    return {
        **answers,
        # No answer is another row's, and no row is without a result.
        "enrichment_status": "cast(if(results.row_id is distinct from staged.rowid, "
        f"error('the answers lie beside other rows than theirs'), {names['status']}) "
        f"as {STATUS_TYPES['enrichment_status']})",
        "enrichment_error": names["error"],
        "enrichment_model": "results.model",
        "enrichment_batch_id": "results.batch_id",
        "enriched_at": names["enriched_at"],
        "enrichment_key": "results.request_key",
        "enrichment_version": f"if({names['status']} = 'done', "
        f"coalesce({names['previous_version']}, {literal(short_version(task_key))}), null)",
    }


def _previous_rows_sql(relation: StagedRelation, rows: str, existing: ExistingTable) -> str:
    """Build the SELECT of the existing table's rows that pending rows keep, one for each key.

    Only these are held in memory. Where the unique key was another one, a row may have several
    previous ones, and none of them is its own.

    Args:
        relation: The staged rows.
        rows: They and their `results`, as a FROM clause.
        existing: The table.
    """

    def keys(table: str) -> str:
        return ", ".join(f"{table}.{identifier(key)}" for key in relation.unique_key)

    pending = f"select {keys('staged')} from {rows} where results.status = 'pending'"
    of_pending = (
        f"from {existing.name} as there "
        f"semi join ({pending}) as pending on {_same_key(relation, 'there', 'pending')}"
    )
    single = f"select {keys('there')} {of_pending} group by all having count(*) = 1"
    return (
        f"select there.* {of_pending} "
        f"semi join ({single}) as single on {_same_key(relation, 'there', 'single')} "
        "where there.enrichment_status in ('done', 'stale')"
    )


def _same_key(relation: StagedRelation, one: str, other: str) -> str:
    """Build the condition under which rows of two tables have the same unique key."""
    return " and ".join(
        f"{one}.{identifier(key)} = {other}.{identifier(key)}" for key in relation.unique_key
    )


def _listed(columns: Mapping[str, str], types: Mapping[str, str]) -> str:
    """Build the columns of a SELECT, some of them of another type than their expression."""
    cast = {name: f"cast({columns[name]} as {kind})" for name, kind in types.items()}
    return ", ".join(
        f"{cast.get(name, value)} as {identifier(name)}" for name, value in columns.items()
    )


def _previous_columns(
    relation: StagedRelation, outputs: Sequence[OutputColumn], existing: ExistingTable | None
) -> dict[str, str] | None:
    """Return the expressions of a stale row's columns, or None where no table can give them."""
    if existing is None:
        return None
    there = {name.lower(): kind for name, kind in existing.columns.items()}
    staged = {name.lower(): kind for name, kind in relation.columns().items()}
    keys = [key.lower() for key in relation.unique_key]
    if not there.keys() >= STATUS_TYPES.keys():
        return None
    if any(there.get(key) != staged.get(key) for key in keys):
        return None
    previous = {o.name: _previous_value(o, there.get(o.name.lower())) for o in outputs}
    # An earlier version has made some of them of other types.
    previous |= {
        name: f"try_cast(previous.{name} as {kind})" for name, kind in STATUS_TYPES.items()
    }
    if not existing.has_outputs(outputs):
        # What is left of another task's answer must not be taken for the whole of it.
        previous |= {name: f"cast(null as {STATUS_TYPES[name]})" for name in IDENTITY_COLUMNS}
    status = f"cast('stale' as {STATUS_TYPES['enrichment_status']})"
    return {**previous, "enrichment_status": status, "enrichment_error": "results.error"}


def _previous_value(output: OutputColumn, kind: str | None) -> str:
    """Build what a stale row has of an output, whose column in the table is of some type or none.

    DuckDB casts no struct to one that has none of its fields.
    """
    column, wanted = f"previous.{identifier(output.name)}", output.type.sql
    held = output.held_type.sql
    # Of a vector of another length nothing can be kept.
    is_whole = held != wanted or "struct(" in f"{kind} {wanted}".lower()
    if kind is None or (spelling(kind) != wanted and is_whole):
        return f"cast(null as {held})"
    return f"try_cast({column} as {held})"
