"""dbt and the commands of two machines that have one state and no disk in common."""

from __future__ import annotations

import shutil
from pathlib import Path

from batch_server.server import RunningEmulator
from support.dbt_project import DbtProject, azure
from support.forked_dbt import EARLY, Forked
from support.shared_ledger import LedgerServer, document

_SELECT = "select i as id, 'note ' || i as note from range(4) as numbers(i)"


def project(directory: Path, emulator: RunningEmulator, state: dict[str, str]) -> DbtProject:
    """Write a project with one model, as each machine checks it out."""
    made = DbtProject(directory, azure(emulator.url, emulator.api_key, state=state))
    made.enrichment("enriched", _SELECT)
    return made


def test_what_one_machine_sent_another_one_collects(
    emulator: RunningEmulator, ledgers: LedgerServer, tmp_path: Path
) -> None:
    """The first is gone after it submitted; the second has table, costs and commands of both."""
    state = document(ledgers.new())
    first = project(tmp_path / "first", emulator, state)
    first.dbt("run", "--vars", "{enrichment_mode: submit}")
    shutil.rmtree(tmp_path / "first")
    second = project(tmp_path / "second", emulator, state)
    assert "enriched" in second.command("status")
    second.dbt("run")
    assert second.rows("select enrichment_status, count(*) from enriched group by all") == [
        ("done", 4)
    ]
    assert set(emulator.account()["paid"].values()) == {1}
    assert len(emulator.jobs.batches()) == 1
    assert second.rows("select count(*) from enrichment.batches") == [(1,)]
    found = second.command("doctor")
    assert f"schema {state['ledger_schema']}" in found
    assert not (second.state_dir / "ledger.sqlite").exists()


def test_jobs_without_a_volume_run_at_once(
    emulator: RunningEmulator, ledgers: LedgerServer, tmp_path: Path
) -> None:
    """The scheduled command in directories that were made a moment ago: two together, then one."""
    state = document(ledgers.new())

    def job(name: str) -> tuple[DbtProject, Forked]:
        made = project(tmp_path / name, emulator, state)
        # The bucket's client has threads by the time that the command runs dbt.
        environment = {EARLY: "1", "DBT_PROFILES_DIR": str(made.directory)}
        words, log = ["run", "--timeout", "250"], tmp_path / f"{name}.log"
        return made, Forked(
            "dbt-enrich", words, log=log, directory=made.directory, environment=environment
        )

    def ended(made: DbtProject, running: Forked) -> None:
        assert running.wait(270) == 0, running.output
        assert made.rows("select count(*) from enriched where enrichment_status = 'done'") == [(4,)]

    for jobs in ((job("one"), job("two")), (job("three"),)):
        for made, running in jobs:
            ended(made, running)
    assert set(emulator.account()["paid"].values()) == {1}
