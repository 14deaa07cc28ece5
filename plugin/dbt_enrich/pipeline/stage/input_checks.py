"""Whether the rows and columns of a SELECT can be enriched, looked at before they are staged."""

from __future__ import annotations

from collections.abc import Sequence

from dbt_enrich.errors import ConfigurationError, InputError
from dbt_enrich.sql import identifier
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.result_columns import STATUS_TYPES
from dbt_enrich.warehouse.relation import StagedRelation
from dbt_enrich.wording import columns_text, counted, near_match


def parse_unique_key(model: str, value: object) -> tuple[str, ...]:
    """Return the columns of a model's `unique_key`.

    Raises:
        ConfigurationError: There is none.
    """
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not names or not all(isinstance(n, str) for n in names):
        raise ConfigurationError(
            f"model '{model}': the materialization enrichment needs a unique_key, the column or "
            "list of columns that tells rows apart",
            fix="add it: config(unique_key = 'id')",
        )
    return tuple(names)


def check_columns(relation: StagedRelation, task: EnrichmentTask) -> None:
    """Check that the unique key is among a relation's columns, and no name of ours is.

    Raises:
        ConfigurationError: It is not, or one is.
    """
    columns = relation.columns()
    staged = {name.lower(): name for name in columns}
    for key in relation.unique_key:
        if key.lower() not in staged:
            raise ConfigurationError(
                f"model '{relation.model}': unique_key names the column '{key}', which the SELECT "
                f"does not return ({columns_text(columns)})",
                fix=near_match(key, staged) or "name one of the SELECT's columns",
            )
    for output in task.outputs:
        if output.name.lower() in staged:
            raise ConfigurationError(
                f"model '{relation.model}': '{output.name}' is both an output column and a column "
                "of the SELECT",
                fix="rename one of them",
            )
    # A column named rowid would hide DuckDB's own, by which answers find their rows.
    for name in (*STATUS_TYPES, "rowid"):
        if name in staged:
            raise ConfigurationError(
                f"model '{relation.model}': the SELECT returns '{name}', a name that dbt-enrich "
                "uses itself",
                fix="leave the column out or rename it",
            )


def _check_unique_key(relation: StagedRelation) -> None:
    keys = [identifier(key) for key in relation.unique_key]
    listed = ", ".join(keys)
    name = ", ".join(relation.unique_key)
    null = " or ".join(f"{key} is null" for key in keys)
    found = relation.connection.execute(
        f"select count(*) from {relation.name} where {null}"
    ).fetchone()
    if found and found[0]:
        raise InputError(
            f"model '{relation.model}': the unique_key '{name}' is null in "
            f"{counted(found[0], 'row')} of the SELECT",
            fix="filter them out or choose another key",
        )
    texts = ", ".join(f"cast({key} as varchar)" for key in keys)
    repeated = relation.connection.execute(
        f"select {texts}, count(*) from {relation.name} group by {listed} having count(*) > 1 "
        "order by all limit 1"
    ).fetchone()
    if repeated:
        *values, count = repeated
        shown = ", ".join(str(value) for value in values)
        raise InputError(
            f"model '{relation.model}': the unique_key '{name}' is not unique: the value {shown} "
            f"stands in {count} rows",
            fix="remove the repeats or choose another key",
        )
