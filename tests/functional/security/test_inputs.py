"""`store_inputs: false`: after collection the rows' text is in the warehouse alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator, running_emulator
from dbt_enrich.config import parse_config
from dbt_enrich.errors import BatchFailedError, ConfigurationError
from support.dbt_project import DbtProject
from support.leftovers import files_below, places_of
from support.warehouse import Warehouse, config_for

MARK = "m4rker of a private row"
NOTES = f"select i as id, '{MARK} ' || i as note from range(5) as numbers(i)"
# The answers stay, so they must not repeat what was asked.
RULES = [{"match": "", "answer": {"summary": "fine"}}]


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[RunningEmulator]:
    """An emulator whose answers do not repeat the request."""
    with running_emulator(tmp_path / "emulator") as running:
        running.rules(RULES)
        yield running


def warehouse_for(emulator: RunningEmulator, directory: Path, **changes: Any) -> Warehouse:
    """A warehouse in memory whose inputs are not stored."""
    values = {"store_inputs": False, "max_requests_per_file": 2, **changes}
    return Warehouse(config_for(emulator.url, emulator.api_key, directory / "state", **values))


def assert_forgotten(directory: Path) -> None:
    """No file of the state directory or of the emulator holds the rows' text."""
    roots = [directory / "state", directory / "emulator"]
    assert files_below(*roots)
    assert places_of([MARK], roots) == set()


def inputs_at(emulator: RunningEmulator) -> list[str]:
    """The input files that the service still has."""
    return [f["filename"] for f in emulator.jobs.files.all() if f["purpose"] == "batch"]


def test_a_run_leaves_answers_and_no_text(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Here and at the service; the answers serve the next run."""
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES)
    assert_forgotten(tmp_path)
    assert inputs_at(emulator) == []
    assert list((tmp_path / "state" / "answers").glob("*.parquet"))
    warehouse.restart()
    assert "5 reused, 0 sent" in warehouse.enrich(NOTES).summary
    assert_forgotten(tmp_path)


def test_they_stay_by_default(emulator: RunningEmulator, tmp_path: Path) -> None:
    """The service keeps them until they expire; this is what the other tests would miss."""
    warehouse_for(emulator, tmp_path, store_inputs=True).enrich(NOTES)
    assert len(inputs_at(emulator)) == 3
    assert places_of([MARK], [tmp_path / "state"]) == set()
    assert places_of([MARK], [tmp_path / "emulator"])


def test_the_key_may_be_set_later(emulator: RunningEmulator, tmp_path: Path) -> None:
    """What earlier runs kept, here and at the service, is removed by the first run with it."""
    warehouse_for(emulator, tmp_path, store_inputs=True, keep_files=True).enrich(NOTES)
    assert places_of([MARK], [tmp_path / "state"])
    warehouse_for(emulator, tmp_path).enrich(NOTES)
    assert_forgotten(tmp_path)
    assert inputs_at(emulator) == []


def test_what_is_in_flight_is_kept_until_it_is_collected(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Submit leaves the text where it is needed, and collect takes it away."""
    warehouse = warehouse_for(emulator, tmp_path)
    emulator.pause()
    warehouse.enrich(NOTES, mode="submit")
    assert len(inputs_at(emulator)) == 3
    emulator.resume()
    emulator.settle()
    warehouse.restart()
    warehouse.enrich(NOTES, mode="collect")
    assert warehouse.statuses() == {"done": 5}
    assert_forgotten(tmp_path)
    assert inputs_at(emulator) == []


def test_a_batch_that_failed_as_a_whole_leaves_none(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """It is released, and the next run takes its text away. The error says what it is about."""
    warehouse = warehouse_for(emulator, tmp_path, max_requests_per_file=50)
    emulator.endings(failed="invalid_request")
    with pytest.raises(BatchFailedError) as caught:
        warehouse.enrich(NOTES)
    (batch,) = emulator.jobs.batches()
    error = caught.value
    assert (error.model, error.batch) == ("enriched", batch["id"])
    assert error.shard == batch["metadata"]["shard"]
    warehouse.restart()
    emulator.endings()
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": 5}
    assert_forgotten(tmp_path)
    assert inputs_at(emulator) == []


def test_what_cannot_be_deleted_now_is_deleted_later(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """The run goes on and says so; the next one deletes, though it has nothing to send."""
    warehouse = warehouse_for(emulator, tmp_path, max_retries=0)
    emulator.faults({"name": "status", "operation": "DELETE /files", "status": 500, "times": None})
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": 5}
    assert len(inputs_at(emulator)) == 3
    assert any("the next run that turns to the service deletes it" in s for s in warehouse.log)
    emulator.faults()
    warehouse.restart()
    assert "0 sent" in warehouse.enrich(NOTES).summary
    assert inputs_at(emulator) == []
    assert_forgotten(tmp_path)


def test_an_upload_without_a_reply_leaves_none(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Its file is there, its id is not known: it is found by its name."""
    emulator.faults({"name": "lost_reply", "operation": "POST /files", "call": 1})
    warehouse = warehouse_for(emulator, tmp_path, max_retries=0)
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": 5}
    calls = [(call["method"], call["path"]) for call in emulator.account()["calls"]]
    assert calls.count(("POST", "/files")) == 4
    assert inputs_at(emulator) == []
    assert_forgotten(tmp_path)


def project_for(directory: Path, plugin: dict[str, Any]) -> DbtProject:
    """A dbt project whose inputs are not stored."""
    project = DbtProject(directory, {"store_inputs": False, "poll_interval": 0.1, **plugin})
    project.enrichment("notes_enriched", NOTES)
    return project


@pytest.mark.parametrize(
    "moment",
    [
        "claimed:after",
        "exported:before",
        "uploaded:before",
        "uploaded:after",
        "downloaded:after",
        "stored:after",
    ],
)
def test_a_killed_run_is_swept_by_the_next(
    moment: str, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Whatever lay there when the process died, no run but the next one is needed."""
    plugin = {"provider": "azure", "endpoint": emulator.url, "api_key": emulator.api_key}
    project = project_for(tmp_path, {**plugin, "adoption_grace": 0, "max_requests_per_file": 2})
    project.killed("run", kill_at=moment)
    assert places_of([MARK], [project.state_dir])
    project.dbt("run")
    assert project.rows("select distinct enrichment_status from notes_enriched") == [("done",)]
    assert_forgotten(tmp_path)
    assert set(emulator.account()["request_keys"].values()) == {1}


def test_the_local_emulator_keeps_none_either(tmp_path: Path) -> None:
    """Its files lie in the state directory too."""
    script = tmp_path / "rules.json"
    script.write_text(json.dumps(RULES), encoding="utf-8")
    plugin = {"provider": "local", "responder": "scripted", "script": str(script)}
    project = project_for(tmp_path, plugin)
    project.dbt("run")
    assert project.rows("select distinct enrichment_status from notes_enriched") == [("done",)]
    assert_forgotten(tmp_path)


def test_both_words_on_files_are_one_too_many() -> None:
    """The error names both keys."""
    values = {"provider": "local", "keep_files": True, "store_inputs": False}
    with pytest.raises(ConfigurationError, match=r"keep_files.*store_inputs"):
        parse_config(values, duckdb_settings={})
