"""Ownership: a run that was taken for dead leaves its shards to the run that took them over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.console.console import Console
from dbt_enrich.pipeline.export.in_flight import abandoned_shards, let_go
from dbt_enrich.pipeline.wait import Waited, wait_for_batches
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.run import open_run
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.state.tables.shards import Shards
from support.warehouse import Warehouse, config_for

ROWS = 6
NOTES = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"
_SECONDS = 60.0


class FrozenRun:
    """A run in a thread that stops at a moment of the ledger, and is taken for dead then.

    Its lock is gone, as on a file system whose locks do not hold; it knows nothing of that.

    Args:
        warehouse: What it enriches.
        moment: `<step>:before` or `<step>:after` the step is written.
        monkeypatch: Undoes the stopping.
    """

    def __init__(self, warehouse: Warehouse, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = StateDirectory(warehouse.config.state_dir)
        self._step, self._when = moment.split(":")
        self._stopped, self._goes_on = threading.Event(), threading.Event()
        monkeypatch.setattr(Shards, "record", self._stopping(Shards.record))
        self._thread = threading.Thread(target=warehouse.enrich, args=(NOTES,))
        self._thread.start()
        assert self._stopped.wait(_SECONDS), warehouse.log

    def go_on(self) -> None:
        """Let it go on, and wait for its end."""
        self._goes_on.set()
        self._thread.join(_SECONDS)
        assert not self._thread.is_alive()

    def _stopping(self, record: Callable[..., Shard]) -> Callable[..., Shard]:
        def wrapped(shards: Shards, shard: Shard, step: Step, **changes: Any) -> Shard:
            is_ours = threading.current_thread() is self._thread
            hit = is_ours and not self._stopped.is_set() and step == self._step
            if hit and self._when == "before":
                self._stop(shard)
            moved = record(shards, shard, step, **changes)
            if hit and self._when == "after":
                self._stop(shard)
            return moved

        return wrapped

    def _stop(self, shard: Shard) -> None:
        assert shard.owner is not None
        (self.store.run(shard.owner) / "lock").unlink()
        self._stopped.set()
        assert self._goes_on.wait(_SECONDS)


@pytest.fixture
def warehouse(emulator: RunningEmulator, tmp_path: Path) -> Warehouse:
    """A warehouse whose rows go into one batch."""
    return Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state"))


def waited(warehouse: Warehouse) -> Waited:
    """Bring home what is at the service, as `dbt-enrich wait` does."""
    return wait_for_batches(
        warehouse.config,
        "tests",
        models=(),
        timeout=_SECONDS,
        console=Console(warehouse.log.append),
        cancelled=threading.Event(),
    )


def assert_paid_once(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """Every row is answered, and each was paid for once."""
    assert warehouse.statuses() == {"done": ROWS}
    paid = emulator.account()["paid"]
    assert len(paid) == ROWS
    assert set(paid.values()) == {1}


@pytest.mark.parametrize(
    "moment", ["submitted:before", "ended:before", "downloaded:after"],
)  # fmt: skip
def test_a_batch_that_another_run_brought_home_is_left_to_it(
    moment: str,
    warehouse: Warehouse,
    emulator: RunningEmulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No step is taken with it any more, and the table is made of the answers that came."""
    run = FrozenRun(warehouse, moment, monkeypatch)
    assert waited(warehouse).stored == ROWS
    with Ledger(run.store.ledger) as ledger:
        events = ledger.events.all()
        run.go_on()
        assert ledger.events.all() == events
    assert any("was taken over by" in line for line in warehouse.log)
    assert_paid_once(warehouse, emulator)
    assert len(emulator.jobs.batches()) == 1


def test_a_batch_that_is_created_for_the_second_time_is_cancelled(
    warehouse: Warehouse, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stopped between the intent and the call; meanwhile another run has sent the same."""
    run = FrozenRun(warehouse, "creating:after", monkeypatch)
    assert waited(warehouse).stored == ROWS
    emulator.pause()
    run.go_on()
    emulator.resume()
    assert_paid_once(warehouse, emulator)
    statuses = sorted(batch["status"] for batch in emulator.jobs.batches())
    assert statuses == ["cancelled", "completed"]


@pytest.mark.parametrize("moment", ["exported:after", "uploading:after", "uploaded:after"])
def test_requests_that_another_run_let_go_are_not_sent_by_their_old_claim(
    moment: str,
    warehouse: Warehouse,
    emulator: RunningEmulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are claimed anew, as any run could have done meanwhile."""
    frozen = FrozenRun(warehouse, moment, monkeypatch)
    with open_run(warehouse.config) as run:
        (claimed,) = abandoned_shards(run)
        let_go(run, [claimed])
        frozen.go_on()
        steps = [event["step"] for event in run.ledger.events.all(claimed.shard)]
        assert steps[-1] == Step.RELEASED
        assert Step.CREATING not in steps
    assert_paid_once(warehouse, emulator)
    assert len(emulator.jobs.batches()) == 1


def test_a_claim_that_another_run_has_taken_up_is_not_let_go(tmp_path: Path) -> None:
    """Both saw that its run is dead; the one that comes second leaves it and its files alone."""
    config = config_for("http://127.0.0.1:1", "key", tmp_path)
    with open_run(config) as first, open_run(config) as second:
        first.ledger.shards.add(
            Shard("s", Step.EXPORTED, "run-dead", namespace="n", service="local", task_key="t")
        )
        first.store.requests("s").touch()
        first.store.manifest("s").touch()
        (seen,) = abandoned_shards(first)
        assert second.ledger.shards.claim_again(seen, second.id, settings="{}")
        let_go(first, [seen])
        assert first.ledger.shards.claim_again(seen, first.id) is None
        shard = first.ledger.shards.get("s")
        assert (shard.step, shard.owner, shard.settings) == (Step.EXPORTED, second.id, "{}")
        assert first.store.requests("s").exists()
        assert first.store.manifest("s").exists()
