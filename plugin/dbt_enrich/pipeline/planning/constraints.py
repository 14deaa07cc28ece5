"""Constraints of an enforced contract: what they will refuse, found before anything is sent.

DuckDB enforces them while the table is filled, which is after the answers are paid. What the staged
rows alone break is known at once; what a row without an answer breaks, as soon as there are some.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import duckdb

from dbt_enrich.errors import ConfigurationError, InputError
from dbt_enrich.pipeline.export.new_requests import Chosen, Undone
from dbt_enrich.pipeline.request import Constraint
from dbt_enrich.pipeline.stage.staged_rows import StagedRows
from dbt_enrich.sql import identifier, literal, literals
from dbt_enrich.task.result_columns import STATUS_TYPES
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.warehouse.relation import StagedRelation
from dbt_enrich.wording import counted


def parse_constraints(
    model: str,
    columns: Mapping[str, Mapping[str, Any]],
    constraints: Sequence[Mapping[str, Any]],
) -> tuple[Constraint, ...]:
    """Read the constraints of dbt's `model.columns` and `model.constraints`.

    Custom constraints are left to the database.

    Raises:
        ConfigurationError: There is a foreign key. DuckDB keeps the name under which a table with
            one was created, and never again drops what it refers to once it is renamed, as an
            enriched table is (https://github.com/duckdb/duckdb/issues/24648).
    """
    own = [
        ({**constraint, "columns": [column["name"]]}, f" of the column '{column['name']}'")
        for column in columns.values()
        for constraint in column.get("constraints") or ()
    ]
    of_model = [(constraint, "") for constraint in constraints]
    if any(str(constraint.get("type")) == "foreign_key" for constraint, _ in [*own, *of_model]):
        raise ConfigurationError(
            f"model '{model}': the contract has a foreign_key constraint, which an enrichment "
            "cannot keep in DuckDB",
            fix="leave it out and use dbt's data test `relationships`",
        )
    return tuple(
        parsed for constraint, where in [*own, *of_model] for parsed in _parse(constraint, where)
    )


def _parse(constraint: Mapping[str, Any], where: str) -> Iterator[Constraint]:
    kind = str(constraint.get("type"))
    columns = tuple(map(str, constraint.get("columns") or ()))
    listed = ", ".join(columns)
    name = f"{kind}{where or f' ({listed})'}"
    if kind == "check" and constraint.get("expression"):
        # A check that is NULL holds.
        expression = str(constraint["expression"])
        yield Constraint(f"check ({expression})", f"not ({expression})")
    if kind in ("not_null", "primary_key") and columns:
        null = " or ".join(f"{identifier(column)} is null" for column in columns)
        yield Constraint(name, null)
    if kind in ("unique", "primary_key") and columns:
        yield Constraint(name, key=columns)


def refuse_staged_rows(relation: StagedRelation, constraints: Iterable[Constraint]) -> None:
    """Refuse staged rows that break a constraint, whatever their answers will be.

    Raises:
        InputError: There are some.
    """
    for constraint in constraints:
        if not _is_of_staged(relation, constraint):
            continue
        if constraint.key:
            key = ", ".join(map(identifier, constraint.key))
            present = " and ".join(f"{identifier(name)} is not null" for name in constraint.key)
            rows = (
                f"select 1 from {relation.name} where {present} group by {key} having count(*) > 1"
            )
        else:
            rows = f"select 1 from {relation.name} where {constraint.breaks}"
        count = _count(relation, rows)
        if count:
            text = (
                counted(count, "value repeats", "values repeat")
                if constraint.key
                else counted(count, "row breaks it", "rows break it")
            )
            raise InputError(
                f"model '{relation.model}': the SELECT's rows do not keep the contract's "
                f"constraint {constraint.name}: {text}; nothing was sent",
                fix="filter the rows, or change the constraint",
            )


def of_answers(
    relation: StagedRelation, constraints: Iterable[Constraint]
) -> tuple[Constraint, ...]:
    """Return the constraints that a row without an answer may break."""
    return tuple(c for c in constraints if c.breaks and not _is_of_staged(relation, c))


def refuse_blank_rows(
    relation: StagedRelation,
    outputs: Sequence[OutputColumn],
    constraints: Sequence[Constraint],
    blank: Iterable[tuple[str, str]],
) -> None:
    """Refuse constraints that rows break which will surely have no answer when this run ends.

    Args:
        relation: The staged rows.
        outputs: The output columns.
        constraints: Those that such rows may break.
        blank: Pairs of a status and a table expression of the row_id of such rows.

    Raises:
        ConfigurationError: A constraint cannot hold. Nothing was sent.
    """
    for status, ids in blank:
        values = {
            **{o.name: f"cast(null as {o.type.sql})" for o in outputs},
            **{name: f"cast(null as {kind})" for name, kind in STATUS_TYPES.items()},
            "enrichment_status": f"cast({literal(status)} as {STATUS_TYPES['enrichment_status']})",
        }
        if status != "pending":
            values["enrichment_error"] = literal(status)
        if status != "skipped":
            values["enrichment_key"] = "uuid()"
        columns = ", ".join(f"{value} as {identifier(name)}" for name, value in values.items())
        rows = (
            f"select staged.*, {columns} from {relation.name} as staged "
            f"semi join {ids} as blank on staged.rowid = blank.row_id"
        )
        _refuse(relation, rows, constraints, f"{status}, without an answer; nothing was sent")


def refuse_published_rows(
    relation: StagedRelation, enriched_sql: str, constraints: Sequence[Constraint]
) -> None:
    """Refuse to publish rows without an answer that break a constraint.

    Raises:
        ConfigurationError: There are some. All answers are kept.
    """
    _refuse(
        relation,
        enriched_sql,
        constraints,
        "without an answer; the previous table stays and all answers are kept",
    )


def unsent_ids(rows: StagedRows, *, owed: bool) -> str:
    """Table expression of the rows without a message: those with nothing to send, or those owed."""
    return (
        f"(select row_id from read_parquet({literals(rows.files)}) "
        f"where request_key is null and {'is_owed' if owed else 'not is_owed'})"
    )


def asked_ids(undone: Undone, chosen: Chosen, *, asked: bool) -> str:
    """Table expression of the rows that are not done and are sent, or are not."""
    files, requests = list(undone.files.values()), chosen.all_sql
    join = "semi" if asked else "anti"
    return (
        f"(select row_id from read_parquet({literals(files)}) as undone "
        f"{join} join {requests} as chosen using (request_key))"
    )


def without_previous(ids: str, relation: StagedRelation, existing: str, keys: Sequence[str]) -> str:
    """Table expression of those rows that the existing table has no outputs of."""
    same = " and ".join(f"previous.{identifier(key)} = staged.{identifier(key)}" for key in keys)
    return (
        f"(select ids.row_id from {ids} as ids join {relation.name} as staged "
        f"on staged.rowid = ids.row_id anti join (select * from {existing} "
        f"where enrichment_status in ('done', 'stale')) as previous on {same})"
    )


def _refuse(
    relation: StagedRelation, rows: str, constraints: Sequence[Constraint], said: str
) -> None:
    for constraint in constraints:
        count = _count(relation, f"select 1 from ({rows}) where {constraint.breaks}")
        if count:
            raise ConfigurationError(
                f"model '{relation.model}': the contract's constraint {constraint.name} cannot "
                f"hold, as {counted(count, 'row')} would be {said}",
                fix="leave the constraint out and test the rows that are done: a data test with "
                "config: {where: \"enrichment_status = 'done'\"}",
            )


def _is_of_staged(relation: StagedRelation, constraint: Constraint) -> bool:
    """Whether a constraint speaks of the SELECT's own columns alone."""
    condition = constraint.breaks or " or ".join(f"{identifier(n)} is null" for n in constraint.key)
    try:
        relation.connection.execute(f"select 1 from {relation.name} where {condition} limit 0")
    except duckdb.Error:
        return False
    return True


def _count(relation: StagedRelation, rows: str) -> int:
    try:
        found = relation.connection.execute(f"select count(*) from ({rows})").fetchone()
    except duckdb.Error:
        # A condition that fails on a row's values; the database says so when the table is filled.
        return 0
    return int(found[0]) if found else 0
