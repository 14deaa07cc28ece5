"""Markdown: the cells, tables and sections of the benchmarks' pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# What stands where nothing was measured.
NOTHING = "-"


def number(value: float | None, decimals: int = 0) -> str:
    """Return a number for a cell; a dash where nothing was measured."""
    return NOTHING if value is None else f"{value:,.{decimals}f}"


def section(title: str, text: str) -> str:
    """Return a section of the page."""
    return f"## {title}\n\n{text}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, numbers to the right."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
