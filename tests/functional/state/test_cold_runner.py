"""A runner whose machine is new: what it fetches of the answers that others have stored."""

from __future__ import annotations

from pathlib import Path

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.file_store import FileKind
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.task.options import Mode
from dbt_enrich.warehouse.stays import Stays
from support.shared import SharedState, forget_copies
from support.warehouse import Warehouse, config_for, summary_task

ROWS, FILE_ROWS = 400, 100
# Each text is another one, and comes back in its answer.
SELECT = (
    "select i as id, md5('a' || i) || md5('b' || i) || md5('c' || i) || md5('d' || i) as note "
    "from range({}) as numbers(i) order by id"
)
# Of a row in a file of keys, where so few rows bear the file's own part.
_KEY_BYTES = 60


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SharedState:
    """A bucket for all runs."""
    return SharedState(tmp_path / "bucket", monkeypatch)


@pytest.fixture
def warehouse(emulator: RunningEmulator, tmp_path: Path, shared: SharedState) -> Warehouse:
    """A warehouse whose rows are enriched, in several batches."""
    config = config_for(
        emulator.url, emulator.api_key, tmp_path / "state", max_requests_per_file=FILE_ROWS
    )
    warehouse = Warehouse(config)
    warehouse.stays = Stays.ROWS
    warehouse.enrich(SELECT.format(ROWS))
    assert warehouse.statuses() == {"done": ROWS}
    assert shared.fetched() == {}
    return warehouse


def files_of(warehouse: Warehouse, task_key: str | None = None) -> list[str]:
    """Return the names of the live files of answers, of a task or of all."""
    with Ledger(StateDirectory(warehouse.config.state_dir).ledger) as ledger:
        return list(ledger.answers.live(task_key)) if task_key else ledger.answers.names()


def test_what_is_not_new_is_known_without_its_texts(
    warehouse: Warehouse, shared: SharedState
) -> None:
    """A plan, and a run that adds a row to the table, fetch keys alone: a part of the bytes."""
    forget_copies(warehouse.config.state_dir)
    warehouse.enrich(SELECT.format(ROWS + 1), mode=Mode.PLAN)
    assert f"{ROWS:,} answered before, 1 new" in warehouse.log[-1]
    planned = shared.fetched()
    forget_copies(warehouse.config.state_dir)
    outcome = warehouse.enrich(SELECT.format(ROWS + 1))
    assert outcome.touched == 1
    assert warehouse.statuses() == {"done": ROWS + 1}
    for fetched in (planned, shared.fetched()):
        assert set(fetched) == {FileKind.KEYS}
        assert 0 < fetched[FileKind.KEYS] < ROWS * _KEY_BYTES
    texts = sum(found.size for found in shared.bucket.list("answers"))
    assert texts > 2 * planned[FileKind.KEYS]


def test_a_table_that_is_built_anew_fetches_what_it_is_made_of(
    warehouse: Warehouse, shared: SharedState
) -> None:
    """Each file of texts once, and the table is the one that there was."""
    before = warehouse.rows("from enriched order by id")
    forget_copies(warehouse.config.state_dir)
    warehouse.stays = Stays.NOTHING
    warehouse.enrich(SELECT.format(ROWS))
    assert warehouse.rows("from enriched order by id") == before
    texts = sum(found.size for found in shared.bucket.list("answers"))
    assert shared.fetched()[FileKind.ANSWERS] == texts


def test_only_the_texts_of_wanted_rows_are_fetched(
    warehouse: Warehouse, shared: SharedState
) -> None:
    """A table of some of the rows takes the files in which these are; another task's are none."""
    other = summary_task(system="Say it in French.")
    warehouse.enrich(SELECT.format(FILE_ROWS), other, table="other")
    forget_copies(warehouse.config.state_dir)
    shared.fetched()
    warehouse.enrich(SELECT.format(FILE_ROWS), table="few")
    assert warehouse.statuses("few") == {"done": FILE_ROWS}
    sizes = {found.key: found.size for found in shared.bucket.list("answers")}
    fetched = shared.fetched()
    assert fetched[FileKind.ANSWERS] in sizes.values()
    assert len(files_of(warehouse)) == len(sizes) == ROWS // FILE_ROWS + 1
    keys = {found.key: found.size for found in shared.bucket.list("keys")}
    assert fetched[FileKind.KEYS] < sum(keys.values())


def test_failures_and_repairs_need_no_texts_of_valid_answers(
    emulator: RunningEmulator, tmp_path: Path, shared: SharedState
) -> None:
    """The errors table, with the raw answers, and a repair come from the files of keys."""
    emulator.rules([{"match": "note 3", "content": "no JSON at all"}])
    warehouse = Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state"))
    warehouse.stays = Stays.ROWS
    notes = "select i as id, 'note ' || i as note from range({}) as numbers(i)"
    warehouse.enrich(notes.format(8))
    failed = warehouse.rows("from enriched__errors order by all")
    assert {row[5] for row in failed} == {"no JSON at all"}
    forget_copies(warehouse.config.state_dir)
    shared.fetched()
    outcome = warehouse.enrich(notes.format(9))
    assert outcome.touched is not None
    assert warehouse.rows("from enriched__errors order by all") == failed
    assert set(shared.fetched()) == {FileKind.KEYS}
