"""Settings that all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dbt_enrich.emulator.server import RunningEmulator, running_emulator
from hypothesis import HealthCheck, settings

# The machine's speed is not what a property test judges.
settings.register_profile(
    "dbt-enrich", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("dbt-enrich")


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[RunningEmulator]:
    """An emulator with the scripted responder, in this process, which outlives what it serves."""
    with running_emulator(tmp_path / "emulator") as running:
        yield running
