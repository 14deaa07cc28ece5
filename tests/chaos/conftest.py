"""The project and the emulator of the chaos tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.bench import Bench, running_bench


@pytest.fixture(scope="session")
def shared_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The project and the emulator of this process's tests."""
    with running_bench(tmp_path_factory.mktemp("bench")) as bench:
        yield bench


@pytest.fixture
def bench(shared_bench: Bench) -> Bench:
    """The shared project and emulator, as if new."""
    shared_bench.clear()
    return shared_bench
