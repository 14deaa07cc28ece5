"""A Postgres of the tests' own that holds ledgers, one in each schema."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from dbt_enrich.config.state import StateKeys
from dbt_enrich.state.ledger import Ledger
from pydantic import SecretStr

from support.extensions import PostgresServer

if TYPE_CHECKING:
    from dbt_enrich.state.postgres_connection import PostgresConnection


def utc_now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


class LedgerServer:
    """A server in which ledgers are made.

    Args:
        server: The server.
    """

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.conninfo = f"host={server.root} user=postgres dbname=postgres"

    def new(self) -> StateKeys:
        """Return where a ledger may be made that is not there yet."""
        name = f"s_{secrets.token_hex(6)}"
        return StateKeys(
            ledger=SecretStr(self.conninfo),
            ledger_schema=name,
            files=f"file://{self.server.root}/buckets/{name}",
        )

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as an administrator would; return the rows of the last."""
        psycopg = pytest.importorskip("psycopg")
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def end_connections(self) -> None:
        """End all other connections, as an administrator or a failover does."""
        self.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where pid <> pg_backend_pid() and backend_type = 'client backend'"
        )


@contextmanager
def ledger_server() -> Iterator[LedgerServer]:
    """Run a server, or skip the test where Postgres or its client is not installed."""
    pytest.importorskip("psycopg")
    # A socket's path may have a hundred bytes, and the server's user must reach it.
    root = Path(mkdtemp(prefix="enrich-pg-", dir="/tmp"))
    try:
        server = PostgresServer(root)
        server.start()
        try:
            yield LedgerServer(server)
        finally:
            server.stop()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def document(keys: StateKeys) -> dict[str, str]:
    """Return the keys of a state as a profile has them."""
    return {**keys.model_dump(), "ledger": keys.ledger.get_secret_value()}


class OpenLedger(Protocol):
    """Opens one ledger, each time another connection to it."""

    def __call__(self, clock: Callable[[], datetime] = ...) -> Ledger:
        """Return a connection, which the test's end closes if its thread opened it."""


def connected(
    keys: StateKeys,
    clock: Callable[[], datetime] = utc_now,
    cancelled: threading.Event | None = None,
) -> PostgresConnection:
    """Open a connection to a shared ledger."""
    from dbt_enrich.state.postgres_connection import PostgresAddress, PostgresConnection

    address = PostgresAddress(keys.ledger.get_secret_value(), keys.ledger_schema)
    return PostgresConnection(address, clock, cancelled=cancelled)
