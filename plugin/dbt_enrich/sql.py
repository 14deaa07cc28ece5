"""Quoting for generated SQL: the one place where text becomes an identifier or a literal."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def identifier(name: str) -> str:
    """Quote `name` as a DuckDB identifier.

    >>> identifier('a "b" c')
    '"a ""b"" c"'
    """
    return '"' + name.replace('"', '""') + '"'


def literal(value: str | Path) -> str:
    """Quote `value` as a DuckDB string literal. NUL, which the parser ends at, is refused.

    >>> literal("it's")
    "'it''s'"
    """
    text = str(value)
    if "\x00" in text:
        raise ValueError("a SQL literal cannot hold a NUL character")
    return "'" + text.replace("'", "''") + "'"


def literals(values: Iterable[str | Path]) -> str:
    """Quote `values` as a DuckDB list of string literals, typed also where it is empty."""
    return "[" + ", ".join(literal(value) for value in values) + "]::varchar[]"


def key_text_sql(column: str) -> str:
    """Build the expression of a request's key, a uuid, as its 32 hexadecimal digits.

    Args:
        column: SQL expression of the key.
    """
    return f"replace(cast({column} as varchar), '-', '')"
