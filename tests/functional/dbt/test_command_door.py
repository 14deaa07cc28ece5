"""dbt without our plugin: `dbt-enrich` does the paid work between two runs of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from batch_server.server import RunningEmulator
from support.dbt_project import COMMAND, DbtProject, azure

NOTES = "select i as id, 'note ' || i as note from range(4) as numbers(i)"


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path) -> DbtProject:
    """A project without models, whose target has no plugin."""
    return DbtProject(tmp_path, azure(emulator.url, emulator.api_key), door=COMMAND)


def statuses(project: DbtProject, table: str = "notes") -> dict[str, int]:
    """How many rows of a table have which status."""
    found = project.rows(f"select enrichment_status, count(*) from {table} group by 1 order by 1")
    return dict(found)


def test_dbt_alone_sends_nothing_and_the_command_does_it_all(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """A bare `dbt run` publishes what is known, before the command and after it."""
    project.enrichment("notes", NOTES)
    output = project.dbt("run")
    assert "notes: 4 rows are pending; `dbt-enrich run --select notes` sends and" in output
    assert statuses(project) == {"pending": 4}
    assert emulator.account()["paid"] == {}
    output = project.command("run")
    assert statuses(project) == {"done": 4}
    assert set(emulator.account()["paid"].values()) == {1}
    assert output.count("Running with dbt") == 2
    before = project.rows("from notes order by id")
    output = project.dbt("run")
    assert "pending" not in output
    assert project.rows("from notes order by id") == before
    assert project.rows("select count(*) from notes__errors") == [(0,)]
