"""The enriched tables that a report finds in the warehouse."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from dbt_enrich.columns import STATUS_TYPES
from dbt_enrich.ledger import Publication
from dbt_enrich.sql import identifier

_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


@dataclass(frozen=True)
class EnrichedTable:
    """An enriched table that is there.

    Attributes:
        name: Quoted and qualified.
        columns: Its columns' types, by name, in their order.
        errors: Its errors table, or None where there is none.
    """

    name: str
    columns: Mapping[str, str]
    errors: str | None


def find_table(
    connection: duckdb.DuckDBPyConnection, publication: Publication
) -> EnrichedTable | None:
    """Return the table that was published, or None if this warehouse has none of that name."""
    parts = _parts(publication.relation)
    if parts is None:
        parts = _found_by_name(connection, publication.name)
    if parts is None:
        return None
    columns = _columns(connection, parts)
    if not columns.keys() >= STATUS_TYPES.keys():
        return None
    errors = (*parts[:2], f"{parts[2]}__errors")
    return EnrichedTable(
        name=_qualified(parts),
        columns=columns,
        errors=_qualified(errors) if "enrichment_key" in _columns(connection, errors) else None,
    )


Parts = tuple[str, str, str]


def _parts(relation: str | None) -> Parts | None:
    found = [part.replace('""', '"') for part in _QUOTED.findall(relation or "")]
    return (found[0], found[1], found[2]) if len(found) == 3 else None


def _found_by_name(connection: duckdb.DuckDBPyConnection, name: str) -> Parts | None:
    """Look for the table that a version of dbt-enrich published which did not note where."""
    row = connection.execute(
        "select database_name, schema_name, table_name from duckdb_columns() "
        "where table_name = ? and column_name = 'enrichment_key' "
        "order by database_name <> current_database(), schema_name limit 1",
        [name],
    ).fetchone()
    return None if row is None else (row[0], row[1], row[2])


def _columns(connection: duckdb.DuckDBPyConnection, parts: Parts) -> dict[str, str]:
    return dict(
        connection.execute(
            "select column_name, data_type from duckdb_columns() where database_name = ? "
            "and schema_name = ? and table_name = ? order by column_index",
            list(parts),
        ).fetchall()
    )


def _qualified(parts: Parts) -> str:
    return ".".join(identifier(part) for part in parts)
