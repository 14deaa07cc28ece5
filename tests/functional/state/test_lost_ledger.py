"""A shared ledger whose connection breaks, whose server is away, or that is another one."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.errors import CancelledError, LedgerError
from dbt_enrich.state import leases
from dbt_enrich.state.connection import Connection, LedgerAwayError
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.state.tables.shards import Shards
from pydantic import SecretStr
from support.shared_ledger import LedgerServer, connected
from support.warehouse import Warehouse, config_for

NOTES = "select i as id, 'note ' || i as note from range(4) as numbers(i)"
SHARD = Shard("s", Step.CLAIMED, "run-1", namespace="n", service="local", task_key="t")


@pytest.fixture
def connection(ledgers: LedgerServer) -> Iterator[Connection]:
    """A connection to a new ledger."""
    with closing(connected(ledgers.new())) as opened:
        yield opened


def test_a_connection_that_was_ended_is_opened_again(
    connection: Connection, ledgers: LedgerServer
) -> None:
    """Between transactions nothing is lost by it, whether a step is read or written next."""
    ledger = Ledger(connection)
    calls: list[Callable[[], object]] = [
        lambda: ledger.shards.add(SHARD),
        lambda: ledger.shards.record(SHARD, Step.EXPORTED),
        lambda: ledger.shards.get("s"),
        lambda: ledger.exclusively(lambda: ledger.shards.record(SHARD, Step.UPLOADING)),
    ]
    for call in calls:
        ledgers.end_connections()
        call()
    steps = [event["step"] for event in ledger.events.all()]
    assert steps == ["claimed", "exported", "uploading"]


def test_a_transaction_that_was_broken_is_begun_again(
    connection: Connection, ledgers: LedgerServer
) -> None:
    """What it had written is undone, so that the second try writes it once."""
    ledger, tries = Ledger(connection), []

    def write() -> None:
        ledger.shards.add(SHARD)
        tries.append(1)
        if len(tries) == 1:
            ledgers.end_connections()
        ledger.shards.record(SHARD, Step.EXPORTED)

    connection.transacted(write)
    assert len(tries) == 2
    assert [event["step"] for event in ledger.events.all()] == ["claimed", "exported"]
    with pytest.raises(LedgerAwayError, match="was lost"), ledger.critical_section():
        ledger.shards.record(SHARD, Step.UPLOADING)
        ledgers.end_connections()
        ledger.shards.get("s")
    assert ledger.shards.get("s").step == Step.EXPORTED


@contextmanager
def cutting_proxy(target: Path, place: Path, *, forwards: bool) -> Iterator[threading.Event]:
    """Pass on what is said to a Postgres, until a commit: there the connection is cut, once.

    Args:
        target: The server's socket.
        place: The directory of the proxy's socket.
        forwards: Whether the server gets to see the commit whose reply is cut off.

    Yields:
        What arms the proxy.
    """
    armed = threading.Event()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place / target.name))
    listener.listen()

    def up(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                if data.endswith(b"commit\0") and armed.is_set():
                    armed.clear()
                    client.shutdown(socket.SHUT_RDWR)
                    if not forwards:
                        break
                server.sendall(data)
        with suppress(OSError):
            # What was sent before is still read.
            server.shutdown(socket.SHUT_WR)

    def down(server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(target))
                for pass_on, ends in ((up, (client, server)), (down, (server, client))):
                    threading.Thread(target=pass_on, args=ends, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield armed
    finally:
        listener.close()


@pytest.mark.parametrize("forwards", [True, False])
def test_a_commit_whose_reply_is_lost_counts_once(
    forwards: bool, ledgers: LedgerServer, tmp_path: Path
) -> None:
    """The server is asked what became of it: what was committed is not done again."""
    keys = ledgers.new()
    through = keys.model_copy(
        update={"ledger": SecretStr(f"host={tmp_path} user=postgres dbname=postgres")}
    )
    target = ledgers.server.root / ".s.PGSQL.5432"
    with (
        cutting_proxy(target, tmp_path, forwards=forwards) as armed,
        closing(connected(through)) as connection,
    ):
        ledger, claims = Ledger(connection), []

        def claim() -> None:
            claims.append(1)
            ledger.shards.add(SHARD)

        armed.set()
        ledger.exclusively(claim)
        assert len(claims) == (1 if forwards else 2)
        assert len(ledger.events.all()) == 1
        armed.set()
        assert ledger.shards.record(SHARD, Step.CREATING).step == Step.CREATING
        assert len(ledger.events.all()) == 2


def test_a_server_that_is_away_is_waited_for(connection: Connection, ledgers: LedgerServer) -> None:
    """And what was in it is there, as a crash of the server keeps what was committed."""
    ledger = Ledger(connection)
    ledger.shards.add(SHARD)
    ledgers.server.stop()
    back = threading.Timer(0.7, ledgers.server.start)
    back.start()
    assert ledger.shards.record(SHARD, Step.EXPORTED).step == Step.EXPORTED
    back.join()


def test_a_wait_for_a_server_that_is_away_ends_with_an_interrupt(ledgers: LedgerServer) -> None:
    """At once, also between tries that are far apart; what needs no wait is written still."""
    cancelled, set_at = threading.Event(), []

    def interrupt() -> None:
        set_at.append(time.monotonic())
        cancelled.set()

    with closing(connected(ledgers.new(), cancelled=cancelled)) as connection:
        ledger = Ledger(connection)
        ledger.shards.add(SHARD)
        ledgers.server.stop()
        later = threading.Timer(1.5, interrupt)
        later.start()
        try:
            with pytest.raises(CancelledError, match="interrupted while the ledger .* waited for"):
                ledger.shards.record(SHARD, Step.EXPORTED)
            assert time.monotonic() - set_at[0] < 2
        finally:
            later.join()
            ledgers.server.start()
        assert ledger.shards.record(SHARD, Step.EXPORTED).step == Step.EXPORTED


def test_the_run_of_a_model_hears_an_interrupt_while_its_ledger_is_away(
    emulator: RunningEmulator,
    ledgers: LedgerServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing was sent, and the next run asks each row once."""
    monkeypatch.setattr(leases, "LEASE_SECONDS", 2.0)
    config = config_for(emulator.url, emulator.api_key, tmp_path / "state")
    warehouse = Warehouse(config.model_copy(update={"state": ledgers.new()}))
    record = Shards.record

    def recorded(shards: Shards, shard: Shard, step: Step, **changes: Any) -> Shard:
        if step == Step.CREATING:
            ledgers.server.stop()
            threading.Timer(0.5, warehouse.engine.cancelled.set).start()
        return record(shards, shard, step, **changes)

    try:
        with (
            monkeypatch.context() as patched,
            pytest.raises(CancelledError, match="interrupted while the ledger"),
        ):
            patched.setattr(Shards, "record", recorded)
            warehouse.enrich(NOTES)
    finally:
        ledgers.server.start()
    assert emulator.jobs.batches() == []
    warehouse.restart()
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": 4}
    assert set(emulator.account()["paid"].values()) == {1}


