"""The materialization where dbt's adapter is dbt-spark or dbt-sail, with the command in between."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from support.dbt_project import COMMAND, DbtProject, azure
from support.forked_dbt import EARLY
from support.sail import spark_session
from support.shared_ledger import LedgerServer

NOTES = "select id, concat('note ', id) as note from range(4)"


class SparkProject(DbtProject):
    """A project whose target is a session of Spark.

    dbt and the command are processes of their own. Sail keeps its tables in a session's memory, so
    that all of them name the same session.
    """

    def __init__(
        self, directory: Path, config: dict[str, Any], adapter: str, port: int, file_format: str
    ) -> None:
        self.file_format = file_format
        self.session = str(uuid.uuid4())
        self._port = port
        remote = f"127.0.0.1:{port}/;session_id={self.session}"
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
        self._output = outputs[adapter]
        super().__init__(directory, config, door=COMMAND)
        self._environment[EARLY] = "1"

    def configure(self, plugin: dict[str, Any]) -> None:
        """Write the profile, and the configuration beside dbt_project.yml."""
        self._configure_file({"state_dir": str(self.state_dir), **plugin})
        target = {**self._output, "schema": "notes", "threads": 1}
        self.write("profiles.yml", {"notes": {"target": "dev", "outputs": {"dev": target}}})

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query, in order."""
        with spark_session(self._port, self.session) as spark:
            return sorted(tuple(row) for row in spark.sql(sql).collect())

    def execute(self, sql: str) -> None:
        """Change a table."""
        with spark_session(self._port, self.session) as spark:
            spark.sql(sql)


@pytest.fixture(params=[("sail", "parquet"), ("spark", "delta")], ids="-".join)
def project(
    request: pytest.FixtureRequest, sail: int, emulator: RunningEmulator, tmp_path: Path
) -> SparkProject:
    """A project whose tables have one format."""
    adapter, file_format = request.param
    pytest.importorskip(f"dbt.adapters.{adapter}", reason=f"needs dbt-{adapter}")
    config = azure(emulator.url, emulator.api_key)
    return SparkProject(tmp_path, config, adapter, sail, file_format)


def config(project: SparkProject, text: str = "") -> str:
    """The model's config."""
    return f"unique_key = 'id', file_format = '{project.file_format}'{text}"


def statuses(project: SparkProject) -> dict[str, int]:
    """How many rows of the enriched table have which status."""
    found = project.rows("select enrichment_status, count(*) from notes.notes group by 1")
    return dict(found)


def test_dbt_stages_and_publishes_and_the_command_works(
    project: SparkProject, emulator: RunningEmulator
) -> None:
    """A bare `dbt run` sends nothing; the command sends each row once, and names what fails."""
    project.enrichment("notes", NOTES, config=config(project))
    output = project.dbt("run")
    assert "notes: 4 rows are pending; `dbt-enrich run --select notes` sends and" in output
    assert statuses(project) == {"pending": 4}
    assert emulator.account()["paid"] == {}
    project.command("run")
    assert project.rows("select id, summary from notes.notes") == [
        (i, f"summary: note {i}") for i in range(4)
    ]
    assert project.rows("select * from notes.notes__errors") == []
    # A changed row alone is sent, and fails; another is gone.
    emulator.rules([{"match": "gone wrong", "refusal": "no"}])
    changed = "case id when 1 then 'gone wrong' else note end"
    select = f"select id, {changed} as note from ({NOTES}) where id < 3"
    project.enrichment("notes", select, config=config(project))
    project.command("run", exits=4)
    assert statuses(project) == {"done": 2, "failed": 1}
    assert project.rows("select id, kind from notes.notes__errors") == [(1, "refusal")]
    assert len(emulator.account()["paid"]) == 5
    assert set(emulator.account()["paid"].values()) == {1}
    assert [row[1] for row in project.rows("show tables in notes")] == ["notes", "notes__errors"]


@pytest.mark.parametrize("project", [("sail", "parquet")], indirect=True, ids="-".join)
def test_more_rows_than_partition_rows_stay_in_spark(
    project: SparkProject, emulator: RunningEmulator, ledgers: LedgerServer
) -> None:
    """The command has its partitions do the work, and says of it what it says of one machine's.

    Where they cannot reach the state, it refuses before anything is sent.
    """
    alone = {**azure(emulator.url, emulator.api_key), "partition_rows": 3}
    project.configure(alone)
    project.enrichment("notes", NOTES, config=config(project))
    output = project.command("run", exits=1)
    assert "model 'notes' has more new rows than partition_rows" in output
    assert "share the state" in output
    assert emulator.account()["paid"] == {}
    keys = ledgers.new()
    project.configure(
        {
            **alone,
            "state": {
                "ledger": keys.ledger.get_secret_value(),
                "ledger_schema": keys.ledger_schema,
                "files": keys.files,
            },
        }
    )
    plan = project.command("plan")
    assert [line.split()[:2] for line in plan.splitlines() if "notes" in line][:1] == [
        ["notes", "4"]
    ]
    emulator.rules([{"match": "note 2", "refusal": "no"}])
    output = project.command("run", exits=4)
    assert "notes: 0 done, 4 pending; 0 reused, 4 sent" in output
    assert "notes: 3 done, 1 failed (refusal 1); 3 reused, 0 sent" in output
    assert "1 of 4 answered rows failed, a larger share than warn_failed_share" in output
    assert statuses(project) == {"done": 3, "failed": 1}
    assert project.rows("select id, kind from notes.notes__errors") == [(2, "refusal")]
    # Beside those rows new ones are due, more than partition_rows; one of them is done by another.
    select = "select id, concat('note ', id % 7) as note from range(12)"
    project.enrichment("notes", select, config=config(project))
    output = project.command("run", exits=4)
    assert "; 3 more are done" in output
    assert statuses(project) == {"done": 10, "failed": 2}
    assert set(emulator.account()["custom_ids"].values()) == {1}
    assert len(emulator.account()["custom_ids"]) == 7
