"""What rows hold, as two numbers: rows that differ in anything differ in one of them.

DuckDB's `hash` alone is blind to some differences: it takes 0.0 for -0.0, NULL for an empty list, a
month for thirty days and, in DuckDB 2.0, texts for equal that a collation takes for equal. Values
that differ are written differently, so that a second number is made of their bytes as text. Another
version of DuckDB may make other numbers; such a one compares unequal.
"""

from __future__ import annotations

from collections.abc import Mapping

from dbt_enrich.sql import identifier

# Its text is written in the session's time zone.
_MOMENT = "TIMESTAMP WITH TIME ZONE"
# Moves a text against the eight bytes of which `hash` makes one step.
_OFFSET = "'row'"


def content_sql(columns: Mapping[str, str]) -> tuple[str, str]:
    """Build the two expressions, both of type UBIGINT, over the columns of one table.

    Args:
        columns: Their types, by name.
    """
    names = {identifier(name): kind for name, kind in columns.items()}
    texts = [_written(name, kind) for name, kind in names.items()]
    return f"hash({', '.join(names)})", f"hash({', '.join(texts)})"


def _written(column: str, kind: str) -> str:
    if kind.upper() == _MOMENT:
        return column
    return f"encode({_OFFSET} || cast({column} as varchar))"
