"""Runners of one shared state, each in a process of its own, that may freeze at a step."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
from dbt_enrich.state import leases
from dbt_enrich.task.options import Mode

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
        assert self._ours.poll(_SECONDS), "it did not end"
        found = self._ours.recv()
        self.process.join(_SECONDS)
        assert isinstance(found, dict), found
        return found


def _work(work: Work, connection: Connection) -> None:
    """Enrich the rows once a message comes; send what became of them."""
    leases.LEASE_SECONDS = work.lease  # type: ignore[misc]
    os.environ.update(work.environment)
    if work.freeze:
        kill_at(work.freeze, work.by)
    try:
        warehouse = Warehouse(config_for(work.url, work.key, work.state_dir, state=work.state))
        connection.send("ready")
        connection.recv()
        warehouse.enrich(work.select, mode=work.mode)
        while work.mode == Mode.SUBMIT and warehouse.statuses().keys() != {"done"}:
            time.sleep(_PAUSE_SECONDS)
            warehouse.enrich(work.select, mode=work.mode)
        connection.send(warehouse.statuses())
    except Exception:  # noqa: BLE001 - said where the test reads it
        connection.send(traceback.format_exc())
