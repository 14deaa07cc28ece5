"""Statements that macros of the package build, without dbt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dbt_enrich.sql import identifier
from jinja2 import Environment

INTERNAL = Path(__file__).parents[2] / "macros" / "internal"


class Macros:
    """The internal macros, called by their names: those that need no more of dbt than quotes."""

    def __init__(self) -> None:
        # What it renders is SQL.
        self._environment = Environment(extensions=["jinja2.ext.do"], autoescape=False)  # noqa: S701
        self._environment.globals.update(dbt_enrich=self, adapter=self)

    def quote(self, name: str) -> str:
        """Quote an identifier, as dbt's adapter does."""
        return identifier(name)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") or name.startswith("__"):
            raise AttributeError(name)
        text = (INTERNAL / f"{name}.sql").read_text()
        # Jinja exports no name that begins with an underscore.
        template = self._environment.from_string(f"{text}{{% set exported = {name} %}}")
        return template.module.exported  # type: ignore[attr-defined]
