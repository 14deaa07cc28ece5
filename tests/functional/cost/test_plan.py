"""Plans: what they say is what a run sends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.cli.plan import sentences
from dbt_enrich.cost.money import money_text
from dbt_enrich.environment import REPORTS_VARIABLE
from dbt_enrich.errors import TaskChangedError
from dbt_enrich.state.ledger import Ledger
from support.warehouse import Warehouse, config_for, summary_task

NOTES = "select i as id, 'note ' || i as note from range(300) as numbers(i)"


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to which the engine reports."""
    path = tmp_path / "reports.jsonl"
    monkeypatch.setenv(REPORTS_VARIABLE, str(path))
    return path


def warehouse_for(emulator: RunningEmulator, tmp_path: Path, **changes: Any) -> Warehouse:
    """A warehouse whose Azure resource is the emulator."""
    return Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state", **changes))


def newest(reports: Path, kind: str = "plan") -> dict[str, Any]:
    """What the engine reported last."""
    found: dict[str, Any] = json.loads(reports.read_text().splitlines()[-1])[kind]
    return found


@pytest.mark.parametrize(
    "options", [{}, {"rows_per_request": 4}, {"tokens_per_request": 20}], ids=str
)
@pytest.mark.parametrize(
    "limits", [{"max_enqueued_tokens": 6_000}, {"max_requests_per_file": 20}], ids=str
)
def test_a_plan_counts_the_files_that_a_run_sends(
    emulator: RunningEmulator,
    tmp_path: Path,
    reports: Path,
    options: dict[str, Any],
    limits: dict[str, Any],
) -> None:
    """Also where the deployment's quota makes them smaller than the service would take."""
    warehouse = warehouse_for(emulator, tmp_path, **limits)
    warehouse.enrich(NOTES, mode="plan", **options)
    plan = newest(reports)
    emulator.pause()
    warehouse.enrich(NOTES, mode="submit", **options)
    with Ledger(tmp_path / "state" / "ledger.sqlite") as ledger:
        assert plan["files"] == len(ledger.shards.all()) > 1


def test_a_plan_names_all_deployments_that_share_the_work(
    emulator: RunningEmulator, tmp_path: Path, reports: Path
) -> None:
    """Their quotas add up; with one of them unknown, nothing is said of room."""
    shared = {"gpt-4o-mini": ["west", "east"]}
    known = {"west": 80_000, "east": 100_000}
    warehouse = warehouse_for(emulator, tmp_path, deployments=shared, max_enqueued_tokens=known)
    warehouse.enrich(NOTES, mode="plan")
    text = "\n".join(sentences(newest(reports)))
    assert "fits into the 180,000 of the deployments west and east together" in text
    warehouse = warehouse_for(
        emulator, tmp_path, deployments=shared, max_enqueued_tokens={"west": 80_000}
    )
    warehouse.enrich(NOTES, mode="plan")
    assert "enqueued" not in "\n".join(sentences(newest(reports)))


def test_a_sample_of_packed_rows_is_of_rows(
    emulator: RunningEmulator, tmp_path: Path, reports: Path
) -> None:
    """Not of the requests that hold several of them."""
    notes = "select i as id, 'note ' || i as note from range(2500) as numbers(i)"
    warehouse_for(emulator, tmp_path).enrich(notes, mode="plan", rows_per_request=5)
    plan = newest(reports)
    assert plan["requests"] == 500
    assert any("a sample of 2,000 rows" in text for text in sentences(plan))


def test_rows_that_failed_in_a_pack_are_planned_alone(
    emulator: RunningEmulator, tmp_path: Path, reports: Path
) -> None:
    """As they are asked again: two rows of one pack are two requests."""
    warehouse = warehouse_for(emulator, tmp_path)
    notes = "select i as id, 'note ' || i as note from range(5) as numbers(i)"
    spoiled = [{"match": f"note {number}", "fault": "wrong_shape"} for number in (1, 2)]
    emulator.rules(spoiled)
    warehouse.enrich(notes, rows_per_request=5, max_attempts=2)
    assert warehouse.statuses() == {"done": 3, "failed": 2}
    warehouse.restart()
    warehouse.enrich(notes, mode="plan", rows_per_request=5, max_attempts=3)
    plan = newest(reports)
    assert (plan["requests"], plan["again"]) == (2, 2)


