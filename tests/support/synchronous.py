"""Runs that go one by one through the synchronous endpoint, by a relay that tests may share."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from batch_server.process import join_emulator
from batch_server.server import RunningEmulator, running_emulator
from dbt_enrich.config import PluginConfig
from dbt_enrich.config.remote import RELAY_DIRECTORY, RemoteConfig
from dbt_enrich.pipeline.publish.usage_relations import relations
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.run import open_run
from dbt_enrich.state.shards import Shard

from support.waiting import wait_until
from support.warehouse import Warehouse, config_for

ROWS: Final = 6
NOTES: Final = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"
CHAT: Final = "POST /chat/completions"
SYNC: Final[dict[str, Any]] = {"sync_below": 100, "preview_model": "standard"}


class SharedRelay:
    """An emulator and a relay before it, which lives as long as the tests that share it.

    Args:
        emulator: The service.
        directory: The directory of the relays of all state directories.
    """

    def __init__(self, emulator: RunningEmulator, directory: Path) -> None:
        self.emulator = emulator
        self._directory = directory

    def cleared(self) -> RunningEmulator:
        """Return the service as if new."""
        self.emulator.rules([])
        self.emulator._act("reset", None)
        self.emulator.resume()
        return self.emulator

    def warehouse(self, state: Path) -> Warehouse:
        """Return a warehouse with a state directory of its own, whose relay is this one."""
        made = warehouse_on(self.emulator, state)
        state.mkdir(parents=True)
        (state / RELAY_DIRECTORY).symlink_to(self._directory)
        return made


@contextmanager
def shared_relay(directory: Path) -> Iterator[SharedRelay]:
    """Run an emulator and a relay before it while the block runs.

    Args:
        directory: Where both keep their files.
    """
    with running_emulator(directory / "emulator") as emulator:
        config = _config(emulator, directory / "state")
        assert isinstance(config, RemoteConfig)
        membership = join_emulator(config.relay_directory, spec=config.relay_spec)
        try:
            yield SharedRelay(emulator, config.relay_directory.parent)
        finally:
            membership.release()


def warehouse_on(emulator: RunningEmulator, state: Path, **changes: Any) -> Warehouse:
    """Return a warehouse on an emulator that has a deployment for single requests."""
    emulator.deployments({"name": "gpt-4o-mini"}, {"name": "standard", "sku": "GlobalStandard"})
    return Warehouse(_config(emulator, state, **changes))


def _config(emulator: RunningEmulator, state: Path, **changes: Any) -> PluginConfig:
    return config_for(emulator.url, emulator.api_key, state, **changes)


def ledger_of(warehouse: Warehouse) -> Ledger:
    """The warehouse's ledger."""
    return Ledger(StateDirectory(warehouse.config.state_dir).made().ledger)


def shards_of(warehouse: Warehouse) -> list[Shard]:
    """What was claimed, oldest first."""
    with ledger_of(warehouse) as ledger:
        return ledger.shards.all()


def chats(emulator: RunningEmulator) -> list[int]:
    """The statuses of the synchronous requests."""
    calls = emulator.account()["calls"]
    return [call["status"] for call in calls if call["path"] == "/chat/completions"]


def assert_paid_once(emulator: RunningEmulator, rows: int = ROWS) -> None:
    """Every request was answered and paid for once, however it was asked."""
    assert Counter(emulator.account()["paid"].values()) == {1: rows}


def assert_all_done(warehouse: Warehouse) -> None:
    """Each row has its own answer."""
    assert warehouse.rows("select id, summary, enrichment_status from enriched order by id") == [
        (i, f"summary: note {i}", "done") for i in range(ROWS)
    ]


def refuse(emulator: RunningEmulator, status: int, *, since: int) -> None:
    """Refuse every synchronous request from one on."""
    emulator.faults(
        *(
            {"name": "status", "operation": CHAT, "status": status, "call": call}
            for call in range(since, 500)
        )
    )


def hung(emulator: RunningEmulator, warehouse: Warehouse, **options: Any) -> threading.Thread:
    """Start a run whose first two requests are answered, and whose others are refused for now."""
    refuse(emulator, 503, since=3)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            warehouse.enrich(NOTES, **SYNC, **options)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.failures = failures  # type: ignore[attr-defined]
    thread.start()
    wait_until(lambda: any(shard.completed == 2 for shard in shards_of(warehouse)))
    return thread


def used(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    """What the relations say of usage; every shard of it is marked as synchronous."""
    with open_run(warehouse.config) as run:
        made = relations(run, warehouse.config)
        marks = run.workspace.rows(f"select distinct synchronous, batch_id from ({made.batches})")
        assert marks == [(True, None)]
        return run.workspace.rows(f"select requests, cost, saved from ({made.usage})")
