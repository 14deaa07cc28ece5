"""Runs of two targets and the command line at the same time, on one state directory."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import duckdb
import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.shards import Step
from support.dbt_project import DbtProject, azure
from support.forked_dbt import Forked

ROWS = 300
NOTES = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path) -> DbtProject:
    """A project with the targets dev and prod, each with a warehouse of its own."""
    project = DbtProject(tmp_path, azure(emulator.url, emulator.api_key))
    project.enrichment("notes_enriched", NOTES)
    return project


def test_two_targets_and_the_command_pay_once(
    project: DbtProject, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Whoever comes second waits for the first one's batches; both tables are whole."""
    dev, prod = project.fork("run", "--target", "dev"), project.fork("run", "--target", "prod")
    command = Forked(
        "dbt-enrich",
        ["run", "--target", "dev", "--project-dir", str(project.directory)],
        log=tmp_path / "command.log",
        directory=tmp_path,
        environment={"DBT_PROFILES_DIR": str(project.directory)},
    )
    assert prod.wait(300) == 0, prod.output
    # dev's two hold one DuckDB file in turn: the one that finds it held says so and may be
    # started again.
    for running in (dev, command):
        assert running.wait(300) == 0 or "lock" in running.output, running.output
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


def test_a_process_that_stood_still_leaves_its_batches_to_the_one_that_took_them_over(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """It goes on as if nothing had happened, and its lock is gone as on a network file system."""
    emulator.pause()
    run = project.fork("run")
    ledger = project.state_dir / "ledger.sqlite"
    deadline = time.monotonic() + 60
    while not (ledger.exists() and is_submitted(ledger)):
        assert time.monotonic() < deadline, run.output
        time.sleep(0.05)
    assert run.process.pid is not None
    os.kill(run.process.pid, signal.SIGSTOP)
    for lock in (project.state_dir / "runs").glob("*/lock"):
        lock.unlink()
    emulator.resume()
    given = project.command("wait")
    with Ledger(ledger) as opened:
        events = opened.events.all()
        assert events[-1]["step"] == Step.STORED, given
        os.kill(run.process.pid, signal.SIGCONT)
        assert run.wait() == 0, run.output
        assert opened.events.all() == events
    assert project.rows("select enrichment_status, count(*) from notes_enriched group by 1") == [
        ("done", ROWS)
    ]
    assert set(emulator.account()["paid"].values()) == {1}


def is_submitted(path: Path) -> bool:
    """Whether the one batch is at the service."""
    with Ledger(path) as ledger:
        return [shard.step for shard in ledger.shards.all()] == [Step.SUBMITTED]
