"""Runners of one shared state, each in a process of its own, that may freeze at a step."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from dbt_enrich.buckets import bucket
from dbt_enrich.state import leases
from dbt_enrich.state.postgres_connection import PostgresConnection
from dbt_enrich.task.options import Mode

from support.dbt_project import DbtProject, azure
from support.forked_dbt import fork_server, kill_at
from support.waiting import wait_until
from support.warehouse import Warehouse, config_for

_SECONDS = 200.0
_PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class Work:
    """What a runner does.

    Attributes:
        url: The service's address.
        key: Its key.
        state_dir: The runner's own directory.
        state: The keys of the shared state.
        lease: Seconds that a lease lasts.
        freeze: `<step>:before` or `<step>:after`, where it is stopped; empty for nowhere.
        select: The rows that it enriches.
        mode: `run`, or `submit` until all of them are done.
        by: What it sends itself there: SIGSTOP, or SIGKILL.
        environment: What its environment has beside the tests' own.
        by_dbt: Whether a Python model of dbt enriches them, in the mode `run`.
        patience: Seconds for which it waits for a ledger that is away, and for a bucket about; None
            for the usual ones.
        settings: Other keys of its profile.
    """

    url: str
    key: str
    state_dir: Path
    state: dict[str, str]
    lease: float
    freeze: str
    select: str
    mode: Mode = Mode.RUN
    by: signal.Signals = signal.SIGSTOP
    environment: Mapping[str, str] = field(default_factory=dict)
    by_dbt: bool = False
    patience: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


class Runner:
    """A runner, which waits to begin.

    Args:
        work: What it does.
    """

    def __init__(self, work: Work) -> None:
        context = fork_server()
        self._ours, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(work, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def begin(self) -> None:
        """Have it begin, once it is ready."""
        assert self._ours.recv() == "ready"
        self._ours.send("go")

    def wait_until_frozen(self) -> None:
        """Wait until it has stopped itself."""
        process = psutil.Process(self.process.pid)
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, _SECONDS)

    def wait_until_killed(self) -> None:
        """Wait until it has killed itself."""
        self.process.join(_SECONDS)
        assert self.process.exitcode == -signal.SIGKILL, self.statuses()

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it, and its machine with it."""
        self.process.kill()
        self.process.join()

    def statuses(self) -> dict[str, int]:
        """Return how many of its rows have come to each status."""
        found = self.outcome()
        assert isinstance(found, dict), found
        return found

    def outcome(self) -> dict[str, int] | str:
        """Return how many of its rows have come to each status, or what it failed with."""
        assert self._ours.poll(_SECONDS), "it did not end"
        found: dict[str, int] | str = self._ours.recv()
        self.process.join(_SECONDS)
        return found


def _work(work: Work, connection: Connection) -> None:
    """Enrich the rows once a message comes; send what became of them."""
    leases.LEASE_SECONDS = work.lease  # type: ignore[misc]
    os.environ.update(work.environment)
    if work.freeze:
        kill_at(work.freeze, work.by)
    if work.patience is not None:
        _hurry(work.patience)
    try:
        enrich = _dbt_of(work) if work.by_dbt else _engine_of(work)
        connection.send("ready")
        connection.recv()
        connection.send(enrich())
    except Exception:  # noqa: BLE001 - said where the test reads it
        connection.send(traceback.format_exc())


def _hurry(patience: float) -> None:
    """Have this process give up what is away after so many seconds."""
    defaults = PostgresConnection.__init__.__kwdefaults__
    assert defaults
    defaults["patience"] = patience
    # As many tries as ever, with shorter pauses between them.
    bucket._PAUSES = (patience / 20, patience / 3)


def _engine_of(work: Work) -> Callable[[], dict[str, int]]:
    """Return what enriches the rows by the engine, as the materialization drives it."""
    settings = {"state": work.state, **work.settings}
    warehouse = Warehouse(config_for(work.url, work.key, work.state_dir, **settings))

    def enrich() -> dict[str, int]:
        warehouse.enrich(work.select, mode=work.mode)
        while work.mode == Mode.SUBMIT and warehouse.statuses().keys() != {"done"}:
            time.sleep(_PAUSE_SECONDS)
            warehouse.enrich(work.select, mode=work.mode)
        return warehouse.statuses()

    return enrich


_PYTHON_MODEL = """
def model(dbt, session):
    from dbt_enrich import EnrichmentTask, OutputColumn, enrich

    dbt.config(materialized="table")
    task = EnrichmentTask(
        model="gpt-4o-mini",
        system="Summarise the note.",
        user="{{note}}",
        outputs=[OutputColumn("summary", "varchar", description="What it says")],
    )
    return enrich(dbt, session, session.sql({select!r}), task, unique_key="id")
"""


def _dbt_of(work: Work) -> Callable[[], dict[str, int]]:
    """Return what enriches the rows by a Python model of a project that is this machine's."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    settings = {"state": work.state, **work.settings}
    project = DbtProject(work.state_dir, azure(work.url, work.key, **settings))
    project.write("models/enriched.py", _PYTHON_MODEL.format(select=work.select))
    places = ["--project-dir", str(project.directory), "--profiles-dir", str(project.directory)]

    def enrich() -> dict[str, int]:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            done = dbtRunner().invoke(["--quiet", "--no-static-parser", "run", *places])
        DuckDBConnectionManager.close_all_connections()
        if not done.success:
            raise RuntimeError(done.exception or [one.message for one in done.result])
        return dict(project.rows("select enrichment_status, count(*) from enriched group by all"))

    return enrich
