"""A server of Sail, which speaks Spark Connect without a JVM, and sessions in it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_SECONDS_TO_START = 60.0


@contextmanager
def sail_server(directory: Path) -> Iterator[int]:
    """Run a server; yield its port. Where Sail or PySpark is missing, skip the test.

    Args:
        directory: Where its tables lie.
    """
    pytest.importorskip("pyspark", reason="needs the extra spark (pyspark-client)")
    pytest.importorskip("pysail", reason="needs pysail")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = ["-m", "pysail", "spark", "server", "--ip", "127.0.0.1", "--port", str(port)]
    with (directory / "sail.log").open("w") as log:
        server = subprocess.Popen([sys.executable, *command], cwd=directory, stdout=log, stderr=log)
    # A process without a script, such as a worker of pytest-xdist, is PySpark's own doctest to it,
    # unless a user types into it.
    is_typed = hasattr(sys, "ps1")
    sys.ps1 = getattr(sys, "ps1", "")
    try:
        _wait_for(port, server)
        yield port
    finally:
        if not is_typed:
            del sys.ps1
        server.terminate()
        server.wait()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + _SECONDS_TO_START
    while True:
        assert server.poll() is None, "Sail ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < ends, "Sail does not listen"
            time.sleep(0.05)
        else:
            return


@contextmanager
def spark_session(port: int, shared: str | None = None) -> Iterator[Any]:
    """Open a session in a server.

    Args:
        port: The server's.
        shared: The id of a session that others use too; else it is its own, and ends.
    """
    from pyspark.sql.connect.session import SparkSession

    name = f";session_id={shared}" if shared else ""
    session = SparkSession.builder.remote(f"sc://127.0.0.1:{port}/{name}").create()
    try:
        yield session
    finally:
        if shared:
            session.client.close()
        else:
            session.stop()
