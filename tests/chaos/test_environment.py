"""What surrounds a run and fails: disk, directory, locked files, damaged ledger, a wrong clock.

Each is one clear sentence; nothing is damaged, and the next run goes on.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from dbt_enrich.emulator.server import RunningEmulator
from dbt_enrich.ledger import Ledger
from dbt_enrich.pipeline import enrichment as enrichment_module
from support.dbt_project import DbtProject, azure
from support.warehouse import Warehouse, config_for

ROWS = 3_000
NOTES = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"
LIMITED = Path(__file__).with_name("limited_dbt.py")


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path) -> DbtProject:
    """A project with one enrichment."""
    project = DbtProject(tmp_path, azure(emulator.url, emulator.api_key))
    project.enrichment("notes_enriched", NOTES)
    return project


def assert_paid_once(project: DbtProject, emulator: RunningEmulator) -> None:
    """Every row is done, and each request was answered once."""
    assert project.rows("select enrichment_status, count(*) from notes_enriched group by 1") == [
        ("done", ROWS)
    ]
    paid = emulator.account()["paid"]
    assert len(paid) == ROWS
    assert set(paid.values()) == {1}


def failed_once(output: str, *words: str) -> None:
    """A run's output has one sentence with the words, and no traceback."""
    text = " ".join(output.split())
    for word in words:
        assert word in text, output
    assert "Traceback" not in output


@pytest.mark.parametrize("largest", [100_000, 400_000])
def test_a_full_disk(largest: int, project: DbtProject, emulator: RunningEmulator) -> None:
    """While requests are written, or when answers come."""
    process = project.start(
        "run", command=[sys.executable, str(LIMITED)], LARGEST_FILE=str(largest)
    )
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0, output
    failed_once(output, "make room on the disk")
    project.dbt("run")
    assert_paid_once(project, emulator)


def test_a_state_directory_that_is_a_file(project: DbtProject, emulator: RunningEmulator) -> None:
    """As nothing can be written into it, nothing is sent."""
    project.state_dir.write_text("not a directory")
    output = project.dbt("run", succeeds=False)
    failed_once(output, "the state directory", "cannot be written", "set state_dir")
    assert emulator.account()["calls"] == []


def test_a_damaged_ledger(project: DbtProject, emulator: RunningEmulator) -> None:
    """It is not touched; moved away, the batches and the table make it good."""
    project.dbt("run")
    ledger = project.state_dir / "ledger.sqlite"
    for path in project.state_dir.glob("ledger.sqlite-*"):
        path.unlink()
    ledger.write_bytes(b"garbage" * 1000)
    failed_once(project.dbt("run", succeeds=False), "ledger.sqlite cannot be opened", "move it")
    assert ledger.read_bytes() == b"garbage" * 1000
    ledger.rename(ledger.with_name("damaged"))
    project.dbt("run")
    assert_paid_once(project, emulator)


def test_a_warehouse_that_another_process_holds(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """The run says so, before anything is sent."""
    with duckdb.connect(str(project.warehouse)):
        output = project.dbt("run", succeeds=False)
    assert "lock" in output.lower()
    assert emulator.account()["calls"] == []
    project.dbt("run")
    assert_paid_once(project, emulator)


@pytest.mark.parametrize("hours", [-48, 48])
def test_a_clock_that_jumps(
    hours: int, emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a submission and its collection, in the ledger or at the service."""
    config = config_for(emulator.url, emulator.api_key, tmp_path / "state")
    notes = "select i as id, 'note ' || i as note from range(5) as numbers(i)"
    warehouse = Warehouse(config)
    emulator.pause()
    warehouse.enrich(notes, mode="submit")
    jump = timedelta(hours=hours)
    monkeypatch.setattr(
        enrichment_module,
        "Ledger",
        lambda path: Ledger(path, clock=lambda: datetime.now(UTC) + jump),
    )
    emulator.advance(jump.total_seconds())
    emulator.resume()
    warehouse.restart()
    warehouse.enrich(notes)
    assert warehouse.statuses() == {"done": 5}
    assert set(emulator.account()["paid"].values()) == {1}
