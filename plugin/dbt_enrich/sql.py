"""Quoting for generated SQL: the one place where text becomes an identifier or a literal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


def preference_sql(conditions: Sequence[str], texts: Sequence[str]) -> str:
    """Build a number by which one of several rows is preferred, in whatever order they come.

    An aggregate of numbers can be spilled to the disk, which one that holds texts cannot.

    Args:
        conditions: What is preferred, most important first.
        texts: What else tells the rows apart.
    """
    digest_bits = 62 - len(conditions)
    preferred = " + ".join(
        f"cast(({condition}) as bigint) * {1 << (61 - place)}"
        for place, condition in enumerate(conditions)
    )
    digest = f"cast(hash({', '.join(texts)}) >> {64 - digest_bits} as bigint)"
    return f"({preferred} + {digest})"
