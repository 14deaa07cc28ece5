"""Databases of every kind that a target can attach."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

import duckdb
import pytest
from batch_server.checking import Deployment
from batch_server.server import RunningEmulator, running_emulator
from support.extensions import extension_directory, postgres_cluster


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[RunningEmulator]:
    """An emulator with one batch deployment."""
    with running_emulator(
        tmp_path / "emulator", deployments=[Deployment("gpt-4o-mini")]
    ) as running:
        yield running


@pytest.fixture(scope="session")
def extensions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with DuckDB's extensions."""
    return extension_directory(tmp_path_factory.mktemp("extensions"))


@pytest.fixture(scope="session")
def postgres(extensions: Path) -> Iterator[str]:
    """The directory with the socket of a Postgres server."""
    # A socket's path may have a hundred bytes, and the server's user must reach it.
    root = Path(mkdtemp(prefix="enrich-pg-", dir="/tmp"))
    try:
        with postgres_cluster(root) as socket:
            yield socket
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def new_database(postgres: str, extensions: Path) -> Callable[[str], str]:
    """Make an empty database in the Postgres server, and return how it is connected to."""

    def make(name: str) -> str:
        server = f"host={postgres} user=postgres"
        with duckdb.connect(config={"extension_directory": str(extensions)}) as connection:
            connection.execute(f"attach '{server} dbname=postgres' as server (type postgres)")
            connection.execute(
                f"call postgres_execute('server', 'create database {name}', "
                "use_transaction = false)"
            )
        return f"{server} dbname={name}"

    return make
