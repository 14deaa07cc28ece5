"""Kill dbt at every step of the ledger while the service misbehaves.

The next run goes on, every row gets its answer, and no request is paid for twice. A few cases run
always; `make chaos` runs those in which each pair of a kill point, a fault and a mode occurs.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from chaos.cases import (
    FAULTS,
    REACHES,
    SPOILED,
    STEPS,
    Case,
    ServiceFault,
    each_once,
    pairwise,
)
from dbt_enrich.emulator.server import RunningEmulator
from dbt_enrich.ledger import Ledger, Step
from support.dbt_project import DbtProject, azure

ROWS = 7
NOTES = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"
# The scripted responder answers with the last message, which asks for a mended answer here.
REPAIRED = (
    "summary: Your answer does not fit: the answer is not one valid JSON object. Answer again with "
    "the complete JSON object, mended."
)
KILLER = Path(__file__).with_name("killed_dbt.py")
PYTHON_MODEL = """
from dbt_enrich import EnrichmentTask, OutputColumn, enrich

def model(dbt, session):
    dbt.config(materialized="table")
    task = EnrichmentTask(
        model="gpt-4o-mini", system="Summarise the note.", user="{note}",
        outputs=[OutputColumn(name="summary", data_type="varchar")],
    )
    return enrich(dbt, session, dbt.ref("notes"), task, unique_key="id")
"""


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path) -> DbtProject:
    """A project with one enrichment of seven rows, in two files."""
    told = azure(emulator.url, emulator.api_key, max_requests_per_file=4, timeout=3)
    project = DbtProject(tmp_path, told)
    project.enrichment("notes_enriched", NOTES)
    return project


def misbehave(case: Case, emulator: RunningEmulator) -> None:
    """Set the case's fault, once."""
    emulator.faults(*case.fault.faults)
    if case.fault.ending:
        emulator.endings({**case.fault.ending, "times": 1})
    if case.fault.rule:
        emulator.rules([{"match": SPOILED, "times": 1, **case.fault.rule}])


def assert_whole(
    project: DbtProject, emulator: RunningEmulator, fault: ServiceFault = FAULTS[0]
) -> None:
    """Every row has its own answer, and each request was paid for once, or as the fault says."""
    texts = {i: f"summary: note {i}" for i in range(ROWS)}
    if fault.repaired:
        texts[3] = REPAIRED
    assert project.rows(
        "select id, summary, enrichment_status from notes_enriched order by id"
    ) == [(i, text, "done") for i, text in texts.items()]
    paid = emulator.account()["paid"]
    keys = dict(project.rows("select note, enrichment_key from notes_enriched"))
    expected = dict.fromkeys(keys.values(), 1)
    if fault.repaid:
        expected[keys[SPOILED]] = 2
    assert paid == expected


def kill(project: DbtProject, moment: str, mode: str = "run") -> None:
    """Run dbt until it kills itself at a moment."""
    variables = ["--vars", f"enrichment_mode: {mode}"] if mode != "run" else []
    process = project.start(
        "run", *variables, command=[sys.executable, str(KILLER)], KILL_AT=moment
    )
    output, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, output


def try_case(case: Case, project: DbtProject, emulator: RunningEmulator) -> None:
    """Kill a run of the case's mode, and run again to the end."""
    mode = case.mode
    if mode == "python":
        project.write("models/notes.sql", NOTES)
        project.write("models/notes_enriched.py", PYTHON_MODEL)
        (project.directory / "models/notes_enriched.sql").unlink()
        (project.directory / "models/notes_enriched.yml").unlink()
        mode = "run"
    misbehave(case, emulator)
    if mode == "collect":
        project.dbt("run", "--vars", "enrichment_mode: submit")
        emulator.settle()
    kill(project, f"{case.step}:{case.moment}", mode)
    project.dbt("run")
    assert_whole(project, emulator, case.fault)


@pytest.mark.parametrize("case", each_once(), ids=str)
def test_the_next_run_goes_on(case: Case, project: DbtProject, emulator: RunningEmulator) -> None:
    """Killed before or after any step is written, whatever else goes wrong."""
    try_case(case, project, emulator)


@pytest.mark.matrix
@pytest.mark.parametrize("case", pairwise(), ids=str)
def test_every_pair(case: Case, project: DbtProject, emulator: RunningEmulator) -> None:
    """Of a kill point, a fault and a mode."""
    try_case(case, project, emulator)


def test_the_cases_leave_nothing_out() -> None:
    """Neither a step, nor a fault, nor a mode; and the pairs are all there."""
    few = each_once()
    assert {case.step for case in few} == set(STEPS)
    assert {case.fault.name for case in few} == {fault.name for fault in FAULTS}
    assert {case.mode for case in few} == set(REACHES)
    pairs = set().union(*(case.pairs for case in pairwise()))
    for step in STEPS:
        for moment in ("before", "after"):
            assert all(((step, moment), fault.name) in pairs for fault in FAULTS)


def test_a_clean_run_takes_every_step(project: DbtProject, emulator: RunningEmulator) -> None:
    """The list of kill points is the list of steps: a new step cannot be forgotten."""
    project.dbt("run")
    with Ledger(project.state_dir / "ledger.sqlite") as ledger:
        assert {event["step"] for event in ledger.events()} == set(STEPS)
    assert_whole(project, emulator)


@pytest.mark.parametrize("step", [Step.SUBMITTED, Step.ENDED])
def test_killed_and_the_state_directory_lost(
    step: Step, project: DbtProject, emulator: RunningEmulator
) -> None:
    """A fresh container finds the batches by listing and collects them."""
    kill(project, f"{step}:before")
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
