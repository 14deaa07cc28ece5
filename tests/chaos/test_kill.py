"""Lost state, lost replies and bad connections: dbt goes on, and no request is paid for twice.

What is killed at which step of the ledger, under which fault, is the matrix's (`test_matrix.py`).
"""

from __future__ import annotations

from shutil import rmtree

import pytest
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.shards import Step
from support.bench import FILES, Bench

SELECT = ("run", "--select", "from_sql")
# A run in which nothing goes wrong takes every step but these.
STEPS = set(Step) - {Step.ANSWERING, Step.RELEASED}


def test_a_clean_run_takes_every_step(bench: Bench) -> None:
    """The matrix kills at each step of a run: a new step cannot be forgotten."""
    bench.project.dbt(*SELECT)
    with Ledger(bench.project.state_dir / "ledger.sqlite") as ledger:
        assert {event["step"] for event in ledger.events.all()} == STEPS
    bench.assert_whole()


def test_killed_and_the_state_directory_lost(bench: Bench) -> None:
    """A fresh container finds the batch by listing and collects it."""
    bench.project.killed(*SELECT, kill_at=f"{Step.SUBMITTED}:before")
    rmtree(bench.project.state_dir)
    bench.emulator.settle()
    bench.project.dbt(*SELECT)
    bench.assert_whole()


def test_a_lost_reply_to_the_creation_of_a_batch(bench: Bench) -> None:
    """The service acted and the connection broke: the batch is found, not created again."""
    bench.emulator.faults({"name": "lost_reply", "operation": "POST /batches", "call": 1})
    bench.project.dbt(*SELECT)
    bench.assert_whole()
    assert bench.creations() == FILES


@pytest.mark.matrix
@pytest.mark.parametrize(
    "fault",
    [
        {"name": "reset", "operation": "POST /files"},
        {"name": "lost_reply", "operation": "POST /files"},
        {"name": "status", "operation": "POST /batches", "status": 429, "retry_after": "0"},
        {"name": "status", "operation": "GET /batches/", "status": 503, "times": 2},
        {"name": "reset", "operation": "GET /batches/", "times": 2},
        {"name": "truncated", "operation": "GET /files/file-", "call": 3},
        {"name": "truncated", "operation": "GET /files/file-", "call": 4},
        {"name": "slow", "operation": "GET /files/file-", "times": None, "delay": 0.01},
    ],
    ids=lambda fault: f"{fault['name']} {fault['operation']}",
)
def test_a_bad_connection(fault: dict[str, object], bench: Bench) -> None:
    """Whatever breaks on the way, the run ends with every row answered once."""
    bench.emulator.faults(fault)
    bench.project.dbt(*SELECT)
    bench.assert_whole()


@pytest.mark.matrix
@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_a_batch_that_ends_early_keeps_what_it_answered(status: str, bench: Bench) -> None:
    """The rows that it left are asked again, the others are not paid for twice."""
    bench.emulator.endings({"after": 2, "status": status, "times": FILES})
    bench.project.dbt(*SELECT)
    bench.assert_whole()
    kinds = bench.project.rows("select distinct kind from from_sql__errors")
    assert kinds == [(status,)]
