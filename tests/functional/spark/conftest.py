"""A Spark for each module: Sail, which needs no JVM and is there in a second."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.sail import sail_server, spark_session


@pytest.fixture(scope="module")
def sail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server of Sail."""
    with sail_server(tmp_path_factory.mktemp("sail")) as port:
        yield port


@pytest.fixture
def spark(sail: int) -> Iterator[Any]:
    """A session of its own, whose tables are gone with it."""
    with spark_session(sail) as session:
        yield session
