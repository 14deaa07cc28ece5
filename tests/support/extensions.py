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


@contextmanager
def postgres_cluster(root: Path) -> Iterator[str]:
    """Run a Postgres of its own, on a socket in a directory; yield the directory.

    Skips the test where Postgres is not installed, or cannot be run as another user than root.

    Args:
        root: An empty directory with a short path, which the server's user may own.
    """
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

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [*as_user, str(programs / program), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=300,
            cwd=root,
        )

    data = str(root / "data")
    run("initdb", "-D", data, "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8", "--locale=C")
    options = f"-c listen_addresses='' -c unix_socket_directories='{root}' -c fsync=off"
    run("pg_ctl", "-D", data, "-w", "-l", str(root / "log"), "-o", options, "start")
    try:
        yield str(root)
    finally:
        run("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