def test_a_changed_task_asks_only_rows_again_that_were_there(
    emulator: RunningEmulator, tmp_path: Path, reports: Path
) -> None:
    """New rows and their cost are not laid on the change."""
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich("select i as id, 'note ' || i as note from range(30) as numbers(i)")
    warehouse.restart()
    changed = summary_task(system="Summarise the note well.")
    warehouse.enrich(NOTES, changed, mode="plan")
    plan = newest(reports)
    assert (plan["changed"], plan["new"], plan["requests"]) == (30, 270, 300)
    cost = money_text(plan["estimate"]["cost"] / 10, "USD")
    (text,) = (line for line in sentences(plan) if "again" in line)
    assert text.endswith(f"the change of system text asks 30 rows again, about {cost}")


def test_a_preview_foretells_what_is_sent(
    emulator: RunningEmulator, tmp_path: Path, reports: Path
) -> None:
    """Equal rows once, and packs as packs."""
    notes = "select i as id, 'note ' || (i % 10) as note from range(40) as numbers(i)"
    warehouse = warehouse_for(emulator, tmp_path)
    options: dict[str, Any] = {"mode": "preview", "preview_model": "standard"}
    warehouse.enrich(notes, **options)
    single = newest(reports, "preview")["sentence"]
    assert "40 rows (10 of them differ) would take " in single
    warehouse.enrich(notes, rows_per_request=10, **options)
    packed = newest(reports, "preview")["sentence"]
    assert "40 rows (10 of them differ) would take, packed, " in packed

    def prompt(sentence: str) -> int:
        found = re.search(r"([\d,]+) input and [\d,]+ output tokens", sentence)
        assert found
        return int(found[1].replace(",", ""))

    assert prompt(packed) < prompt(single)


def test_a_plan_counts_rows_that_keep_previous_answers_and_those_without_a_text(
    emulator: RunningEmulator, tmp_path: Path, reports: Path
) -> None:
    """As many as the run then publishes; and says where a run would refuse."""
    warehouse = warehouse_for(emulator, tmp_path)
    notes = "select i as id, if(i = 3, '', 'note ' || i) as note from range({}) as numbers(i)"
    warehouse.enrich(notes.format(10))
    changed = summary_task(system="Summarise the note well.")
    options: dict[str, Any] = {"on_task_change": "new_rows"}
    warehouse.restart()
    warehouse.enrich(notes.format(12), changed, mode="plan", **options)
    plan = newest(reports)
    assert (plan["answered"], plan["kept"], plan["requests"], plan["skipped"]) == (9, 9, 2, 1)
    assert any("9 of the answered rows keep" in text for text in sentences(plan))
    warehouse.enrich(notes.format(12), changed, **options)
    with Ledger(tmp_path / "state" / "ledger.sqlite") as ledger:
        (publication,) = ledger.publications.all()
    assert publication.counts == {"done": 11, "skipped": 1, "kept": 9}
    again = summary_task(system="Summarise the note again.")
    warehouse.enrich(notes.format(12), again, mode="plan", on_task_change="error")
    plan = newest(reports)
    assert "the task changed (system text), and 11 requests would be sent" in plan["refusal"]
    assert any("a run would refuse" in text for text in sentences(plan))
    with pytest.raises(TaskChangedError, match="the task changed"):
        warehouse.enrich(notes.format(12), again, on_task_change="error")


def test_reasoning_is_left_out_of_a_plan_until_it_is_known(
    emulator: RunningEmulator, tmp_path: Path, reports: Path
) -> None:
    """And said to be; answers of another model, or another effort, do not tell it."""
    warehouse = warehouse_for(emulator, tmp_path)
    few = "select i as id, 'note ' || i as note from range(4) as numbers(i)"
    warehouse.enrich(few)

    def said(**changes: Any) -> str:
        warehouse.restart()
        warehouse.enrich(NOTES, summary_task(**changes), mode="plan")
        return "\n".join(sentences(newest(reports)))

    assert "reason" not in said()
    reasoning = {"model": "gpt-5-mini"}
    assert "left out are the tokens in which gpt-5-mini may reason first" in said(**reasoning)
    assert "left out" not in said(**reasoning, parameters={"reasoning_effort": "none"})
    warehouse.enrich(few, summary_task(**reasoning))
    assert "output tokens from the earlier answers" in said(**reasoning)
    assert "left out" in said(**reasoning, parameters={"reasoning_effort": "high"})
