"""Claiming: the ledger is held for its own rows alone, and each request is claimed once."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.errors import CancelledError
from dbt_enrich.pipeline.export.in_flight import abandoned_shards
from dbt_enrich.state.run import Run
from dbt_enrich.state.shards import Shard
from dbt_enrich.workspace.database import Workspace
from support.waiting import wait_until
from support.warehouse import Warehouse, config_for

ROWS = 6
_SECONDS = 60.0


def notes(rows: int = ROWS) -> str:
    """The first notes."""
    return f"select i as id, 'note ' || i as note from range({rows}) as numbers(i)"


@pytest.fixture
def warehouses(emulator: RunningEmulator, tmp_path: Path) -> tuple[Warehouse, Warehouse]:
    """Two warehouses with one state directory."""
    config = config_for(emulator.url, emulator.api_key, tmp_path / "state")
    return Warehouse(config), Warehouse(config)


def assert_paid_once(emulator: RunningEmulator) -> None:
    """Each row was paid for once."""
    paid = emulator.account()["paid"]
    assert len(paid) == ROWS
    assert set(paid.values()) == {1}


class PausedClaim:
    """A run in a thread that stops as it has written the manifest of what it is about to claim.

    Args:
        warehouse: What it enriches.
        monkeypatch: Undoes the stopping.
    """

    def __init__(self, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
        self.manifests: list[Path] = []
        self._stopped, self._goes_on = threading.Event(), threading.Event()
        write = Workspace.write_parquet

        def stopping(workspace: Workspace, query: str, path: Path, **options: Any) -> None:
            write(workspace, query, path, **options)
            if threading.current_thread() is self._thread and path.parent.name == "requests":
                self.manifests.append(path)
                self._stopped.set()
                assert self._goes_on.wait(_SECONDS)

        monkeypatch.setattr(Workspace, "write_parquet", stopping)
        self._thread = threading.Thread(target=warehouse.enrich, args=(notes(),))
        self._thread.start()
        assert self._stopped.wait(_SECONDS), warehouse.log

    def go_on(self) -> None:
        """Let it go on, and wait for its end."""
        self._goes_on.set()
        self._thread.join(_SECONDS)
        assert not self._thread.is_alive()


def test_others_write_while_a_claim_writes_its_files(
    warehouses: tuple[Warehouse, Warehouse], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Choosing, cutting and writing may take minutes; the ledger is free meanwhile."""
    warehouse, _ = warehouses
    written = []
    write = Workspace.write_parquet

    def watched(workspace: Workspace, query: str, path: Path, **options: Any) -> None:
        write(workspace, query, path, **options)
        ledger = warehouse.config.state_dir / "ledger.sqlite"
        with sqlite3.connect(ledger, timeout=0, isolation_level=None) as other:
            other.execute("begin immediate")
            other.execute("rollback")
        written.append(path.name.split("-")[0])

    monkeypatch.setattr(Workspace, "write_parquet", watched)
    warehouse.enrich(notes(), max_requests=100)
    assert warehouse.statuses() == {"done": ROWS}
    assert written.count("chosen") > 0
    assert written.count("requests") > 0


def test_new_rows_are_chosen_once_a_round(
    warehouses: tuple[Warehouse, Warehouse], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the engine has chosen is what is estimated and claimed, as nothing has changed since."""
    warehouse, _ = warehouses
    written = []
    write = Workspace.write_parquet

    def counted(workspace: Workspace, query: str, path: Path, **options: Any) -> None:
        write(workspace, query, path, **options)
        written.append(path.name.split("-")[0])

    monkeypatch.setattr(Workspace, "write_parquet", counted)
    warehouse.enrich(notes(), mode="submit", max_requests=100)
    assert written.count("chosen") == 1


@pytest.mark.parametrize("answered", [True, False])
def test_what_another_run_has_sent_meanwhile_is_not_claimed(
    answered: bool,
    warehouses: tuple[Warehouse, Warehouse],
    emulator: RunningEmulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was new when it was chosen, and is in flight or answered when it is to be claimed."""
    first, second = warehouses
    run = PausedClaim(first, monkeypatch)
    if not answered:
        emulator.pause()
    second.enrich(notes(), mode="run" if answered else "submit")
    emulator.resume()
    run.go_on()
    assert first.statuses() == {"done": ROWS}
    assert_paid_once(emulator)
    assert len(emulator.jobs.batches()) == 1
    assert not any(path.exists() for path in run.manifests)


def test_what_a_run_lets_go_that_dies_meanwhile_is_asked(
    warehouses: tuple[Warehouse, Warehouse],
    emulator: RunningEmulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was in flight when the new rows were chosen, and nobody's when they were claimed."""
    dying, other = warehouses
    emulator.faults({"name": "status", "operation": "POST /batches", "status": 429, "times": None})

    def enrich() -> None:
        with pytest.raises(CancelledError):
            dying.enrich(notes())

    thread = threading.Thread(target=enrich)
    thread.start()
    wait_until(lambda: any("trying again" in line for line in dying.log))

    def dead(run: Run) -> list[Shard]:
        dying.engine.cancelled.set()
        thread.join(_SECONDS)
        emulator.faults()
        return abandoned_shards(run)

    monkeypatch.setattr("dbt_enrich.pipeline.export.claim.abandoned_shards", dead)
    other.enrich(notes())
    assert other.statuses() == {"done": ROWS}, other.log
    assert_paid_once(emulator)


def test_a_file_that_has_become_too_large_is_cut_anew(
    warehouses: tuple[Warehouse, Warehouse], emulator: RunningEmulator
) -> None:
    """One that waited for a quota is sent as it is, unless the service takes no such file now."""
    warehouse, _ = warehouses
    refusal = {"status": 400, "code": "token_limit_exceeded", "message": "No room now."}
    emulator.faults({"name": "status", "operation": "POST /batches", **refusal})
    warehouse.enrich(notes(), mode="submit")
    assert emulator.jobs.batches() == []
    size = max(file["bytes"] for file in emulator.jobs.files.all())
    warehouse.restart(warehouse.config.model_copy(update={"max_bytes_per_file": size // 2}))
    warehouse.enrich(notes())
    assert warehouse.statuses() == {"done": ROWS}
    assert_paid_once(emulator)
    assert len(emulator.jobs.batches()) > 1


def test_the_rest_of_what_was_chosen_is_claimed(
    warehouses: tuple[Warehouse, Warehouse],
    emulator: RunningEmulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where another run has sent a part of it."""
    first, second = warehouses
    run = PausedClaim(first, monkeypatch)
    second.enrich(notes(ROWS // 2), mode="submit")
    run.go_on()
    assert first.statuses() == {"done": ROWS}
    assert_paid_once(emulator)
    assert len(emulator.jobs.batches()) == 2
