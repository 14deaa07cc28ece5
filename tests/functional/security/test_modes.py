"""Everything that runs leave is its owner's alone, whatever the umask."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator, running_emulator
from dbt_enrich.console.console import Console
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.workspace.database import Workspace
from support.dbt_project import DbtProject
from support.warehouse import Warehouse, config_for

NOTES = "select i as id, 'note ' || i as note from range(5) as numbers(i)"


@pytest.fixture
def open_umask() -> Iterator[None]:
    """The umask that takes nothing away from what a program asks for."""
    previous = os.umask(0)
    yield
    os.umask(previous)


@pytest.fixture
def emulator(tmp_path: Path, open_umask: None) -> Iterator[RunningEmulator]:
    """An emulator in this process."""
    with running_emulator(tmp_path / "emulator") as running:
        yield running


def too_open(root: Path) -> list[str]:
    """The files and directories below and with `root` whose mode lets others in."""
    wrong = []
    for directory, _, names in os.walk(root):
        for path in (Path(directory), *(Path(directory) / name for name in names)):
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode != (0o700 if path.is_dir() else 0o600):
                wrong.append(f"{path.relative_to(root)} {mode:o}")
    return wrong


@pytest.mark.parametrize("keep_files", [True, False])
def test_a_run_is_private(keep_files: bool, emulator: RunningEmulator, tmp_path: Path) -> None:
    """Ledger and its log, requests, responses, answers, locks, and the emulator's directory."""
    config = config_for(emulator.url, emulator.api_key, tmp_path / "state", keep_files=keep_files)
    warehouse = Warehouse(config)
    emulator.rules([{"match": "note 2", "fault": "duplicate"}])
    warehouse.enrich(NOTES)
    warehouse.restart()
    (tmp_path / "state" / "ledger.sqlite").rename(tmp_path / "lost.sqlite")
    warehouse.enrich(NOTES)
    assert too_open(tmp_path / "state") == []
    assert too_open(tmp_path / "emulator") == []


def test_a_waiting_run_is_private(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Its scratch directory, staged rows and open databases are there meanwhile."""
    seen: list[str] = []
    warehouse = Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state"))

    def look(line: str) -> None:
        seen.append(line)
        assert too_open(tmp_path / "state") == []
        assert too_open(tmp_path / "emulator") == []

    warehouse.restart(console=Console(look))
    warehouse.enrich(NOTES)
    assert any("at the service" in line for line in seen)


@pytest.mark.parametrize("moment", ["claimed:after", "exported:before", "downloaded:after"])
@pytest.mark.usefixtures("open_umask")
def test_a_killed_run_is_private(moment: str, tmp_path: Path) -> None:
    """The local emulator's process included, which goes on for a moment."""
    plugin: dict[str, Any] = {"provider": "local", "responder": "scripted", "keep_files": True}
    project = DbtProject(tmp_path, {**plugin, "poll_interval": 0.1})
    project.enrichment("notes_enriched", NOTES)
    project.killed("run", kill_at=moment)
    assert too_open(project.state_dir) == []
    project.dbt("run")
    assert too_open(project.state_dir) == []


@pytest.mark.usefixtures("open_umask")
def test_a_file_is_private_while_it_is_written(tmp_path: Path) -> None:
    """A write that breaks off leaves nothing, and one that goes on shows its file to nobody."""
    workspace = Workspace(tmp_path, memory_limit="160MB", threads=1)
    workspace.execute("create table modes (mode integer)")
    (tmp_path / ".a.parquet.writing").touch(mode=0o666)
    (tmp_path / ".a.parquet.writing").chmod(0o666)
    workspace.write_parquet("select 1 as a", tmp_path / "a.parquet")
    workspace.write_lines(["select 'x'"], tmp_path / "a.jsonl")
    workspace.write_lines(["select 'x'", "select 'y'"], tmp_path / "b.jsonl")
    assert (tmp_path / "b.jsonl").read_text() == "x\ny\n"
    with pytest.raises(Exception, match="broken"):
        workspace.write_parquet("select error('broken') as a", tmp_path / "b.parquet")
    workspace.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.jsonl",
        "a.parquet",
        "b.jsonl",
    ]
    assert [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()] == [0o600] * 3


@pytest.mark.usefixtures("open_umask")
def test_a_directory_that_was_open_is_closed(tmp_path: Path) -> None:
    """One that another program made, or that was copied, is made private again."""
    for name in ("requests", "responses", "answers", "runs", "local"):
        (tmp_path / "state" / name).mkdir(parents=True, mode=0o777)
    StateDirectory(tmp_path / "state").made()
    assert too_open(tmp_path / "state") == []
