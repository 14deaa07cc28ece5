"""How much of the enriched table that is there may stay, where its rows are what they would be."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import duckdb

from dbt_enrich.sql import literal

# The nodes of a parsed SELECT whose modifiers are those of the whole.
_NODES = ("SELECT_NODE", "SET_OPERATION_NODE")


class Stays(StrEnum):
    """How much of the table that is there may stay."""

    NOTHING = "nothing"
    # All of it, or nothing.
    WHOLE = "whole"
    # The same, and only in the order of the SELECT.
    ORDERED = "ordered"
    ROWS = "rows"


@dataclass(frozen=True)
class Shape:
    """What DuckDB says of how a table is made, rows apart, as the macro `_shape` finds it.

    Attributes:
        definition: Columns, types, defaults and constraints.
        indexes: Its indexes: whether each is unique, and what it is over.
        has_keys: Whether it has a primary key or a unique or foreign one.
        commented: Its columns that have a comment.
    """

    definition: str
    indexes: str
    has_keys: bool
    commented: tuple[str, ...]

    @classmethod
    def of(cls, found: Mapping[str, Any] | None) -> Shape | None:
        """Return what was found, or None where there is no such table."""
        if not found:
            return None
        return cls(
            definition=str(found["definition"]),
            indexes=str(found["indexes"]),
            has_keys=bool(found["has_keys"]),
            commented=tuple(found["commented"]),
        )

    def becomes(self, made: Shape | None, described: Collection[str]) -> bool:
        """Whether a table of this shape, once columns are described anew, is like one just made."""
        if made is None or (self.definition, self.indexes) != (made.definition, made.indexes):
            return False
        return {name.lower() for name in self.commented} <= set(described)


def what_stays(
    existing: Shape | None, made: Shape | None, *, described: Collection[str], is_ordered: bool
) -> Stays:
    """Return how much of a table may stay.

    DuckDB cannot delete a row and put one with the same key in its place in one transaction.

    Args:
        existing: The shape of the table that is there.
        made: That of the table that a rebuild would make.
        described: The columns whose comments dbt writes, in lower case.
        is_ordered: Whether the SELECT says in which order its rows are.
    """
    if existing is None or not existing.becomes(made, described):
        return Stays.NOTHING
    if is_ordered:
        return Stays.ORDERED
    return Stays.WHOLE if existing.has_keys or existing.indexes else Stays.ROWS


def is_ordered(connection: duckdb.DuckDBPyConnection, select: str) -> bool:
    """Whether a SELECT ends in an ORDER BY, as far as DuckDB can tell.

    Args:
        connection: Any connection.
        select: The SELECT.
    """
    if "\x00" in select:
        return True
    try:
        found = connection.execute(f"select json_serialize_sql({literal(select)})").fetchone()
        parsed = json.loads(found[0]) if found else {}
        node = parsed["statements"][-1]["node"]
    except (duckdb.Error, KeyError, IndexError, ValueError):
        return True
    modifiers = node.get("modifiers", ())
    return node.get("type") not in _NODES or any(
        modifier.get("type") == "ORDER_MODIFIER" for modifier in modifiers
    )
