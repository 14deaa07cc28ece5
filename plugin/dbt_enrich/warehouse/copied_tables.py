"""The enriched tables of a host, as a report looks at them: all rows counted, some of them copied.

What the host counts is of all rows. Answers and messages are of rows that are copied to a scratch
database, so many at most, however many the table has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import duckdb

from dbt_enrich.sql import identifier, literal
from dbt_enrich.state.tables.publications import Publication
from dbt_enrich.task.result_columns import KEY, STATUS_TYPES, STATUSES
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.task.types import ArrayType
from dbt_enrich.warehouse.attached import EnrichedTable, Tables
from dbt_enrich.warehouse.enriched_table import ExistingTable
from dbt_enrich.warehouse.host import Counted, HostTable, RemoteHost
from dbt_enrich.warehouse.parquet import from_parquet_sql
from dbt_enrich.warehouse.placement import PlacedColumns, Placement

_PARTS = re.compile(r'"((?:[^"]|"")*)"|`((?:[^`]|``)*)`')
# Rows of a status that are copied at most, of answers with a vector, and with all columns.
_MOST: Final = 100_000
_MOST_VECTORS: Final = 2_000
_MOST_WHOLE: Final = 200
_MOST_ERRORS: Final = 50_000
# A key begins with so many hexadecimal digits, in which any key is as likely as another.
_DIGITS: Final = 8


@contextmanager
def copied_tables(
    host: RemoteHost, directory: Path, settings: Mapping[str, object], *, most: int = _MOST
) -> Iterator[Tables]:
    """Look at the tables of a host.

    Args:
        host: The host.
        directory: Where copies go; it is there and empty.
        settings: Of the DuckDB that has them.
        most: How many rows of each status are copied at most.
    """
    with duckdb.connect(str(directory / "copies.duckdb")) as connection:
        connection.execute("set enable_progress_bar = false")
        connection.execute("set timezone = 'UTC'")
        for name, value in settings.items():
            connection.execute(f"set {identifier(name)} = {literal(str(value))}")
        yield _CopiedTables(host, directory, connection, most)


class _CopiedTables:
    def __init__(
        self, host: RemoteHost, directory: Path, connection: duckdb.DuckDBPyConnection, most: int
    ) -> None:
        self.connection = connection
        self._host = host
        self._directory = directory
        self._most = most
        self._placement = Placement(host.catalog)
        self._copies = 0

    def find(
        self, publication: Publication, outputs: Sequence[OutputColumn]
    ) -> EnrichedTable | None:
        """Return the table that was published, or None; see `Tables`."""
        table = table_named(publication.relation or "")
        columns = self._host.columns(table) if table else None
        if table is None or columns is None or not columns.keys() >= STATUS_TYPES.keys():
            return None
        counted = self._host.counted(table)
        kinds = {output.name: output.type.sql for output in outputs} | STATUS_TYPES
        placed = PlacedColumns(self._placement, kinds, {})
        of_answers = {name.lower() for name in kinds}
        narrow = {name: kind for name, kind in columns.items() if name.lower() in of_answers}
        most = _MOST_VECTORS if any(isinstance(o.type, ArrayType) for o in outputs) else self._most
        name, _ = self._copied(table, narrow, placed, counted, most)
        whole, types = self._copied(table, columns, placed, counted, _MOST_WHOLE)
        (copied,) = self.connection.execute(f"select count(*) from {name}").fetchall()[0]
        return EnrichedTable(
            label=publication.relation or table.identifier,
            name=name,
            columns=types,
            errors=self._errors(table),
            whole=whole,
            counted=counted,
            copied=int(copied) if copied < sum(one.rows for one in counted) else None,
        )

    def _copied(
        self,
        table: HostTable,
        columns: Mapping[str, str],
        placed: PlacedColumns,
        counted: Sequence[Counted],
        most: int,
    ) -> tuple[str, Mapping[str, str]]:
        """Copy so many rows of each status; return what they are called, with their types."""
        files: list[Path] = []
        for status in STATUSES:
            rows = sum(one.rows for one in counted if one.status == status)
            if rows:
                files += self._host.copy_some(
                    table,
                    self._place(),
                    most=most,
                    columns=list(columns),
                    statuses=(status,),
                    below=_below(most, rows) if status == "done" else None,
                )
        found = placed.read(_shown(files, columns))
        return self._made(found.name), found.columns

    def _errors(self, table: HostTable) -> str | None:
        errors = replace(table, identifier=f"{table.identifier}__errors")
        columns = self._host.columns(errors)
        if columns is None or KEY not in columns:
            return None
        files = self._host.copy_some(errors, self._place(), most=_MOST_ERRORS)
        placed = PlacedColumns(self._placement, STATUS_TYPES, {})
        return self._made(placed.read(_shown(files, columns)).name)

    def _made(self, rows: str) -> str:
        """Make a table of rows, and return its name."""
        name = f"copy_{self._copies}"
        self.connection.execute(f"create table {name} as select * from {rows}")
        return name

    def _place(self) -> Path:
        self._copies += 1
        path = self._directory / str(self._copies)
        path.mkdir(mode=0o700)
        return path


def table_named(relation: str) -> HostTable | None:
    """Return the table of a name as dbt writes it, quoted and qualified, or None for another text.

    >>> table_named('"shop"."public"."notes"')
    HostTable(database='shop', schema='public', identifier='notes')
    >>> table_named("`sales`.`notes`")
    HostTable(database=None, schema='sales', identifier='notes')
    """
    parts = [
        one.replace('""', '"') or other.replace("``", "`")
        for one, other in _PARTS.findall(relation)
    ]
    if not 2 <= len(parts) <= 3:
        return None
    return HostTable(parts[0] if len(parts) == 3 else None, parts[-2], parts[-1])


def _shown(files: Sequence[Path], columns: Mapping[str, str]) -> ExistingTable:
    return ExistingTable(f"({from_parquet_sql(files, columns)}) as copied", columns)


def _below(most: int, rows: int) -> str | None:
    """Return what the keys of about so many of the rows are less than; None for all of them."""
    # A fifth less, as equal rows have one key, and many of them may be among the low ones.
    share = most * 0.8 / rows
    return None if rows <= most else f"{int(share * 16**_DIGITS):0{_DIGITS}x}"
