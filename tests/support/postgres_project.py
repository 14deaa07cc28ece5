"""A small dbt project whose tables dbt-postgres builds, in a schema of the tests' own server."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from support.dbt_project import COMMAND, DbtProject
from support.shared_ledger import LedgerServer


class PostgresProject(DbtProject):
    """A project with the targets `dev` and `prod`, each a schema.

    Args:
        directory: Where it is written.
        plugin: The keys of dbt_enrich.yml.
        server: The server.
    """

    def __init__(self, directory: Path, plugin: dict[str, Any], server: LedgerServer) -> None:
        self._server = server
        self.schema = f"p_{secrets.token_hex(4)}"
        super().__init__(directory, plugin, door=COMMAND)

    def configure(self, plugin: dict[str, Any]) -> None:
        """Write the profile, and dbt_enrich.yml with the given configuration."""
        self._configure_file({"state_dir": str(self.state_dir), **plugin})
        target = {
            "type": "postgres",
            "host": str(self._server.server.root),
            "user": "postgres",
            "pass": "none",
            "port": 5432,
            "dbname": "postgres",
            "threads": 2,
        }
        schemas = {"dev": self.schema, "prod": f"{self.schema}_prod"}
        outputs = {name: {**target, "schema": schema} for name, schema in schemas.items()}
        # Which dbt alone can read.
        outputs["prod"]["dbname"] = "{{ 'post' ~ 'gres' }}"
        self.write("profiles.yml", {"notes": {"target": "dev", "outputs": outputs}})

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query; the schema is the one that names are looked for in."""
        return self._server.execute(
            f"set search_path to {self.schema}", "set timezone to 'UTC'", sql
        )

    def execute(self, sql: str) -> None:
        """Change the schema."""
        self._server.execute(f"create schema if not exists {self.schema}")
        self.rows(sql)
