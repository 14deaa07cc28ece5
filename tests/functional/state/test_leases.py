"""Leases: who owns shards in a shared ledger, by the database's clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from dbt_enrich.errors import LostOwnershipError
from dbt_enrich.state.leases import LeasedOwnership
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.postgres_connection import PostgresConnection
from dbt_enrich.state.shards import Shard, Step
from support.shared_ledger import LedgerServer, connected

_SECONDS = 1.0


class Runner:
    """A run on a machine of its own.

    Args:
        name: Its name.
        connection: Its connection to the ledger.
        seconds: How long its lease lasts.
    """

    def __init__(self, name: str, connection: PostgresConnection, seconds: float) -> None:
        self.ledger = Ledger(connection)
        self.owners = LeasedOwnership(name, connection, connection.beside, seconds=seconds)

    def freeze(self) -> None:
        """Renew the lease no more, as a process that is stopped."""
        self.owners._ended.set()
        self.owners._thread.join()

    def wait_for_the_end_of(self, run: str) -> None:
        """Wait until another run's lease is over."""
        deadline = time.monotonic() + 20 * _SECONDS
        while self.owners.is_alive(run):
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def runners(ledgers: LedgerServer) -> Iterator[tuple[Runner, Runner]]:
    """Two runs, `a` and `b`, on one ledger; `a` owns a shard."""
    keys = ledgers.new()
    with ExitStack() as opened:
        made = []
        for name in ("a", "b"):
            connection = opened.enter_context(closing(connected(keys)))
            made.append(Runner(name, connection, _SECONDS))
            opened.callback(made[-1].owners.release)
        made[0].ledger.shards.add(
            Shard("s", Step.UPLOADED, "a", namespace="n", service="local", task_key="t")
        )
        yield made[0], made[1]


def test_a_lease_lives_as_long_as_its_run(runners: tuple[Runner, Runner]) -> None:
    """It is renewed in time, nobody takes its shards, and the end of the run ends it."""
    a, b = runners
    shard = a.ledger.shards.get("s")
    term = a.owners.term()
    time.sleep(1.5 * _SECONDS)
    assert b.owners.is_driven(shard)
    assert b.ledger.shards.take_over(shard, "b") is None
    a.owners.confirm(term)
    assert a.ledger.shards.record(shard, Step.CREATING).step == Step.CREATING
    a.owners.release()
    assert not b.owners.is_driven(shard)
    taken = b.ledger.shards.take_over(shard, "b")
    assert taken is not None
    assert (taken.owner, taken.step) == ("b", Step.CREATING)


def test_a_run_that_was_stopped_for_longer_moves_nothing(runners: tuple[Runner, Runner]) -> None:
    """Its steps are refused by the ledger, its paid calls by its own clock, taken over or not."""
    a, b = runners
    shard, term = a.ledger.shards.get("s"), a.owners.term()
    a.freeze()
    b.wait_for_the_end_of("a")
    with pytest.raises(LostOwnershipError, match="lease on it was over"):
        a.ledger.shards.record(shard, Step.CREATING)
    with pytest.raises(LostOwnershipError, match="nothing was sent"):
        a.owners.confirm(term)
    assert b.ledger.shards.take_over(shard, "b") is not None
    a.owners._renew()
    with pytest.raises(LostOwnershipError, match="was taken over by b"):
        a.ledger.shards.record(shard, Step.CREATING)


def test_a_lease_is_taken_again_for_a_new_term(runners: tuple[Runner, Runner]) -> None:
    """What no other has taken over is gone on with; what was intended before is not sent."""
    a, b = runners
    shard, term = a.ledger.shards.get("s"), a.owners.term()
    a.freeze()
    b.wait_for_the_end_of("a")
    a.owners._renew()
    with pytest.raises(LostOwnershipError, match="nothing was sent"):
        a.owners.confirm(term)
    assert a.owners.term() == term + 1
    a.owners.confirm(a.owners.term())
    assert a.ledger.shards.record(shard, Step.CREATING).step == Step.CREATING
    assert b.ledger.shards.take_over(shard, "b") is None


def test_a_renewal_outlives_its_connection(
    runners: tuple[Runner, Runner], ledgers: LedgerServer
) -> None:
    """One that the server ended is opened again before the lease is over."""
    a, b = runners
    term = a.owners.term()
    ledgers.end_connections()
    time.sleep(1.5 * _SECONDS)
    assert b.owners.is_alive("a")
    a.owners.confirm(term)


def test_one_run_adopts_at_a_time(runners: tuple[Runner, Runner]) -> None:
    """The lock of one whose lease is over is free."""
    a, b = runners
    with a.owners.adoption_lock():
        assert not b.owners._locked("adoption")
    with b.owners.adoption_lock():
        assert not a.owners._locked("adoption")
        b.freeze()
        a.wait_for_the_end_of("b")
        with a.owners.adoption_lock():
            assert not b.owners._locked("adoption")
