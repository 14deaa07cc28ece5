"""Owed: texts that another enrichment has yet to write: their rows wait, and are not skipped.

A model that reads another enrichment finds no text where that one's answer is still due. Which rows
those are is told by that one's table: row by row where the model reads nothing else and passes its
unique key on, else all rows without a text, until none of that table's rows is due.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from dbt_enrich.sql import identifier

# Statuses of rows whose answer is still to come.
DUE = "('pending', 'stale')"


@dataclass(frozen=True)
class Upstream:
    """Another enrichment that a model reads, directly or through models between them.

    Attributes:
        name: Its dbt name.
        enrichment: Its unique id.
        relations: Where its table may be, quoted and qualified; the first that is there counts.
        unique_key: The columns that tell its rows apart; empty where that is not known.
        is_alone: Whether the model, and each between them, reads nothing else.
    """

    name: str
    enrichment: str
    relations: tuple[str, ...]
    unique_key: tuple[str, ...] = ()
    is_alone: bool = False


@dataclass(frozen=True)
class Owing:
    """What other enrichments owe the rows of a staged relation.

    Attributes:
        names: Their dbt names.
        condition: SQL condition on a row of the relation, called `staged`, that has no text:
            whether the text is still to come.
    """

    names: tuple[str, ...]
    condition: str


def find_owing(
    connection: duckdb.DuckDBPyConnection,
    columns: Mapping[str, str],
    upstream: Sequence[Upstream],
) -> Owing | None:
    """Find which other enrichments still owe texts, or None if none does.

    Args:
        connection: A connection to the user's database.
        columns: DuckDB type of each staged column, by name.
        upstream: The enrichments that the model reads.
    """
    names, conditions = [], []
    for other in upstream:
        found = _table_of(connection, other)
        if found is None:
            continue
        table, types = found
        due = connection.execute(
            f"select 1 from {table} where enrichment_status in {DUE} limit 1"
        ).fetchone()
        if due:
            names.append(other.name)
            conditions.append(_condition(table, types, columns, other))
    return Owing(tuple(names), " or ".join(conditions)) if names else None


def unfinished(
    connection: duckdb.DuckDBPyConnection, upstream: Sequence[Upstream]
) -> tuple[str, ...]:
    """Return the names of the enrichments that are not built yet, or still owe texts.

    Args:
        connection: A connection to the user's database.
        upstream: The enrichments that a model reads.
    """
    names = []
    for other in upstream:
        found = _table_of(connection, other)
        if found is None:
            continue
        # `plan` leaves an empty table where there was none.
        rows, due = connection.execute(
            f"select count(*), count(*) filter (enrichment_status in {DUE}) from {found[0]}"
        ).fetchall()[0]
        if due or not rows:
            names.append(other.name)
    return tuple(names)


def _table_of(
    connection: duckdb.DuckDBPyConnection, other: Upstream
) -> tuple[str, dict[str, str]] | None:
    """Return an enrichment's table with its columns' types, or None where there is none."""
    for relation in other.relations:
        try:
            described = connection.execute(f"describe {relation}").fetchall()
        except duckdb.Error:
            continue
        types = {row[0].lower(): row[1] for row in described}
        # A Python model may be an enrichment or not: its table says.
        return (relation, types) if "enrichment_status" in types else None
    return None


def _condition(
    table: str, types: Mapping[str, str], columns: Mapping[str, str], other: Upstream
) -> str:
    staged = {name.lower(): kind for name, kind in columns.items()}
    keys = [key.lower() for key in other.unique_key]
    if not (other.is_alone and keys and all(staged.get(k) == types.get(k, "") for k in keys)):
        return "true"
    same = " and ".join(f"there.{identifier(key)} = staged.{identifier(key)}" for key in keys)
    return f"exists (select 1 from {table} as there where {same} and enrichment_status in {DUE})"
