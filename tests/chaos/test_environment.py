"""What surrounds a run and fails: disk, directory, locked files, damaged ledger, a wrong clock.

Each is one clear sentence; nothing is damaged, and the next run goes on.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.errors import LedgerError
from dbt_enrich.state.ledger import Ledger
from support.clock import HastyClock
from support.dbt_project import DbtProject, azure
from support.warehouse import Warehouse, config_for

ROWS = 3_000
# Long enough that the staged rows take more of the disk than the ledger does.
NOTES = f"select i as id, 'note ' || i || repeat('.', 60) as note from range({ROWS}) as numbers(i)"


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


@pytest.mark.parametrize(
    ("largest", "what"),
    [
        (200_000, "the staged rows cannot be written to"),
        (400_000, "jsonl.writing"),
        (1_700_000, "output.jsonl"),
    ],
)
def test_a_full_disk(
    largest: int, what: str, project: DbtProject, emulator: RunningEmulator
) -> None:
    """When rows are staged, requests are written, or answers come."""
    output = project.dbt("run", succeeds=False, largest_file=largest)
    failed_once(output, what)
    assert re.search("make room|disk has room", " ".join(output.split())), output
    project.dbt("run")
    assert_paid_once(project, emulator)


def test_a_state_directory_that_is_a_file(project: DbtProject, emulator: RunningEmulator) -> None:
    """As nothing can be written into it, nothing is sent."""
    project.state_dir.write_text("not a directory")
    output = project.dbt("run", succeeds=False)
    failed_once(output, "the state directory", "cannot be written", "set state_dir")
    assert emulator.account()["calls"] == []


def test_a_state_directory_in_which_nobody_may_write(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """Not even root makes a directory in sysfs; nothing is sent, and a good one goes on."""
    project.configure(azure(emulator.url, emulator.api_key) | {"state_dir": "/sys/dbt-enrich"})
    output = project.dbt("run", succeeds=False)
    failed_once(output, "the state directory", "cannot be written", "set state_dir")
    assert emulator.account()["calls"] == []
    project.configure(azure(emulator.url, emulator.api_key))
    project.dbt("run")
    assert_paid_once(project, emulator)


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


@pytest.mark.parametrize("cut", [0.0, 0.5])
def test_a_ledger_that_was_cut_short(
    cut: float, project: DbtProject, emulator: RunningEmulator
) -> None:
    """An empty file is a new ledger; half a file is named, and moved away it is a new one too."""
    project.dbt("run", "--vars", "enrichment_mode: submit")
    emulator.settle()
    ledger = project.state_dir / "ledger.sqlite"
    os.truncate(ledger, int(ledger.stat().st_size * cut))
    for path in project.state_dir.glob("ledger.sqlite-*"):
        path.unlink()
    if cut:
        output = project.dbt("run", succeeds=False)
        failed_once(output, "ledger.sqlite cannot be opened", "move it")
        ledger.unlink()
    project.dbt("run")
    assert_paid_once(project, emulator)


def test_a_ledger_whose_index_hides_answers(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Damage that SQLite reads over is found before rows are asked again."""
    warehouse = Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state"))
    notes = "select i as id, 'note ' || i as note from range(5) as numbers(i)"
    warehouse.enrich(notes)
    path = tmp_path / "state/ledger.sqlite"
    with without_index(path, "answers_by_task"), closing(sqlite3.connect(path)) as ledger, ledger:
        ledger.execute("update answers set rowid = rowid + 100")
    warehouse.restart()
    with pytest.raises(LedgerError, match="missing from index.*move it away"):
        warehouse.enrich(notes)
    assert set(emulator.account()["paid"].values()) == {1}


@contextmanager
def without_index(path: Path, name: str) -> Iterator[None]:
    """Have SQLite forget an index for the block, so that it lacks what changes meanwhile."""
    with closing(sqlite3.connect(path, isolation_level=None)) as ledger:
        find = "from sqlite_schema where name = ?"
        (entry,) = ledger.execute(f"select * {find}", (name,)).fetchall()
        ledger.execute("pragma writable_schema = on")
        ledger.execute(f"delete {find}", (name,))
    yield
    with closing(sqlite3.connect(path, isolation_level=None)) as ledger:
        ledger.execute("pragma writable_schema = on")
        ledger.execute("insert into sqlite_schema values (?, ?, ?, ?, ?)", entry)


def test_a_ledger_on_a_full_disk(tmp_path: Path) -> None:
    """SQLite takes the step back by itself; the error says that there is no room."""
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        pages = ledger._connection.value("pragma page_count")
        ledger._connection.read(f"pragma max_page_count = {pages + 2}")
        with pytest.raises(LedgerError, match="disk is full.*check that the disk has room"):
            for number in range(1000):
                ledger.answers.add(f"answers-{number}", task_key="t" * 64, answers=1)
        assert ledger.answers.count() > 0


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
def test_a_clock_that_jumps(hours: int, emulator: RunningEmulator, tmp_path: Path) -> None:
    """Between a submission and its collection, in the ledger or at the service."""
    config = config_for(emulator.url, emulator.api_key, tmp_path / "state")
    notes = "select i as id, 'note ' || i as note from range(5) as numbers(i)"
    clock = HastyClock()
    warehouse = Warehouse(config, clock=clock)
    emulator.pause()
    warehouse.enrich(notes, mode="submit")
    clock.jump(hours * 3600)
    emulator.advance(hours * 3600)
    emulator.resume()
    warehouse.restart()
    warehouse.enrich(notes)
    assert warehouse.statuses() == {"done": 5}
    assert set(emulator.account()["paid"].values()) == {1}
