"""Ctrl-C under a waiting dbt: it ends at once, its batches go on, and the next run collects."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from dbt_enrich.emulator.server import RunningEmulator
from support.dbt_project import DbtProject, azure

NOTES = "select i as id, 'note ' || i as note from range(5) as numbers(i)"


@pytest.mark.parametrize("poll_interval", [0.1, 60.0])
def test_the_next_run_collects(
    poll_interval: float, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """However long the pause between two looks is."""
    told = azure(emulator.url, emulator.api_key, poll_interval=poll_interval)
    project = DbtProject(tmp_path, told)
    project.enrichment("notes_enriched", NOTES)
    emulator.pause()
    process = project.start("run")
    deadline = time.monotonic() + 60
    while not emulator.jobs.batches():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    interrupted = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - interrupted < 20
    assert process.returncode != 0
    assert "the next dbt run collects it" in " ".join(output.split())
    (batch,) = emulator.jobs.batches()
    assert batch["status"] in ("validating", "in_progress")
    emulator.resume()
    emulator.settle()
    project.dbt("run")
    assert len(emulator.jobs.batches()) == 1
    assert set(emulator.account()["paid"].values()) == {1}
    assert project.rows("select distinct enrichment_status from notes_enriched") == [("done",)]
