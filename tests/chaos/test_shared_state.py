"""Runners that vanish or stand still at every step, on one shared state, in trouble of every kind.

Each has a machine of its own: no disk in common, and that of a killed one is gone. As in
`test_matrix.py`, `make chaos` runs as many cases as it takes for every pair to occur, and the
ordinary suite few of them.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from batch_server.blobs import Blobs
from batch_server.server import RunningEmulator, running_emulator
from dbt_enrich.state.shards import Step
from dbt_enrich.task.options import Mode
from support.buckets import (
    Proxy,
    azure_environment,
    azurite,
    lost_reply,
    make_azure_container,
    make_s3_bucket,
    needs_azurite,
    proxy_to,
    s3_environment,
    s3_server,
    twice,
    unavailable,
)
from support.pairs import Case, all_pairs, covering
from support.runner import Runner, Work
from support.shared_ledger import LedgerServer, document

ROWS = 6
LEASE_SECONDS = 1.5
_NOTES = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"
_SERVICE: dict[str, dict[str, Any]] = {
    "create's reply lost": {"name": "lost_reply", "operation": "POST /batches"},
    "upload's reply lost": {"name": "lost_reply", "operation": "POST /files"},
    "poll reset": {"name": "reset", "operation": "GET /batches/"},
    "download truncated": {"name": "truncated", "operation": "GET /files/file-", "call": 3},
    "503": {"name": "status", "operation": "GET /batches", "status": 503},
}
_BUCKET = {
    "bucket away for a moment": unavailable,
    "bucket's reply lost": lost_reply,
    "bucket asked twice": twice,
}
_LEDGER = "ledger's connections cut"
# `answering` is of earlier versions, and a shard is released where the service refuses its batch.
STEPS = tuple(str(step) for step in Step if step not in (Step.ANSWERING, Step.RELEASED))
FACTORS = {
    "step": STEPS,
    "moment": ("before", "after"),
    "end": ("killed", "frozen"),
    # Of a SQL model as dbt's adapter drives the engine, and of a Python model under dbt.
    "mode": ("run", "submit", "python"),
    "trouble": ("none", *_SERVICE, *_BUCKET, _LEDGER),
    # Uploaded beside a bucket of S3, or read from a container at Azure, by the service itself.
    "input": ("upload", "blob"),
}


def quickened(case: Case) -> Case:
    """Kill who would be stopped while it claims: the ledger undoes that after two minutes only."""
    return {**case, "end": "killed"} if case["step"] == Step.CLAIMED else case


CASES = [quickened(case) for case in all_pairs(FACTORS, seed=7)]
ORDINARY = covering(CASES, ("step",), ("moment",), ("end",), ("mode",), ("trouble",), ("input",))


# How long what is away is waited for, where it does not come back in time.
_PATIENCE = 3.0
AWAY_FACTORS = {
    "step": STEPS,
    "moment": ("before", "after"),
    "away": ("ledger", "bucket"),
    "until": ("the lease is over", "it was given up"),
}
AWAY = all_pairs(AWAY_FACTORS, seed=3)
AWAY_ORDINARY = covering(AWAY, ("away",), ("until",))


@pytest.fixture(scope="module")
def network() -> Iterator[Proxy]:
    """A network before a server of S3."""
    with s3_server() as server, proxy_to(server) as made:
        yield made


@pytest.fixture(scope="module")
def azure_network() -> Iterator[Proxy]:
    """A network before a server of Azure Blob Storage."""
    with azurite() as server, proxy_to(server) as made:
        yield made


@pytest.fixture
def by_container(
    azure_network: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[RunningEmulator, Proxy]]:
    """An emulator that reads and writes containers, and the network before them."""
    for name, value in azure_environment(azure_network.address).items():
        monkeypatch.setenv(name, value)
    azure_network.faults.clear()
    with running_emulator(tmp_path / "emulator", blobs=Blobs()) as running:
        yield running, azure_network


def parameters(cases: list[Case], ordinary: list[Case], *names: str) -> list[Any]:
    """Return every case once; those that the ordinary suite leaves out are marked."""
    return [
        pytest.param(
            case,
            id=", ".join(case[name] for name in names),
            marks=[
                *([] if case in ordinary else [pytest.mark.matrix]),
                *([needs_azurite] if case.get("input") == "blob" else []),
            ],
        )
        for case in cases
    ]


@pytest.mark.parametrize(
    "case", parameters(CASES, ORDINARY, "end", "moment", "step", "mode", "trouble", "input")
)
def test_each_request_is_paid_for_once(
    case: Case,
    ledgers: LedgerServer,
    network: Proxy,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Another runner has every answer, and so has the one that goes on after it stood still."""
    bucket = f"b{secrets.token_hex(8)}"
    settings = {"batch_input": case["input"]}
    if case["input"] == "blob":
        emulator, network = request.getfixturevalue("by_container")
        make_azure_container(network.address, bucket)
        files, environment = f"az://{bucket}/p", azure_environment(network.address)
    else:
        emulator = request.getfixturevalue("emulator")
        make_s3_bucket(network.address, bucket)
        files, environment = f"s3://{bucket}/p", s3_environment(network.address)
    state = {**document(ledgers.new()), "files": files}

    def runner(name: str, moment: str = "") -> Runner:
        return Runner(
            Work(
                emulator.url, emulator.api_key, tmp_path / name, state, LEASE_SECONDS, moment,
                _NOTES, mode=Mode.SUBMIT if case["mode"] == "submit" else Mode.RUN,
                environment=environment, by_dbt=case["mode"] == "python", settings=settings,
                by=signal.SIGKILL if case["end"] == "killed" else signal.SIGSTOP,
            )
        )  # fmt: skip

    first, second = runner("first", f"{case['step']}:{case['moment']}"), runner("second")
    try:
        trouble = case["trouble"]
        if trouble in _SERVICE:
            emulator.faults(_SERVICE[trouble])
        if trouble in _BUCKET:
            network.fail("PUT", f"/{bucket}/", _BUCKET[trouble], times=2)
        first.begin()
        if case["end"] == "killed":
            first.wait_until_killed()
            shutil.rmtree(tmp_path / "first")
        else:
            first.wait_until_frozen()
        if trouble == _LEDGER:
            ledgers.end_connections()
        second.begin()
        assert second.statuses() == {"done": ROWS}
        if case["end"] == "frozen":
            first.thaw()
            assert first.statuses() == {"done": ROWS}
    finally:
        first.kill()
        second.kill()
    paid = emulator.account()["paid"]
    assert len(paid) == ROWS
    assert set(paid.values()) == {1}


