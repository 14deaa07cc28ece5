"""Overlap: files are sent while others are written, and several are under way at once."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.pipeline.export import request_file
from dbt_enrich.pipeline.run.transfers import Transfers
from dbt_enrich.services.openai import OpenAIBatchService
from dbt_enrich.state.run import Run
from dbt_enrich.state.shards import Shard
from support.warehouse import Warehouse, config_for

NOTES = "select i as id, 'note ' || i as note from range(20) as numbers(i)"
# Four files of five requests.
FILES = 4
_SECONDS = 20.0


def warehouse_for(emulator: RunningEmulator, tmp_path: Path, **changes: Any) -> Warehouse:
    """A warehouse whose files hold at most five requests."""
    given = {"max_requests_per_file": 5, **changes}
    return Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state", **given))


def was_uploaded(emulator: RunningEmulator) -> bool:
    """Whether a file comes within some seconds; the engine's own thread waits here meanwhile."""
    for _ in range(int(_SECONDS / 0.05)):
        calls = emulator.account()["calls"]
        if any(call["method"] == "POST" and call["path"] == "/files" for call in calls):
            return True
        time.sleep(0.05)
    return False


def all_done(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """Each row has its answer, and each request was paid for once."""
    assert warehouse.statuses() == {"done": 20}
    assert set(emulator.account()["paid"].values()) == {1}


@pytest.mark.parametrize("mode", ["run", "submit"])
def test_the_first_file_is_at_the_service_before_the_second_is_written(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """So that the service works while the rest is written."""
    warehouse = warehouse_for(emulator, tmp_path)
    write_file = request_file.write_file
    written: list[str] = []

    def write_after_upload(run: Run, shard: Shard, *arguments: Any, **named: Any) -> Shard:
        if written:
            assert was_uploaded(emulator)
        written.append(shard.shard)
        return write_file(run, shard, *arguments, **named)

    monkeypatch.setattr(request_file, "write_file", write_after_upload)
    warehouse.enrich(NOTES, mode=mode)
    assert len(written) == FILES
    if mode == "submit":
        emulator.settle()
        warehouse.enrich(NOTES, mode="collect")
    all_done(warehouse, emulator)


@pytest.fixture(params=["upload", "download"])
def transfer(request: pytest.FixtureRequest) -> str:
    """The call that is watched."""
    return str(request.param)


@pytest.mark.parametrize("mode", ["run", "collect"])
def test_several_transfers_run_at_once(
    emulator: RunningEmulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    transfer: str,
    mode: str,
) -> None:
    """Two meet at a barrier that one alone would not pass."""
    met = threading.Barrier(2, timeout=_SECONDS)
    first_two = threading.Semaphore(2)

    call = getattr(OpenAIBatchService, transfer)

    def meeting(self: OpenAIBatchService, *arguments: Any, **named: Any) -> Any:
        if first_two.acquire(blocking=False):
            met.wait()
        return call(self, *arguments, **named)

    monkeypatch.setattr(OpenAIBatchService, transfer, meeting)
    warehouse = warehouse_for(emulator, tmp_path, transfers=2)
    if mode == "collect":
        warehouse.enrich(NOTES, mode="submit")
        emulator.settle()
    warehouse.enrich(NOTES, mode=mode)
    assert not met.broken
    all_done(warehouse, emulator)


def test_no_more_transfers_run_at_once_than_may(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transfer: str
) -> None:
    """With `transfers: 1` they come one after the other."""
    running = threading.Semaphore(1)
    call = getattr(OpenAIBatchService, transfer)

    def alone(self: OpenAIBatchService, *arguments: Any, **named: Any) -> Any:
        assert running.acquire(blocking=False)
        try:
            return call(self, *arguments, **named)
        finally:
            running.release()

    monkeypatch.setattr(OpenAIBatchService, transfer, alone)
    warehouse = warehouse_for(emulator, tmp_path, transfers=1)
    warehouse.enrich(NOTES)
    all_done(warehouse, emulator)


def test_a_transfer_gives_back_what_its_call_returned_or_raised() -> None:
    """In the thread that asks for it."""
    transfers = Transfers(2)
    transfers.start("good", lambda: 7)
    transfers.start("bad", lambda: 1 // 0)
    while transfers.ended < 2:
        transfers.wait(_SECONDS, ended=transfers.ended)
    assert transfers.is_over("good")
    assert not transfers.is_running("good")
    assert transfers.take("good") == 7
    with pytest.raises(ZeroDivisionError):
        transfers.take("bad")
    assert not transfers.is_over("bad")


def test_a_full_house_has_room_again_when_a_transfer_ends() -> None:
    """Whether or not its result was taken."""
    transfers, go_on = Transfers(1), threading.Event()
    transfers.start("slow", lambda: go_on.wait(_SECONDS))
    assert transfers.is_full
    assert transfers.is_running("slow")
    transfers.wait(0.01, ended=0)
    assert transfers.ended == 0
    go_on.set()
    transfers.wait(_SECONDS, ended=0)
    assert not transfers.is_full
