"""Runs of two targets and the command line at the same time, on one state directory."""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb
import pytest
from batch_server.server import RunningEmulator
from support.dbt_project import DbtProject, azure

ROWS = 300
NOTES = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"
ENRICH = [str(Path(sys.executable).with_name("dbt-enrich"))]


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path) -> DbtProject:
    """A project with the targets dev and prod, each with a warehouse of its own."""
    project = DbtProject(tmp_path, azure(emulator.url, emulator.api_key))
    project.enrichment("notes_enriched", NOTES)
    return project


def test_two_targets_and_the_command_pay_once(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """Whoever comes second waits for the first one's batches; both tables are whole."""
    running = [
        project.start("run", "--target", "dev"),
        project.start("run", "--target", "prod"),
        project.start("run", "--target", "dev", command=ENRICH),
    ]
    told = [process.communicate(timeout=300)[0] for process in running]
    assert running[1].returncode == 0, told[1]
    # dev's two hold one DuckDB file in turn: the one that finds it held says so and may be
    # started again.
    for process, output in zip(running, told, strict=True):
        assert process.returncode == 0 or "lock" in output, output
    project.dbt("run", "--target", "dev")
    project.dbt("run", "--target", "prod")
    for path in (project.warehouse, project.warehouse.with_name("prod.duckdb")):
        with duckdb.connect(str(path), read_only=True) as warehouse:
            assert warehouse.execute(
                "select enrichment_status, count(*) from notes_enriched group by 1"
            ).fetchall() == [("done", ROWS)]
    paid = emulator.account()["paid"]
    assert len(paid) == ROWS
    assert set(paid.values()) == {1}
