"""Plans: what they say is what a run sends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dbt_enrich.cli.plan import sentences
from dbt_enrich.emulator.server import RunningEmulator
from dbt_enrich.ledger import Ledger
from dbt_enrich.pipeline.reports import REPORTS_VARIABLE
from support.warehouse import Warehouse, config_for

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
        assert plan["files"] == len(ledger.all_shards()) > 1


def test_a_plan_names_all_deployments_that_share_the_work(
    emulator: RunningEmulator, tmp_path: Path, reports: Path
) -> None:
    """Their quotas add up; with one of them unknown, nothing is said of room."""
    shared = {"gpt-4o-mini": ["west", "east"]}
    known = {"west": 80_000, "east": 100_000}
    warehouse = warehouse_for(emulator, tmp_path, deployments=shared, max_enqueued_tokens=known)
    warehouse.enrich(NOTES, mode="plan")
    said = "\n".join(sentences(newest(reports)))
    assert "fits into the 180,000 of the deployments west and east together" in said
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
    assert any("a sample of 2,000 rows" in said for said in sentences(plan))
