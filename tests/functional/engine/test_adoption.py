"""Adoption: with the state directory lost, batches are found by what the service still has."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator, running_emulator
from dbt_enrich.task.schema import OutputColumn
from support.waiting import wait_until
from support.warehouse import SUMMARY, Warehouse, config_for, summary_task

ROWS = 10
NOTES = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[RunningEmulator]:
    """An emulator whose key is part of every id, name and text that is read here."""
    with running_emulator(tmp_path / "emulator", api_key="e") as running:
        yield running


def warehouse_for(emulator: RunningEmulator, tmp_path: Path) -> Warehouse:
    """A warehouse on the emulator, as a fresh container has it."""
    return Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state"))


def submit(emulator: RunningEmulator, tmp_path: Path, **options: Any) -> dict[str, Any]:
    """Send one batch, lose the state directory, and return the batch."""
    warehouse_for(emulator, tmp_path).enrich(NOTES, mode="submit", **options)
    shutil.rmtree(tmp_path / "state")
    (batch,) = emulator.jobs.batches()
    return batch


def forget_input(emulator: RunningEmulator, batch: dict[str, Any]) -> None:
    """Have the service lose a batch's input file once every request of it is answered."""

    def is_answered() -> bool:
        (found,) = emulator.jobs.batches()
        return emulator.jobs.counts(found)["completed"] >= (found.get("requests") or 1)

    wait_until(is_answered)
    emulator.forget_file(batch["input_file_id"])


def assert_paid_once(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """Every row is done, and nothing was sent again."""
    assert warehouse.statuses() == {"done": ROWS}
    assert len(emulator.jobs.batches()) == 1
    assert set(emulator.account()["paid"].values()) == {1}


@pytest.mark.parametrize("rows_per_request", [None, 4])
@pytest.mark.parametrize("is_over", [True, False])
def test_a_batch_without_metadata_is_found_by_its_file_s_name(
    emulator: RunningEmulator, tmp_path: Path, is_over: bool, rows_per_request: int | None
) -> None:
    """And its input file is read back, whether it has ended or is in flight."""
    if not is_over:
        emulator.transitions(in_progress={"kind": "polls", "amount": 2})
    batch = submit(emulator, tmp_path, rows_per_request=rows_per_request)
    if is_over:
        emulator.settle()
    record = emulator.jobs.storage.get("batch", batch["id"])
    assert record is not None
    emulator.jobs.storage.put("batch", {**record, "metadata": None})
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": ROWS}
    assert len(emulator.jobs.batches()) == 1


@pytest.mark.parametrize("key", ["key", "batch", "request", "note", "0", '"'])
def test_a_key_that_is_part_of_what_the_service_says_is_left_in_it(
    tmp_path: Path, key: str
) -> None:
    """Metadata, ids, file names, contents and numbers are read as they are."""
    with running_emulator(tmp_path / "emulator", api_key=key) as emulator:
        submit(emulator, tmp_path)
        warehouse = warehouse_for(emulator, tmp_path)
        warehouse.enrich(NOTES)
        assert_paid_once(warehouse, emulator)
        answers = warehouse.rows("select count(*) from enriched where summary like '%note%'")
        assert answers == [(ROWS,)]


@pytest.mark.parametrize("is_over", [True, False])
def test_without_the_input_file_the_answers_say_which_rows_were_asked(
    emulator: RunningEmulator, tmp_path: Path, is_over: bool
) -> None:
    """Nothing is sent before they are there, as any row may be among them."""
    if not is_over:
        emulator.transitions(finalizing={"kind": "polls", "amount": 2})
    batch = submit(emulator, tmp_path)
    forget_input(emulator, batch)
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES)
    assert_paid_once(warehouse, emulator)


def test_submit_sends_nothing_while_nobody_knows_what_is_in_flight(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """It says why, and the next run goes on."""
    emulator.transitions(finalizing={"kind": "never"})
    forget_input(emulator, submit(emulator, tmp_path))
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, mode="submit")
    assert len(emulator.jobs.batches()) == 1
    assert any("nothing is sent until batch" in text for text in warehouse.log)
    emulator.transitions()
    warehouse.restart()
    warehouse.enrich(NOTES)
    assert_paid_once(warehouse, emulator)


def test_answers_to_packs_of_unknown_rows_are_kept(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """With the input file gone nothing says whose they are: the user is told where they lie."""
    forget_input(emulator, submit(emulator, tmp_path, rows_per_request=4))
    warehouse = warehouse_for(emulator, tmp_path)
    for _ in range(2):
        warehouse.enrich(NOTES, rows_per_request=4)
        warehouse.restart()
    assert warehouse.statuses() == {"done": ROWS}
    (sentence,) = [text for text in warehouse.log if "3 answers to packs of rows" in text]
    (kept,) = (tmp_path / "state" / "responses").glob("*.output.jsonl")
    assert str(kept) in sentence
    assert kept.read_text().count("\n") == 3


TAG = OutputColumn(name="tag", data_type="varchar")


def test_what_is_left_of_another_task_s_answer_is_not_taken_for_the_whole(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """A stale row keeps the outputs that both tasks have, and not whose answer they were."""
    whole, part = summary_task(outputs=(SUMMARY, TAG)), summary_task(outputs=(SUMMARY,))
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, whole)
    for batch in emulator.jobs.batches():
        emulator.forget(batch["id"])
    emulator.pause()
    for task in (part, whole):
        shutil.rmtree(tmp_path / "state")
        warehouse.restart()
        warehouse.enrich(NOTES, task, mode="submit")
        assert warehouse.statuses() == {"stale": ROWS}
        assert warehouse.rows("select count(enrichment_key), count(summary) from enriched") == [
            (ROWS if task is part else 0, ROWS)
        ]
    emulator.resume()
    emulator.settle()
    shutil.rmtree(tmp_path / "state")
    warehouse.restart()
    warehouse.enrich(NOTES, whole)
    assert warehouse.statuses() == {"done": ROWS}
    assert warehouse.rows("select count(tag) from enriched") == [(ROWS,)]


@pytest.mark.parametrize("kind", ["json", "uuid", "blob"])
def test_a_column_that_was_of_a_type_without_schema_becomes_an_output(
    emulator: RunningEmulator, tmp_path: Path, kind: str
) -> None:
    """What the table held of it is no answer."""
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(f"select *, cast(null as {kind}) as tag from ({NOTES})")
    warehouse.enrich(NOTES, summary_task(outputs=(TAG,)))
    assert warehouse.statuses() == {"done": ROWS}


def test_decimals_of_any_width_are_recovered_from_the_table(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """DuckDB writes some of them in a way that is no JSON."""
    columns = {"share": "decimal(18,18)", "parts": "decimal(20,20)[]", "price": "decimal(38,10)"}
    outputs = tuple(OutputColumn(name=name, data_type=kind) for name, kind in columns.items())
    emulator.rules(
        [{"match": "note", "content": '{"share": 0.5, "parts": [0.25, 0.125], "price": 12.34}'}]
    )
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, summary_task(outputs=outputs))
    answers = warehouse.rows("select id, share, parts, price from enriched order by id")
    assert answers[0][1] == Decimal("0.5")
    emulator.forget(emulator.jobs.batches()[0]["id"])
    shutil.rmtree(tmp_path / "state")
    warehouse.restart()
    warehouse.enrich(NOTES, summary_task(outputs=outputs))
    assert warehouse.statuses() == {"done": ROWS}
    assert warehouse.rows("select id, share, parts, price from enriched order by id") == answers
    assert set(emulator.account()["paid"].values()) <= {1}
