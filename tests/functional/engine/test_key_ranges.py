"""More rows than keys are held in memory of at once: all is as if they were."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.workspace import key_ranges as key_parts
from support.warehouse import Warehouse, config_for, summary_task

# Equal rows, rows without a text, and rows whose answers are no good at first or for ever.
NOTES = """
    select i as id, case when i % 7 = 0 then null else 'note ' || i % 25 end as note
    from range(40) as numbers(i)
"""
RULES: list[dict[str, Any]] = [
    {"match": "note 3", "times": 1, "fault": "wrong_shape"},
    {"match": "note 11", "fault": "refusal"},
    {"match": "note 12", "times": 1, "fault": "missing"},
]


@pytest.fixture(params=[3, 1_000_000])
def warehouse(
    request: pytest.FixtureRequest,
    emulator: RunningEmulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Warehouse:
    """A warehouse whose rows' keys are worked on in many parts, or in one."""
    monkeypatch.setattr(key_parts, "ROWS_OF_PART", request.param)
    emulator.rules(RULES)
    return Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state"))


# By kind, for each row that has them.
ERRORS = {"missing": 2, "refusal": 2, "schema_mismatch": 1}


def _check_table(warehouse: Warehouse, errors: Mapping[str, int]) -> None:
    assert warehouse.rows(
        "select enrichment_status, count(*), count(summary) from enriched group by 1 order by 1"
    ) == [("done", 32, 32), ("failed", 2, 0), ("skipped", 6, 0)]
    assert not warehouse.rows(
        "select * from enriched where enrichment_status = 'done' "
        # The scripted answer to a repair is another one.
        "and summary is distinct from 'summary: ' || note and note <> 'note 3'"
    )
    found = dict(warehouse.rows("select kind, count(*) from enriched__errors group by 1"))
    assert found == errors


def test_a_run_asks_each_request_once(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """Failures again by their rules; each row gets its answer, its status and its errors."""
    warehouse.enrich(NOTES)
    _check_table(warehouse, ERRORS)
    paid = emulator.account()["request_keys"]
    assert len(paid) == 24
    assert sorted(paid.values()) == [*[1] * 22, 2, 2]
    outcome = warehouse.enrich(NOTES)
    assert "32 reused, 0 sent" in outcome.summary
    _check_table(warehouse, ERRORS)


def test_a_plan_counts_what_a_run_would_do(warehouse: Warehouse) -> None:
    """What is new, changed, equal, answered and in flight."""
    planned = warehouse.enrich(NOTES, mode="plan").summary
    assert "40 rows: 0 answered before, 34 new, 0 changed, 10 equal to others, 6 skipped" in planned
    assert "24 requests to send" in planned
    warehouse.enrich(NOTES, mode="submit")
    planned = warehouse.enrich(NOTES, mode="plan").summary
    assert "0 new, 0 changed, 10 equal to others, 24 in flight, 6 skipped" in planned
    warehouse.enrich(NOTES)
    changed = f"select id, if(id % 4 = 1, 'new ' || note, note) as note from ({NOTES})"
    planned = warehouse.enrich(changed, mode="plan").summary
    (asked,) = warehouse.rows(
        f"select count(*), count(distinct note) from ({changed}) where note like 'new%'"
    )
    assert f"0 new, {asked[0]} changed" in planned
    assert f"{asked[1]} requests to send" in planned


def test_a_lost_state_directory_is_recovered(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """The table and its errors hold all answers."""
    warehouse.enrich(NOTES)
    paid = emulator.account()["request_keys"]
    shutil.rmtree(warehouse.config.state_dir)
    warehouse.restart()
    outcome = warehouse.enrich(NOTES)
    assert "32 reused, 0 sent" in outcome.summary
    assert emulator.account()["request_keys"] == paid
    _check_table(warehouse, ERRORS)


def test_previous_answers_are_kept(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """Under a changed prompt only what failed before is asked."""
    warehouse.enrich(NOTES)
    before = sum(emulator.account()["request_keys"].values())
    changed = summary_task(system="Summarise the note in short.")
    warehouse.enrich(NOTES, changed, on_task_change="new_rows")
    _check_table(warehouse, {"refusal": 2})
    assert sum(emulator.account()["request_keys"].values()) == before + 1
