"""The relation that holds the rows of one model's SELECT, and how a row of it is named."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from dbt_enrich.sql import identifier


@dataclass(frozen=True)
class StagedRelation:
    """A real table of the user's database that holds the rows of the SELECT.

    Attributes:
        connection: A connection to the user's database that sees the table.
        name: The table's name, quoted and qualified.
        unique_key: The columns that tell its rows apart.
        model: The dbt model, for messages.
    """

    connection: duckdb.DuckDBPyConnection
    name: str
    unique_key: tuple[str, ...]
    model: str

    def columns(self) -> dict[str, str]:
        """Return the DuckDB type of each column, by name, in order."""
        described = self.connection.execute(f"describe {self.name}").fetchall()
        return {row[0]: row[1] for row in described}

    def leaves_room(self, size: int) -> bool:
        """Whether the database may hold so many bytes in memory, beside as many of others.

        Args:
            size: Bytes.
        """
        found = self.connection.execute(
            "select parse_formatted_bytes(current_setting('memory_limit'))"
        ).fetchone()
        return found is not None and 2 * size <= int(found[0])

    def row_label(self, row_id: int) -> str:
        """Name a row by its unique key, for messages."""
        keys = ", ".join(f"cast({identifier(key)} as varchar)" for key in self.unique_key)
        found = self.connection.execute(
            f"select {keys} from {self.name} where rowid = {row_id:d}"
        ).fetchone()
        values = found or ()
        return ", ".join(f"{k} = {v}" for k, v in zip(self.unique_key, values, strict=False))
