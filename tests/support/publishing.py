"""Tables published without dbt, by the statements of the materialization."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
from dbt_enrich.pipeline.request import Outcome
from dbt_enrich.state.tables.contents import RowSums

from support.macros import Macros


def publish(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    outcome: Outcome,
    *,
    staged: str,
    unique_key: Sequence[str],
) -> dict[str, RowSums] | None:
    """Publish an enriched table and its errors table in one transaction.

    Args:
        connection: The warehouse.
        table: The enriched table; beside it are `<table>__errors` and for a while `<table>__new`.
        outcome: What came of the run.
        staged: The staged rows.
        unique_key: What tells them apart.

    Returns:
        What `Engine.finish` is to be told of the rows that were put into the table.
    """
    if not outcome.replaces:
        return None
    held = None
    connection.execute("begin")
    if outcome.replaces_errors:
        connection.execute(f"create or replace table {table}__errors as {outcome.errors_sql}")
    if _changes(outcome):
        connection.execute(f"create table {table}__new as {outcome.enriched_sql}")
        held = _content(connection, f"{table}__new", outcome)
        if outcome.touched is None:
            connection.execute(f"drop table if exists {table}")
            connection.execute(f"alter table {table}__new rename to {table}")
        else:
            source, deletes = f"{table}__new", outcome.gone > 0
            touch = Macros()._touch_rows(table, source, staged, list(unique_key), deletes)
            connection.execute(touch)
            connection.execute(f"drop table {table}__new")
    connection.execute("commit")
    return held


def _content(
    connection: duckdb.DuckDBPyConnection, table: str, outcome: Outcome
) -> dict[str, RowSums] | None:
    if outcome.content is None:
        return None
    sums = ", ".join(f"cast(sum({value}) as varchar)" for value in outcome.content)
    found = connection.execute(
        f"select enrichment_status, count(*), {sums} from {table} group by 1"
    ).fetchall()
    return {status: (count, first, second) for status, count, first, second in found}


def _changes(outcome: Outcome) -> bool:
    return outcome.touched is None or outcome.touched + outcome.gone > 0
