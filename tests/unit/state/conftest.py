"""Ledgers of either kind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from dbt_enrich.state.ledger import Ledger
from support.shared_ledger import OpenLedger, connected, utc_now


@pytest.fixture(params=["sqlite", "postgres"])
def new_ledger(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[], OpenLedger]]:
    """Makes a place for a ledger of a kind; returns what opens it."""
    with ExitStack() as closed:

        def kept(ledger: Ledger) -> Ledger:
            # SQLite's connections are closed by the thread that opened them.
            if threading.current_thread() is threading.main_thread():
                closed.enter_context(ledger)
            return ledger

        def make() -> OpenLedger:
            if request.param == "sqlite":
                path = tmp_path / f"{len(list(tmp_path.glob('*.sqlite')))}.sqlite"
                path.touch()
                return lambda clock=utc_now: kept(Ledger(path, clock=clock))
            keys = request.getfixturevalue("ledgers").new()
            return lambda clock=utc_now: kept(Ledger(connected(keys, clock)))

        yield make


@pytest.fixture
def open_ledger(new_ledger: Callable[[], OpenLedger]) -> OpenLedger:
    """Opens the test's ledger."""
    return new_ledger()
