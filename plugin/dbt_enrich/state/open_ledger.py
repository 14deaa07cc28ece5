"""Where a configuration's ledger is, and how it is opened: a file here, or a shared database."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from dbt_enrich.clock import MACHINE_CLOCK, Clock
from dbt_enrich.config import PluginConfig
from dbt_enrich.config.state import StateKeys
from dbt_enrich.errors import ConfigurationError, LedgerError
from dbt_enrich.extras import REMOTE, require
from dbt_enrich.files import make_private, settle
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.ownership import LocalOwnership, Ownership

if TYPE_CHECKING:
    from dbt_enrich.state.postgres_connection import PostgresAddress, PostgresConnection


class DatabaseClock(Clock):
    """The machine's clock, set right by a database's: the times of several machines are compared.

    Args:
        clock: This machine's.
        ahead: Seconds by which the database's is ahead of it.
    """

    def __init__(self, clock: Clock, ahead: float) -> None:
        self._clock = clock
        self._ahead = timedelta(seconds=ahead)

    def now(self) -> datetime:
        """Return the time in UTC, by the database."""
        return self._clock.now() + self._ahead

    def monotonic(self) -> float:
        """Return seconds that only ever grow."""
        return self._clock.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until an event is set, for so many seconds at most; say whether it is set."""
        return self._clock.wait(event, seconds)


def ledger_place(config: PluginConfig) -> str:
    """Return where a configuration's ledger is, for messages, without any secret."""
    if config.state is None:
        return str(StateDirectory(config.state_dir).ledger)
    return str(_address(config.state))


def has_ledger(config: PluginConfig) -> bool:
    """Whether there is a ledger to look at; a shared one is made as it is first opened."""
    return config.state is not None or StateDirectory(config.state_dir).ledger.exists()


def open_ledger(config: PluginConfig, *, clock: Clock = MACHINE_CLOCK) -> Ledger:
    """Open the ledger for what needs no run; it is made where it is not there.

    Raises:
        ConfigurationError: The extra that it needs is not installed.
        LedgerError: It cannot be opened, is damaged, or is from a newer version.
    """
    if config.state is None:
        return Ledger(StateDirectory(config.state_dir).ledger, clock=clock.now)
    connection = _connection(config.state, clock)
    return Ledger(connection)


@contextmanager
def open_owned(
    config: PluginConfig,
    store: StateDirectory,
    run_id: str,
    clock: Clock,
    cancelled: threading.Event | None = None,
) -> Iterator[tuple[Ledger, Ownership, Clock]]:
    """Open the ledger for a run that owns shards in it, until the block ends.

    Args:
        config: The plugin's configuration.
        store: The state directory, in which the run's lock is held.
        run_id: The run.
        clock: This machine's clock.
        cancelled: Set when the user interrupts, which ends every wait for a shared ledger.

    Returns:
        The ledger, the run's hold on its shards, and the clock that all runs of the ledger share.

    Raises:
        ConfigurationError: The extra that it needs is not installed.
        LedgerError: It cannot be opened, is damaged, or is from a newer version.
    """
    if config.state is None:
        with Ledger(store.ledger, clock=clock.now) as ledger:
            yield ledger, LocalOwnership(store), clock
        return
    from dbt_enrich.state import leases

    connection = _connection(config.state, clock, cancelled)
    with Ledger(connection) as ledger:
        _refuse_another(store, connection)
        common = DatabaseClock(clock, connection.seconds_ahead())
        connection.clock = common.now
        owners = leases.LeasedOwnership(
            run_id, connection, connection.beside, seconds=leases.LEASE_SECONDS
        )
        try:
            yield ledger, owners, common
        finally:
            owners.release()


def _connection(
    state: StateKeys, clock: Clock, cancelled: threading.Event | None = None
) -> PostgresConnection:
    address = _address(state)
    from dbt_enrich.state.postgres_connection import PostgresConnection

    return PostgresConnection(address, clock.now, cancelled=cancelled)


def _address(state: StateKeys) -> PostgresAddress:
    require(REMOTE, "the key `state`")
    if state.is_in_target:
        raise ConfigurationError(
            "`state.ledger` is `target`, but there is no target of dbt-postgres here whose server "
            "it could be in",
            fix="write its address, like postgresql://USER@HOST/DATABASE",
        )
    from dbt_enrich.state.postgres_connection import PostgresAddress

    return PostgresAddress(state.ledger.get_secret_value(), state.ledger_schema)


def _refuse_another(store: StateDirectory, connection: PostgresConnection) -> None:
    """Refuse a ledger that is not the one that this machine worked with before.

    Raises:
        LedgerError: A database without what was paid for stands where the ledger was.
    """
    path = store.ledger_note
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    found = known.get(connection.place) if isinstance(known, dict) else None
    if found == connection.ledger_id:
        return
    if found is not None:
        raise LedgerError(
            f"this is not the ledger {connection.place} that this machine worked with before: it "
            "was made anew",
            fix="bring the database back, or restore it from a backup that is not older than the "
            f"last run. If what was in it may be paid for again, remove {path}",
        )
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    make_private(temporary)
    temporary.write_text(json.dumps({**known, connection.place: connection.ledger_id}))
    settle(temporary, path)