@pytest.mark.parametrize("case", parameters(AWAY, AWAY_ORDINARY, "away", "until", "moment", "step"))
def test_what_is_away_for_long(
    case: Case, emulator: RunningEmulator, ledgers: LedgerServer, network: Proxy, tmp_path: Path
) -> None:
    """The run goes on once it is back, or has ended by name; nothing is paid for twice."""
    bucket, away = f"b{secrets.token_hex(8)}", threading.Event()
    make_s3_bucket(network.address, bucket)
    network.faults.append(
        lambda _, path, forward: unavailable(forward) if away.is_set() and bucket in path else None
    )
    state = {**document(ledgers.new()), "files": f"s3://{bucket}/p"}
    is_given_up = case["until"] == "it was given up"

    def runner(name: str, moment: str = "") -> Runner:
        return Runner(
            Work(
                emulator.url, emulator.api_key, tmp_path / name, state, LEASE_SECONDS, moment,
                _NOTES, environment=s3_environment(network.address),
                patience=_PATIENCE if is_given_up else None,
            )
        )  # fmt: skip

    def take_away(is_away: bool) -> None:
        if case["away"] == "bucket":
            (away.set if is_away else away.clear)()
        else:
            (ledgers.server.stop if is_away else ledgers.server.start)()

    first, second = runner("first", f"{case['step']}:{case['moment']}"), runner("second")
    try:
        first.begin()
        first.wait_until_frozen()
        take_away(True)
        first.thaw()
        found: dict[str, int] | str = "still waiting"
        try:
            if is_given_up:
                found = first.outcome()
            else:
                time.sleep(2 * LEASE_SECONDS)
        finally:
            take_away(False)
        if not is_given_up:
            assert first.statuses() == {"done": ROWS}
        elif isinstance(found, str):
            # What is away was not needed any more, or the error names it.
            assert "LedgerError: the ledger" in found or "s3://" in found, found
        second.begin()
        assert second.statuses() == {"done": ROWS}
    finally:
        first.kill()
        second.kill()
    paid = emulator.account()["paid"]
    assert len(paid) == ROWS
    assert set(paid.values()) == {1}


def test_what_is_among_the_cases() -> None:
    """Each step with each moment, end and trouble; few cases with every value every day."""
    for name in ("moment", "end", "trouble"):
        wanted = set(product(STEPS, FACTORS[name])) - {(str(Step.CLAIMED), "frozen")}
        assert {(case["step"], case[name]) for case in CASES} == wanted
    for name, values in FACTORS.items():
        assert {case[name] for case in ORDINARY} == set(values)
    for name in ("away", "until"):
        assert {case[name] for case in AWAY_ORDINARY} == set(AWAY_FACTORS[name])
