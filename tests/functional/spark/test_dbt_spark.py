"""dbt-spark and the command between its runs, on Spark itself: in a session, and over Connect.

Both are processes as a user starts them, each with a JVM of its own or none.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.warehouse.spark_session import end, spark_session
from functional.spark.test_standalone import spark_home
from support.dbt_project import azure
from support.spark_cluster import connect_server
from support.spark_project import SparkProject

# A session starts a JVM a dozen times.
pytestmark = [pytest.mark.spark, pytest.mark.timeout(1800)]
NOTES = "select id, concat('note ', id) as note from range(4)"
CONFIG = "unique_key = 'id', file_format = 'parquet'"
_COMMAND = [sys.executable, "-c", "from dbt_enrich.cli import main; main()"]


class OwnProcesses(SparkProject):
    """A project whose commands are processes that begin with nothing."""

    def _command(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [*_COMMAND, *arguments, "--project-dir", str(self.directory)],
            cwd=self.directory.parent,
            env={
                **os.environ,
                **self._environment,
                "DBT_PROFILES_DIR": str(self.directory),
                "DBT_ENRICH_DBT": str(Path(sys.executable).with_name("dbt")),
                "PYSPARK_PYTHON": sys.executable,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stdout, done.stdout
        return done.returncode, done.stdout

    @contextmanager
    def session(self) -> Iterator[Any]:
        """Open a session as the command does, in the directory in which it does."""
        here = Path.cwd()
        os.chdir(self.directory.parent)
        session = spark_session("dev", self.output)
        try:
            yield session
        finally:
            end(session)
            os.chdir(here)


@pytest.fixture(params=["session", "connect"])
def project(
    request: pytest.FixtureRequest, emulator: RunningEmulator, tmp_path: Path
) -> Iterator[OwnProcesses]:
    """A project in a session of its own, whose metastore is Derby, or in a server."""
    config = azure(emulator.url, emulator.api_key)
    output = {"type": "spark", "method": "session", "host": "none"}
    if request.param == "session":
        settings = {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "1"}
        yield OwnProcesses(tmp_path, config, {**output, "server_side_parameters": settings})
        return
    with connect_server(spark_home(), tmp_path) as port:
        settings = {"spark.remote": f"sc://127.0.0.1:{port}"}
        yield OwnProcesses(tmp_path, config, {**output, "server_side_parameters": settings})


def test_tables_are_published_again_and_again(
    project: OwnProcesses, emulator: RunningEmulator
) -> None:
    """Rebuilt, then merged into; a table that a kill has left under its other name comes back."""
    project.enrichment("notes", NOTES, config=CONFIG)
    project.command("run")
    assert project.rows("select id, summary from notes.notes") == [
        (i, f"summary: note {i}") for i in range(4)
    ]
    emulator.rules([{"match": "gone wrong", "refusal": "no"}])
    select = f"select id, if(id = 1, 'gone wrong', note) as note from ({NOTES}) where id < 3"
    project.enrichment("notes", select, config=CONFIG, meta={"max_attempts": 1})
    project.command("run", exits=4)
    assert project.statuses() == {"done": 2, "failed": 1}
    assert project.rows("select id, kind from notes.notes__errors") == [(1, "refusal")]
    with project.session() as spark:
        for table in ("notes", "notes__errors"):
            spark.sql(f"alter table notes.{table} rename to notes.{table}__dbt_backup")
    select = "select id, concat('note ', id) as note from range(7, 9)"
    project.enrichment("notes", select, config=CONFIG, meta={"publish": "merge", "max_attempts": 1})
    project.command("run", exits=4)
    assert project.statuses() == {"done": 4, "failed": 1}
    assert project.rows("select id, kind from notes.notes__errors") == [(1, "refusal")]
    assert [row[1] for row in project.rows("show tables in notes")] == ["notes", "notes__errors"]
    work = [row[1] for row in project.rows("show tables in notes_enrichment")]
    assert work == ["notes__failures", "notes__results", "notes__rows"]
    assert set(emulator.account()["paid"].values()) == {1}
