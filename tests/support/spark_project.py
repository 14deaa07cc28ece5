"""A small dbt project whose tables dbt-spark or dbt-sail builds."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from support.dbt_project import COMMAND, DbtProject
from support.forked_dbt import EARLY
from support.sail import spark_session


class SparkProject(DbtProject, ABC):
    """A project whose target is a session of Spark.

    Args:
        directory: Where it is written.
        config: The keys of dbt_enrich.yml.
        output: The profile's target.
        file_format: The format of its tables.
    """

    def __init__(
        self,
        directory: Path,
        config: dict[str, Any],
        output: dict[str, Any],
        file_format: str = "parquet",
    ) -> None:
        self.file_format = file_format
        self.output = {**output, "schema": "notes", "threads": 1}
        super().__init__(directory, config, door=COMMAND)

    def configure(self, plugin: dict[str, Any]) -> None:
        """Write the profile, and the configuration beside dbt_project.yml."""
        self._configure_file({"state_dir": str(self.state_dir), **plugin})
        self.write("profiles.yml", {"notes": {"target": "dev", "outputs": {"dev": self.output}}})

    @abstractmethod
    def session(self) -> AbstractContextManager[Any]:
        """Open a session that sees the tables."""

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query, in order."""
        with self.session() as spark:
            return sorted(tuple(row) for row in spark.sql(sql).collect())

    def execute(self, sql: str) -> None:
        """Change a table."""
        with self.session() as spark:
            spark.sql(sql)

    def statuses(self) -> dict[str, int]:
        """Return how many rows of the enriched table have come to each status."""
        return dict(self.rows("select enrichment_status, count(*) from notes.notes group by 1"))


class SailProject(SparkProject):
    """A project in a session of Sail.

    dbt and the command are processes of their own. Sail keeps its tables in a session's memory, so
    that all of them name the same session.

    Args:
        directory: Where it is written.
        config: The keys of dbt_enrich.yml.
        adapter: `spark` or `sail`.
        port: The server's.
        file_format: The format of its tables.
    """

    def __init__(
        self, directory: Path, config: dict[str, Any], adapter: str, port: int, file_format: str
    ) -> None:
        self._port, self._session = port, str(uuid.uuid4())
        remote = f"127.0.0.1:{port}/;session_id={self._session}"
        # dbt-sail has no key for the session's id, and writes `:` and its port behind the host.
        outputs: dict[str, dict[str, Any]] = {
            "sail": {"type": "sail", "mode": "remote", "host": f"{remote};user_agent=dbt"},
            "spark": {
                "type": "spark",
                "method": "session",
                "host": "none",
                "server_side_parameters": {"spark.remote": f"sc://{remote}"},
            },
        }
        super().__init__(directory, config, outputs[adapter], file_format)
        self._environment[EARLY] = "1"

    @contextmanager
    def session(self) -> Iterator[Any]:
        """Open the project's session."""
        with spark_session(self._port, self._session) as spark:
            yield spark
