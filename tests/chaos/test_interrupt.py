"""Ctrl-C under a waiting dbt: it ends at once, its batches go on, and the next run collects."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest
from batch_server.server import RunningEmulator
from support.bench import FILES, Bench
from support.forked_dbt import ForkedDbt

# dbt itself gives its threads two seconds; the rest is for a busy machine.
END_SECONDS = 20.0
PATIENCE_SECONDS = 60.0


def wait_for(dbt: ForkedDbt, happens: Callable[[], bool], what: str) -> None:
    """Wait until something happens at the service."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happens():
        assert dbt.process.is_alive(), dbt.output
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def press(dbt: ForkedDbt) -> None:
    """Press Ctrl-C."""
    assert dbt.process.pid is not None
    os.kill(dbt.process.pid, signal.SIGINT)


def interrupt(bench: Bench, table: str, *, while_it_looks: bool = False) -> str:
    """Interrupt a dbt that waits for its batches; return what it printed.

    Args:
        bench: The project and the service.
        table: The model.
        while_it_looks: Whether the interrupt comes while no reply to a look at a batch does.
    """

    def has_all_batches() -> bool:
        return len(bench.emulator.jobs.batches()) >= FILES

    def is_looked_at() -> bool:
        calls = bench.emulator.account()["under_way"]
        return any(call["path"].startswith("/batches/") for call in calls)

    dbt = bench.project.fork("run", "--select", table)
    if while_it_looks:
        wait_for(dbt, is_looked_at, "dbt has not looked at a batch")
    else:
        wait_for(dbt, has_all_batches, "dbt has not submitted its batches")
    press(dbt)
    dbt.process.join(END_SECONDS)
    if dbt.process.is_alive():
        # Python notes a signal and may go to sleep all the same, if it comes just then: now and
        # then, on a busy machine, a Ctrl-C is lost, and people press it once more.
        press(dbt)
    code = dbt.wait(END_SECONDS)
    assert code not in (0, -signal.SIGKILL), dbt.output
    return " ".join(dbt.output.split())


def assert_told_and_collected(output: str, bench: Bench, table: str) -> None:
    """The message says how to collect; the batches go on; the next run sends nothing again."""
    assert "what was submitted goes on at the service" in output
    assert "enrichment_mode: collect" in output
    open_states = {"validating", "in_progress"}
    assert {batch["status"] for batch in bench.emulator.jobs.batches()} <= open_states
    bench.emulator.faults()
    bench.emulator.resume()
    bench.emulator.settle()
    bench.project.dbt("run", "--select", table)
    bench.assert_whole(table)
    assert bench.creations() == FILES


@pytest.fixture
def paused(bench: Bench) -> RunningEmulator:
    """A service that takes batches and answers nothing."""
    bench.emulator.pause()
    return bench.emulator


@pytest.mark.parametrize(
    ("table", "poll_interval"), [("from_sql", 0.1), ("from_sql", 60.0), ("from_python", 60.0)]
)
def test_the_next_run_collects(
    table: str, poll_interval: float, bench: Bench, paused: RunningEmulator
) -> None:
    """However long the pause between two looks is, from SQL and from Python."""
    with bench.configured(poll_interval=poll_interval):
        output = interrupt(bench, table)
    assert_told_and_collected(output, bench, table)


def test_while_the_service_is_out_of_reach(bench: Bench, paused: RunningEmulator) -> None:
    """A wait that the service has asked for ends as any other does."""
    paused.faults(
        {"name": "status", "operation": "GET /batches/", "times": None, "retry_after": "300"}
    )
    output = interrupt(bench, "from_sql")
    assert_told_and_collected(output, bench, "from_sql")


def test_while_no_reply_comes(bench: Bench, paused: RunningEmulator) -> None:
    """A call that hangs holds nobody."""
    paused.faults({"name": "hang", "operation": "GET /batches/", "times": None})
    with bench.configured(timeout=120):
        output = interrupt(bench, "from_sql", while_it_looks=True)
    assert_told_and_collected(output, bench, "from_sql")
