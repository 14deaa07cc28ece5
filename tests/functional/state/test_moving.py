"""A state is moved to where several machines share it, and back, and nothing is asked again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.config import PluginConfig
from dbt_enrich.config.state import StateKeys
from dbt_enrich.errors import ConfigurationError, LedgerError
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.moving import Held, held_by, share, unshare
from dbt_enrich.state.open_ledger import open_ledger
from dbt_enrich.state.run import open_run
from dbt_enrich.task.options import Mode
from support.shared_ledger import LedgerServer
from support.warehouse import Warehouse, config_for

NOTES = "select i as id, 'note ' || i as note from range(9) as numbers(i)"

OTHERS = NOTES.replace("'note '", "'other '")


@pytest.fixture
def keys(ledgers: LedgerServer) -> StateKeys:
    """Where a shared state may be."""
    return ledgers.new()


@pytest.fixture
def machine(
    emulator: RunningEmulator, tmp_path: Path, keys: StateKeys
) -> Callable[[str], PluginConfig]:
    """Gives the configuration of a machine that works with the shared state."""

    def made(name: str) -> PluginConfig:
        config = config_for(emulator.url, emulator.api_key, tmp_path / name)
        return config.model_copy(update={"state": keys})

    return made


def alone(config: PluginConfig) -> PluginConfig:
    """Return the configuration of the same machine with its own state."""
    return config.model_copy(update={"state": None})


def sent(emulator: RunningEmulator) -> int:
    """Return how many requests were paid for."""
    return sum(emulator.account()["paid"].values())


def test_a_state_goes_there_and_back(
    emulator: RunningEmulator, machine: Callable[[str], PluginConfig], keys: StateKeys
) -> None:
    """With its answers, its failures and its batches in flight; each row is paid for once."""
    emulator.rules([{"match": "note 3", "content": "no JSON at all"}])
    one, two = machine("one"), machine("two")
    warehouse = Warehouse(alone(one))
    warehouse.enrich(NOTES, max_attempts=1)
    before = warehouse.rows("from enriched order by id")
    warehouse.enrich(OTHERS, table="other", mode=Mode.SUBMIT)
    share(one, keys)
    assert not StateDirectory(one.state_dir).ledger.exists()
    with open_ledger(one) as ledger:
        assert held_by(ledger) == Held(tasks=1, answers=9, files=1, in_flight=1)
    paid = sent(emulator)
    for config in (two, one):
        warehouse.restart(config)
        warehouse.connection.execute("drop table enriched; drop table enriched__errors")
        warehouse.enrich(NOTES, max_attempts=1)
        assert warehouse.rows("from enriched order by id") == before
        warehouse.enrich(OTHERS, table="other", mode=Mode.COLLECT)
        assert warehouse.statuses("other") == {"done": 9}
    unshare(two, keys)
    warehouse.restart(alone(two))
    warehouse.connection.execute("drop table enriched; drop table enriched__errors")
    warehouse.enrich(NOTES, max_attempts=1)
    assert warehouse.rows("from enriched order by id") == before
    assert sent(emulator) <= paid + 9
    with pytest.raises(LedgerError, match="that was moved to a state directory"):
        warehouse.restart(one)
        warehouse.enrich(NOTES)


def test_a_state_that_cannot_be_moved_stays_as_it_was(
    machine: Callable[[str], PluginConfig], keys: StateKeys
) -> None:
    """Where a run is under way, a file is missing, or there is a state already."""
    one, two = machine("one"), machine("two")
    with pytest.raises(ConfigurationError, match="nothing to move"):
        share(one, keys)
    for config in (one, two):
        Warehouse(alone(config)).enrich(NOTES)
    with open_run(alone(one)), pytest.raises(LedgerError, match="a run is under way in"):
        share(one, keys)
    with Ledger(StateDirectory(one.state_dir).ledger) as ledger:
        (name,) = ledger.answers.names()
    path = StateDirectory(one.state_dir).answers(name)
    away = path.rename(path.with_suffix(".away"))
    with pytest.raises(LedgerError, match=f"{name}.*which the ledger names"):
        share(one, keys)
    away.rename(path)
    share(one, keys)
    with pytest.raises(LedgerError, match="is not empty"):
        share(two, keys)
    with open_run(one), pytest.raises(LedgerError, match="a run is under way on"):
        unshare(machine("three"), keys)
    with pytest.raises(LedgerError, match="there is a ledger at"):
        unshare(two, keys)
    warehouse = Warehouse(one)
    warehouse.enrich(NOTES)
    assert warehouse.log[-1].startswith("enriched: 9 done; 9 reused, 0 sent")
