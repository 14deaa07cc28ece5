"""PgBouncer before a Postgres, which gives each transaction another of few sessions."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.waiting import wait_until

_PROGRAM = Path("/usr/sbin/pgbouncer")
_PORT = 6432


@contextmanager
def transaction_pool(server: Path, *, sessions: int) -> Iterator[str]:
    """Run PgBouncer in its transaction mode before a server; yield how to connect to it.

    Skips the test where it is not installed.

    Args:
        server: The directory of the server's socket, which the pooler's goes into, too.
        sessions: How many sessions of the server all clients share.
    """
    if not _PROGRAM.exists():
        pytest.skip("PgBouncer is not installed")
    place = server / "pool"
    place.mkdir()
    settings = place / "pgbouncer.ini"
    settings.write_text(
        f"""
        [databases]
        postgres = host={server} dbname=postgres user=postgres
        [pgbouncer]
        pool_mode = transaction
        default_pool_size = {sessions}
        auth_type = any
        listen_port = {_PORT}
        listen_addr =
        unix_socket_dir = {place}
        logfile = {place}/log
        """,
        encoding="utf-8",
    )
    as_user = []
    if os.geteuid() == 0:
        shutil.chown(place, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    process = subprocess.Popen(
        [*as_user, str(_PROGRAM), "-q", str(settings)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: (place / f".s.PGSQL.{_PORT}").exists())
        yield f"host={place} port={_PORT} user=postgres dbname=postgres"
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(place, ignore_errors=True)
