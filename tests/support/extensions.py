"""DuckDB's extensions as packages, and a Postgres of the tests' own, where the machine has them."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import duckdb
import pytest

NAMES = ("ducklake", "postgres_scanner", "sqlite_scanner")
_POSTGRES = Path("/usr/lib/postgresql")


def extension_directory(root: Path) -> Path:
    """Lay out the extensions that are installed as packages as DuckDB looks for them.

    Skips the test where one is not installed for this version of DuckDB.

    Args:
        root: Where the directory goes; the user's own is left alone.
    """
    with duckdb.connect() as connection:
        platform = connection.execute("pragma platform").fetchall()[0][0]
    version = f"v{duckdb.__version__}"
    target = root / version / platform
    target.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        found = find_spec(f"duckdb_extension_{name}")
        places = list(found.submodule_search_locations or []) if found else []
        binaries = [
            Path(place) / "extensions" / version / f"{name}.duckdb_extension" for place in places
        ]
        if not binaries or not binaries[0].exists():
            pytest.skip(f"the package of the extension {name} for DuckDB {version} is not there")
        link = target / binaries[0].name
        if not link.exists():
            link.symlink_to(binaries[0])
    return root


class PostgresServer:
    """A Postgres of its own, on a socket in a directory.

    Skips the test where Postgres is not installed, or cannot be run as another user than root.

    Args:
        root: An empty directory with a short path, which the server's user may own.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._programs, self._as_user = _programs(root)
        self._data = str(root / "data")
        self.run(
            "initdb", "-D", self._data, "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8",
            "--locale=C",
        )  # fmt: skip

    def run(self, program: str, *arguments: str) -> None:
        """Run one of the server's programs as its user."""
        subprocess.run(
            [*self._as_user, str(self._programs / program), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=300,
            cwd=self.root,
        )

    def start(self) -> None:
        """Start it, and wait until it can be connected to."""
        options = (
            f"-c listen_addresses='' -c unix_socket_directories='{self.root}' -c fsync=off "
            "-c autovacuum=off"
        )
        log = str(self.root / "log")
        self.run("pg_ctl", "-D", self._data, "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """Stop it at once, as a crash would."""
        self.run("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop")


@contextmanager
def postgres_cluster(root: Path) -> Iterator[str]:
    """Run a Postgres server; yield its directory.

    Args:
        root: An empty directory with a short path, which the server's user may own.
    """
    server = PostgresServer(root)
    server.start()
    try:
        yield str(root)
    finally:
        server.stop()


def _programs(root: Path) -> tuple[Path, list[str]]:
    """Return where Postgres' programs are, and what goes before them to run them as a user."""
    versions = sorted(_POSTGRES.glob("*/bin/initdb"))
    if not versions:
        pytest.skip(f"there is no Postgres server under {_POSTGRES}")
    programs = versions[-1].parent
    as_user: list[str] = []
    if os.geteuid() == 0:
        # Postgres refuses to be run by root.
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("Postgres cannot be run by root, and there is no user postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(root, "postgres")
    return programs, as_user
