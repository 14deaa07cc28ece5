"""The state directory: private, writable, and whose locks die with their process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from dbt_enrich.errors import LedgerError
from dbt_enrich.files import settle
from dbt_enrich.state.directory import StateDirectory


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    """The directory and what is settled in it are its owner's alone."""
    store = StateDirectory(tmp_path / "state").made()
    written = store.root / "x"
    written.write_text("x")
    settle(written, store.requests("a"))
    assert store.root.stat().st_mode & 0o777 == 0o700
    assert store.requests("a").stat().st_mode & 0o777 == 0o600


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in its place gives one sentence with the key to set."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot be written.*state_dir"):
        StateDirectory(tmp_path / "file" / "state").made()


def test_a_run_is_alive_until_it_is_released(tmp_path: Path) -> None:
    """Its lock says so, and a sweep leaves it alone until then."""
    store = StateDirectory(tmp_path).made()
    run = store.begin_run("run-a")
    assert store.is_alive("run-a")
    store.sweep_runs()
    assert run.path.exists()
    run.release()
    assert not store.is_alive("run-a")
    store.sweep_runs()
    assert not run.path.exists()
    assert not store.is_alive("run-a")


def test_a_killed_process_leaves_no_live_run(tmp_path: Path) -> None:
    """The kernel frees the lock of a process that was killed with SIGKILL."""
    script = (
        "import sys, time; from pathlib import Path; "
        "from dbt_enrich.state.directory import StateDirectory; "
        "run = StateDirectory(Path(sys.argv[1])).made().begin_run('run-b'); "
        "print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    store = StateDirectory(tmp_path).made()
    assert store.is_alive("run-b")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert not store.is_alive("run-b")
