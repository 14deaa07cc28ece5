"""The enriched tables that a report finds in the databases of dbt-duckdb."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import duckdb

from dbt_enrich.sql import identifier, text_sql
from dbt_enrich.state.tables.publications import Publication
from dbt_enrich.task.result_columns import STATUS_TYPES
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.warehouse.databases import Databases, find_catalog, opened
from dbt_enrich.warehouse.enriched_table import ExistingTable
from dbt_enrich.warehouse.host import Counted
from dbt_enrich.warehouse.placement import PlacedColumns, Placement

_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


@dataclass(frozen=True)
class EnrichedTable:
    """An enriched table that is there.

    Attributes:
        label: Its name, quoted and qualified.
        name: SQL of its rows, with the outputs in their own types.
        columns: Its columns' types, by name, in their order.
        errors: SQL of its errors table's rows, or None where there is none.
        whole: SQL of rows with all columns, from which a sample is taken; by default `name`.
        counted: All its rows, counted; None where `name` has all of them.
        copied: How many of its rows `name` has, where it has not all of them.
    """

    label: str
    name: str
    columns: Mapping[str, str]
    errors: str | None
    whole: str | None = None
    counted: tuple[Counted, ...] | None = None
    copied: int | None = None


class Tables(Protocol):
    """The enriched tables of a target, as far as a report looks at them."""

    connection: duckdb.DuckDBPyConnection
    """A connection to what has them."""

    def find(
        self, publication: Publication, outputs: Sequence[OutputColumn]
    ) -> EnrichedTable | None:
        """Return the table that was published, or None if the target has none of that name.

        Args:
            publication: What the ledger knows of it.
            outputs: Its output columns, which its database may hold as other types.
        """
        ...


@contextmanager
def attached_tables(databases: Databases, settings: Mapping[str, object]) -> Iterator[Tables]:
    """Open the databases of a target of dbt-duckdb.

    Args:
        databases: The databases.
        settings: Which of DuckDB's settings to change.

    Raises:
        ConfigurationError: There is no warehouse, or it is held by another process.
    """
    with opened(databases, settings) as connection:
        yield _AttachedTables(connection)


@dataclass
class _AttachedTables:
    connection: duckdb.DuckDBPyConnection

    def find(
        self, publication: Publication, outputs: Sequence[OutputColumn]
    ) -> EnrichedTable | None:
        return find_table(self.connection, publication, outputs)


def find_table(
    connection: duckdb.DuckDBPyConnection,
    publication: Publication,
    outputs: Sequence[OutputColumn] = (),
) -> EnrichedTable | None:
    """Return the table that was published, or None if this warehouse has none of that name.

    Args:
        connection: The target's databases.
        publication: What the ledger knows of it.
        outputs: Its output columns, which its database may hold as other types.
    """
    parts = _parts(publication.relation)
    if parts is None:
        parts = _found_by_name(connection, publication.name)
    if parts is None:
        return None
    columns = _columns(connection, parts)
    if not columns.keys() >= STATUS_TYPES.keys():
        return None
    errors = (*parts[:2], f"{parts[2]}__errors")
    there = ExistingTable(
        name=_qualified(parts),
        columns=columns,
        errors=_qualified(errors) if "enrichment_key" in _columns(connection, errors) else None,
    )
    placement = Placement(find_catalog(connection, parts[0]))
    kinds = {output.name: output.type.sql for output in outputs} | STATUS_TYPES
    read = PlacedColumns(placement, kinds, {}).read(there)
    rows = read.name
    if not placement.changes_nothing:
        # Elsewhere rows have no `rowid`, and each look would fetch them anew.
        rows = f"temp.main.{identifier(there.name)}"
        connection.execute(
            f"create or replace temp table {identifier(there.name)} as from {read.name}"
        )
    return EnrichedTable(there.name, rows, read.columns, read.errors)


Parts = tuple[str, str, str]


def _parts(relation: str | None) -> Parts | None:
    found = [part.replace('""', '"') for part in _QUOTED.findall(relation or "")]
    return (found[0], found[1], found[2]) if len(found) == 3 else None


def _found_by_name(connection: duckdb.DuckDBPyConnection, name: str) -> Parts | None:
    """Look for the table that a version of dbt-enrich published which did not note where."""
    row = connection.execute(
        "select database_name, schema_name, table_name from duckdb_columns() "
        f"where table_name = {text_sql(name)} and column_name = 'enrichment_key' "
        "order by database_name <> current_database(), schema_name limit 1"
    ).fetchone()
    return None if row is None else (row[0], row[1], row[2])


def _columns(connection: duckdb.DuckDBPyConnection, parts: Parts) -> dict[str, str]:
    database, schema, table = (text_sql(part) for part in parts)
    return dict(
        connection.execute(
            f"select column_name, data_type from duckdb_columns() where database_name = {database} "
            f"and schema_name = {schema} and table_name = {table} order by column_index"
        ).fetchall()
    )


def _qualified(parts: Parts) -> str:
    return ".".join(identifier(part) for part in parts)
