"""The warehouse as a report reads it: beside whoever else does, and without changing anything."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from dbt_enrich.columns import STATUS_TYPES
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.ledger import Publication
from dbt_enrich.sql import identifier, literal

_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


@dataclass(frozen=True)
class Database:
    """A DuckDB file of the profile's target.

    Attributes:
        path: Where it is.
        alias: What it is called in SQL, or None for what DuckDB calls it by itself.
    """

    path: str
    alias: str | None = None


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


@contextmanager
def opened(
    databases: Sequence[Database], settings: Mapping[str, object]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the target's databases for reading; the first one is the warehouse.

    Args:
        databases: The files.
        settings: Which of DuckDB's settings to change.

    Raises:
        ConfigurationError: There is no warehouse, or another process holds it.
    """
    first = databases[0]
    if first.path == ":memory:":
        raise ConfigurationError(
            "the target's path is :memory:, so no warehouse is left after dbt run",
            fix="set path to a file in the profile",
        )
    is_file = "://" not in first.path and not first.path.startswith("md:")
    if is_file and not Path(first.path).exists():
        raise _no_warehouse(Path(first.path))
    try:
        connection = duckdb.connect(first.path, read_only=True)
    except duckdb.Error as error:
        raise ConfigurationError(
            f"the warehouse {first.path} cannot be read ({_line(error)})",
            fix="if a dbt run holds it, wait for its end, or use `dbt-enrich run`, which leaves "
            "it free while it waits",
        ) from None
    try:
        connection.execute("set enable_progress_bar = false")
        connection.execute("set timezone = 'UTC'")
        for name, value in settings.items():
            connection.execute(f"set {identifier(name)} = {literal(str(value))}")
        for other in databases[1:]:
            alias = f" as {identifier(other.alias)}" if other.alias else ""
            connection.execute(f"attach if not exists {literal(other.path)}{alias} (read_only)")
        yield connection
    except duckdb.IOException as error:
        raise ConfigurationError(
            f"the warehouse {first.path} cannot be read ({_line(error)})",
            fix="if a dbt run holds it, wait for its end",
        ) from None
    finally:
        connection.close()


def _no_warehouse(path: Path) -> ConfigurationError:
    fix = "run `dbt run` with this target first, or name another by --target"
    if not path.is_absolute():
        fix += (
            f"; `path: {path}` of the profile counts from the working directory, for dbt too: work "
            "where dbt is run, or make it absolute"
        )
    return ConfigurationError(f"there is no warehouse at {path.absolute()}", fix=fix)


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


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
