"""Settings that all tests share."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


# With several workers (`--dist loadfile`) the tests of a file run on one of them, as what a module
# makes once would be made by each. These files have many seconds of tests, which share little.
_SPREAD = (
    "benchmarks/test_smoke.py",
    "chaos/test_shared_state.py",
    "docs/test_pages.py",
    "functional/cli/test_cancel.py",
    "functional/cli/test_cli.py",
    "functional/databases/test_other_hosts.py",
    "functional/dbt/test_chain.py",
    "functional/dbt/test_changes.py",
    "functional/dbt/test_command_door",
    "functional/dbt/test_contracts.py",
    "functional/dbt/test_dbt.py",
    "functional/dbt/test_materialization.py",
    "functional/dbt/test_merge.py",
    "functional/dbt/test_relations.py",
    "functional/dbt/test_status_types.py",
    "functional/engine/",
    "functional/hosts/",
    "functional/spark/test_dbt.py",
    "functional/state/test_dbt.py",
    "unit/report/",
    "unit/validation/test_properties.py",
)
# Workers take what comes first, so that none is left with a long test while the others are done.
_FIRST = (
    "functional/spark/",
    "functional/dbt/test_worked_projects.py",
    "functional/report/",
    "functional/batch_server/test_local_model.py",
    "functional/state/",
    "chaos/",
    "functional/dbt/",
    "functional/cli/",
    "functional/hosts/",
    "docs/",
    "benchmarks/",
    "unit/validation/",
    "unit/report/",
    "functional/",
)
_TESTS = Path(__file__).parent


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file together, but for those of `_SPREAD`."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    scheduling = LoadFileScheduling(config, log)
    scheduling._split_scope = _kept_together
    return scheduling


def _kept_together(test: str) -> str:
    """Return the name that a test has in common with those that stay on its worker."""
    file = test.split("::", 1)[0]
    return test if file.removeprefix(f"{_TESTS.name}/").startswith(_SPREAD) else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests begin."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: _turn(item.path.relative_to(_TESTS).as_posix()))


def _turn(place: str) -> int:
    """Return when a file has its turn: that of the longest part of its path in `_FIRST`."""
    fits = [first for first in _FIRST if place.startswith(first)]
    return _FIRST.index(max(fits, key=len)) if fits else len(_FIRST)


def pytest_collection_finish() -> None:
    """Leave what is there now out of each later look for garbage: half a second each."""
    gc.collect()
    gc.freeze()


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