@pytest.mark.parametrize(
    ("disaster", "named"),
    [
        ("drop schema {schema} cascade", "not the ledger .* but a database without it"),
        ("update {schema}.identity set id = 'other'", "not the ledger .* but another ledger"),
    ],
)
def test_a_database_in_its_place_that_is_not_the_ledger_is_refused(
    disaster: str, named: str, ledgers: LedgerServer
) -> None:
    """A failover to an empty database would have all rows asked, and paid for, once more."""
    keys = ledgers.new()
    with closing(connected(keys)) as connection:
        ledger = Ledger(connection)
        ledger.shards.add(SHARD)
        ledgers.execute(disaster.format(schema=keys.ledger_schema))
        ledgers.end_connections()
        for call in (lambda: ledger.shards.open(), lambda: ledger.shards.add(replace(SHARD))):
            with pytest.raises(LedgerError, match=named):
                call()


def test_no_password_is_shown(ledgers: LedgerServer) -> None:
    """Neither where the ledger is named, nor in an error."""
    secret = "hunter2-very"
    keys = ledgers.new().model_copy(
        update={"ledger": SecretStr(f"postgresql://me:{secret}@127.0.0.1:1/ledger")}
    )
    with pytest.raises(LedgerError, match=r"127\.0\.0\.1/ledger.* cannot be opened") as error:
        connected(keys)
    assert secret not in str(error.value)
    assert secret not in repr(keys)


@pytest.mark.parametrize("moment", [Step.CREATING, Step.ENDED])
def test_nothing_is_sent_while_the_ledger_is_away(
    moment: Step,
    emulator: RunningEmulator,
    ledgers: LedgerServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run waits before the step that it cannot write, and goes on once the server is back."""
    config = config_for(emulator.url, emulator.api_key, tmp_path / "state")
    warehouse = Warehouse(config.model_copy(update={"state": ledgers.new()}))
    record, batches_while_away = Shards.record, []

    def come_back() -> None:
        batches_while_away.append(len(emulator.jobs.batches()))
        ledgers.server.start()

    def recorded(shards: Shards, shard: Shard, step: Step, **changes: Any) -> Shard:
        if step == moment and not stopped.is_set():
            stopped.set()
            ledgers.server.stop()
            back.start()
        return record(shards, shard, step, **changes)

    stopped, back = threading.Event(), threading.Timer(0.7, come_back)
    monkeypatch.setattr(Shards, "record", recorded)
    warehouse.enrich(NOTES)
    back.join()
    assert batches_while_away == [0 if moment == Step.CREATING else 1]
    assert warehouse.statuses() == {"done": 4}
    assert set(emulator.account()["paid"].values()) == {1}
    assert len(emulator.jobs.batches()) == 1
