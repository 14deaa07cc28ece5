"""Ctrl-C under dbt: an event that every wait of ours ends on.

No signal handler can be set in dbt's worker threads. On SIGINT dbt's main thread cancels the open
connections through the environment's `cancel`; wrapping it is how a waiting thread hears of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dbt.adapters.duckdb.connections import DuckDBConnectionManager

INTERRUPTED = (
    "interrupted; what was submitted goes on at the service, and the next dbt run collects it "
    "(enrichment_mode: collect takes in what is finished and sends nothing; dbt-enrich cancel ends "
    "it)"
)

_lock = threading.Lock()
_listening: dict[int, tuple[threading.Event, int]] = {}


@contextmanager
def interruptible(event: threading.Event, say: Callable[[str], None]) -> Iterator[None]:
    """Set `event` when dbt cancels its connections while the block runs.

    Args:
        event: Ends every wait of ours.
        say: Tells the user what becomes of the batches. dbt itself reports no error of a thread
            that it leaves behind.
    """
    environment = DuckDBConnectionManager.env()
    with _lock:
        _, users = _listening.get(id(environment), (event, 0))
        if users == 0:
            event.clear()
            _wrap(environment, event, say)
        _listening[id(environment)] = (event, users + 1)
    try:
        yield
    finally:
        with _lock:
            _, users = _listening.pop(id(environment))
            if users > 1:
                _listening[id(environment)] = (event, users - 1)
            else:
                del environment.cancel


def _wrap(environment: Any, event: threading.Event, say: Callable[[str], None]) -> None:
    original = environment.cancel

    def cancel(connection: Any) -> None:
        if not event.is_set():
            event.set()
            say(INTERRUPTED)
        original(connection)

    environment.cancel = cancel
