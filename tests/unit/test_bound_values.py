"""No value is bound to a statement of DuckDB, for which its client would import pandas."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

_PACKAGE = Path(__file__).parents[2] / "plugin" / "dbt_enrich"
# Where statements are SQLite's or Postgres'.
_LEDGER = ("postgres_connection.py", "sqlite_connection.py", "stray_directory.py")
_OTHERS = {_PACKAGE / "state" / name for name in _LEDGER}
_METHODS = {"execute": 1, "executemany": 0, "sql": 1, "query": 1}


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sorted(_PACKAGE.rglob("*.py"))
        if path not in _OTHERS and "tables" not in path.parts
    ],
    ids=lambda path: str(path.relative_to(_PACKAGE)),
)
def test_nothing_is_bound(path: Path) -> None:
    """Neither by position nor by name."""
    bound = [
        ast.unparse(call)
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in _METHODS
        and (len(call.args) > _METHODS[call.func.attr] or call.keywords)
    ]
    assert bound == []
