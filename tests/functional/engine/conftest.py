"""What the tests of the engine share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.synchronous import SharedRelay, shared_relay


@pytest.fixture(scope="session")
def relayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedRelay]:
    """An emulator and a relay before it, which no test is to kill, or to have it refuse its key."""
    with shared_relay(tmp_path_factory.mktemp("relayed")) as made:
        yield made
