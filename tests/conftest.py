"""Settings that all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_server.server import RunningEmulator, running_emulator
from hypothesis import HealthCheck, settings
from support.shared_ledger import LedgerServer, ledger_server

# The machine's speed is not what a property test judges. The examples are the same each time, so
# that a change is judged by what it changed; HYPOTHESIS_PROFILE=explore looks for new ones.
for name, fixed in (("dbt-enrich", True), ("explore", False)):
    settings.register_profile(
        name,
        deadline=None,
        max_examples=100,
        derandomize=fixed,
        database=None if fixed else settings().database,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dbt-enrich"))

# A runner in the background may have its children ignore Ctrl-C, and they theirs.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _few_certificates(request: pytest.FixtureRequest) -> Iterator[None]:
    """Trust one authority, which nobody is: nothing is asked over the internet.

    A client that loads all authorities of the system takes longer for it than for its calls.
    """
    with pytest.MonkeyPatch.context() as patch:
        # Only pip asks a package index.
        if request.config.option.markexpr != "installation":
            authority = Path(__file__).parent / "support" / "authority.pem"
            patch.setenv("SSL_CERT_FILE", str(authority))
        yield


@pytest.fixture(scope="session")
def ledgers() -> Iterator[LedgerServer]:
    """A Postgres server in which a test makes ledgers."""
    with ledger_server() as running:
        yield running


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[RunningEmulator]:
    """An emulator with the scripted responder, in this process, which outlives what it serves."""
    with running_emulator(tmp_path / "emulator") as running:
        yield running
