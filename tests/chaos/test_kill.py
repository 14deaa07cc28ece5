"""Kill dbt at every step of the ledger: the next run goes on, and no request is paid for twice."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from dbt_enrich.emulator.server import RunningEmulator
from dbt_enrich.ledger import Ledger, Step
from support.dbt_project import DbtProject

ROWS = 7
# A run in which nothing goes wrong takes every step but this one.
STEPS = [step for step in Step if step != Step.RELEASED]
KILLER = Path(__file__).with_name("killed_dbt.py")


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path) -> DbtProject:
    """A project with one enrichment of seven rows, in two files."""
    project = DbtProject(
        tmp_path,
        {
            "provider": "azure",
            "endpoint": emulator.url,
            "api_key": emulator.api_key,
            "poll_interval": 0.1,
            "adoption_grace": 0,
            "max_requests_per_file": 4,
        },
    )
    project.enrichment(
        "notes_enriched", f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"
    )
    return project


def assert_whole(project: DbtProject, emulator: RunningEmulator) -> None:
    """Every row has its own answer, and every request was answered and paid for once."""
    assert project.rows(
        "select id, summary, enrichment_status from notes_enriched order by id"
    ) == [(i, f"summary: note {i}", "done") for i in range(ROWS)]
    keys = emulator.account()["request_keys"]
    assert len(keys) == ROWS
    assert set(keys.values()) == {1}


def kill(project: DbtProject, moment: str) -> None:
    """Run dbt until it kills itself at a moment."""
    process = project.start("run", command=[sys.executable, str(KILLER)], KILL_AT=moment)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, output


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_the_next_run_goes_on(
    step: Step, moment: str, project: DbtProject, emulator: RunningEmulator
) -> None:
    """Killed before or after any step is written, the run is gone on with and pays once."""
    kill(project, f"{step}:{moment}")
    project.dbt("run")
    assert_whole(project, emulator)


def test_a_clean_run_takes_every_step(project: DbtProject, emulator: RunningEmulator) -> None:
    """The list of kill points is the list of steps: a new step cannot be forgotten."""
    project.dbt("run")
    with Ledger(project.state_dir / "ledger.sqlite") as ledger:
        assert {event["step"] for event in ledger.events()} == set(STEPS)
    assert_whole(project, emulator)


def test_killed_and_the_state_directory_lost(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """A fresh container finds the batch by listing and collects it."""
    kill(project, f"{Step.SUBMITTED}:before")
    project.state_dir.rename(project.state_dir.with_name("lost"))
    emulator.settle()
    project.dbt("run")
    assert_whole(project, emulator)


def test_a_lost_reply_to_the_creation_of_a_batch(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """The service acted and the connection broke: the batch is found, not created again."""
    emulator.faults({"name": "lost_reply", "operation": "POST /batches", "call": 1})
    project.dbt("run")
    assert_whole(project, emulator)
    created = [
        call
        for call in emulator.account()["calls"]
        if call["method"] == "POST" and call["path"] == "/batches"
    ]
    assert len(created) == 2


@pytest.mark.parametrize(
    "fault",
    [
        {"name": "reset", "operation": "POST /files"},
        {"name": "lost_reply", "operation": "POST /files"},
        {"name": "status", "operation": "POST /batches", "status": 429, "retry_after": "0"},
        {"name": "status", "operation": "GET /batches/", "status": 503, "times": 2},
        {"name": "reset", "operation": "GET /batches/", "times": 2},
        {"name": "truncated", "operation": "GET /files/file-", "call": 3},
        {"name": "truncated", "operation": "GET /files/file-", "call": 4},
        {"name": "slow", "operation": "GET /files/file-", "times": None, "delay": 0.01},
    ],
    ids=lambda fault: f"{fault['name']} {fault['operation']}",
)
def test_a_bad_connection(
    fault: dict[str, object], project: DbtProject, emulator: RunningEmulator
) -> None:
    """Whatever breaks on the way, the run ends with every row answered once."""
    emulator.faults(fault)
    project.dbt("run")
    assert_whole(project, emulator)


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_a_batch_that_ends_early_keeps_what_it_answered(
    status: str, project: DbtProject, emulator: RunningEmulator
) -> None:
    """The rows that it left are asked again, the others are not paid for twice."""
    emulator.endings(after=2, status=status)
    process = project.start("run")
    while len(emulator.jobs.batches()) < 2 and process.poll() is None:
        pass
    emulator.endings()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert_whole(project, emulator)
    kinds = project.rows("select distinct kind from notes_enriched__errors")
    assert kinds == [(status,)]
