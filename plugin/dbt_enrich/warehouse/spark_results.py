"""Results of rows that stayed in Spark, as SQL over the tables that hold them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from dbt_enrich.task.result_columns import STATUS, STATUS_TYPES
from dbt_enrich.warehouse.enriched_table import IDENTITY_COLUMNS
from dbt_enrich.warehouse.host import FINGERPRINT, TASK, TELLING
from dbt_enrich.warehouse.spark_names import quoted

CHANGED = "is_changed"
"""The column that says whether a row has another result than before."""
_ERROR = "enrichment_error"


def settled_sql(
    made: str,
    previous: str | None,
    *,
    keys: Sequence[str],
    outputs: Sequence[str],
    same: Collection[str],
    keeps: bool,
) -> str:
    """Build the SELECT of what becomes of the table of results, by rows.

    A row whose answer is still to come keeps the outputs that it had, as on one machine.

    Args:
        made: The table of the new results, one for each row, in SQL.
        previous: The table of those that are there, in SQL, or None where there is none.
        keys: The unique key.
        outputs: The output columns.
        same: The columns that both tables have, of the same type.
        keeps: Whether rows whose answer is still to come keep previous outputs.
    """
    names = (*outputs, *STATUS_TYPES)
    says = f"new.{STATUS} <> 'pending' or new.{_ERROR} is not null"
    listed = ", ".join(f"new.{quoted(name)}" for name in (*keys, FINGERPRINT, TASK, *names))
    if previous is None:
        return f"select {listed}, ({says}) as {CHANGED} from {made} as new"
    is_stale = "false"
    if keeps:
        is_stale = f"new.{STATUS} = 'pending' and previous.{STATUS} in ('done', 'stale')"
    values = {name: f"new.{quoted(name)}" for name in names}
    # What is left of another task's answer must not be taken for the whole of it.
    lost = set[str]() if set(outputs) <= set(same) else set(IDENTITY_COLUMNS)
    for name in names:
        if name == STATUS:
            values[name] = f"case when {is_stale} then 'stale' else new.{STATUS} end"
        elif name != _ERROR and name in same:
            kept = "null" if name in lost else f"previous.{quoted(name)}"
            values[name] = f"case when {is_stale} then {kept} else new.{quoted(name)} end"
    telling = {name: values[name] for name in TELLING}
    telling |= {name: f"new.{name}" for name in (FINGERPRINT, TASK)}
    is_there = f"previous.{quoted(keys[0])} is not null"
    is_same = " and ".join(f"{value} <=> previous.{name}" for name, value in telling.items())
    columns = [
        *(f"new.{quoted(name)}" for name in (*keys, FINGERPRINT, TASK)),
        *(f"{value} as {quoted(name)}" for name, value in values.items()),
        f"({says} or {is_there}) and not ({is_there} and {is_same}) as {CHANGED}",
    ]
    on = " and ".join(f"new.{quoted(key)} = previous.{quoted(key)}" for key in keys)
    return (
        f"select {', '.join(columns)} from {made} as new left join {previous} as previous on {on}"
    )


def counts_sql(settled: str) -> str:
    """Build the SELECT of rows by status and kind of failure, and how many of them are changed.

    Args:
        settled: What `settled_sql` returns, or a table of it.
    """
    kind = f"case when {STATUS} = 'failed' then substring_index({_ERROR}, ':', 1) end"
    return (
        f"select {STATUS}, {kind} as kind, count(*) as rows, "
        f"sum(case when {CHANGED} then 1 else 0 end) as changed from {settled} group by 1, 2"
    )


def finals_sql(failures: str, keys: Sequence[str]) -> str:
    """Build the SELECT of the rows that failed for good, by the command that asks them again.

    Args:
        failures: A table of failed attempts, in SQL.
        keys: The unique key.
    """
    listed = ", ".join(map(quoted, keys))
    return (
        "select retry_with, count(*) as rows from (select distinct retry_with, "
        f"{listed} from {failures} where retry_with is not null) as finals group by 1"
    )


def same_columns(one: Mapping[str, str], other: Mapping[str, str] | None) -> set[str]:
    """Return the names of the columns that two tables have, of the same type.

    Args:
        one: The types of a table's columns, by name.
        other: Those of the other one; None where it is not there.
    """
    there = {name.lower(): kind for name, kind in (other or {}).items()}
    return {name for name, kind in one.items() if there.get(name.lower()) == kind}
