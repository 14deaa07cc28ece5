"""Two batches that ask the same: a run was stopped between its last look and the call."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.services import create_service
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.task.options import Mode
from support.warehouse import Warehouse, config_for

ROWS = 4
NOTES = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"


@pytest.fixture
def warehouse(emulator: RunningEmulator, tmp_path: Path) -> Warehouse:
    """A warehouse whose rows are in one batch, of which nothing is answered yet."""
    made = Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state"))
    emulator.pause()
    made.enrich(NOTES, mode=Mode.SUBMIT)
    return made


def create_twin(warehouse: Warehouse) -> str:
    """Create another batch on the same input file, as a run that wakes would; return its id."""
    with Ledger(warehouse.config.state_dir / "ledger.sqlite") as ledger:
        (shard,) = ledger.shards.all()
    with closing(create_service(warehouse.config)) as service:
        first = service.batch(shard.batch_id or "")
        twin = service.create(shard.input_file_id or "", first.metadata, first.endpoint or "")
    return twin.id


def statuses(emulator: RunningEmulator) -> dict[str, str]:
    """Return the status of each batch at the service."""
    return {batch["id"]: batch["status"] for batch in emulator.jobs.batches()}


def test_the_younger_is_cancelled(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """Before it is paid for, if it can be; the user reads of it, and all rows are done once."""
    twin = create_twin(warehouse)
    warehouse.restart()
    warehouse.enrich(NOTES, mode=Mode.SUBMIT)
    emulator.resume()
    warehouse.enrich(NOTES)
    assert statuses(emulator).pop(twin) == "cancelled"
    assert any(f"batch {twin} is cancelled, as it asks the same 4" in x for x in warehouse.log)
    assert warehouse.statuses() == {"done": ROWS}
    assert set(emulator.account()["paid"].values()) == {1}


def test_the_answers_of_both_are_kept(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """What was paid for twice is there twice, and counted as it was."""
    twin = create_twin(warehouse)
    emulator.resume()
    emulator.settle()
    assert set(emulator.account()["paid"].values()) == {2}
    warehouse.restart()
    for _ in range(2):
        warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": ROWS}
    said = [line for line in warehouse.log if "the answers of both are kept" in line]
    assert len(said) == 1
    assert twin in said[0]
    with Ledger(warehouse.config.state_dir / "ledger.sqlite") as ledger:
        files = [ledger.answers.files(task.task_key) for task in ledger.tasks.all()]
        assert [file.answers for found in files for file in found] == [ROWS, ROWS]
    assert len(statuses(emulator)) == 2
