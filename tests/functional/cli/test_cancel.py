"""`dbt-enrich cancel`: batches end, what they finished is kept, and no run asks the rest."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from click.testing import CliRunner
from dbt_enrich.cli import main
from dbt_enrich.console.console import Console
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.pipeline.cancel import Cancellation, cancel
from support.waiting import wait_until
from support.warehouse import Warehouse, config_for

NOTES = "select i as id, 'note ' || i as note from range(6) as numbers(i)"


@pytest.fixture
def warehouse(emulator: RunningEmulator, tmp_path: Path) -> Warehouse:
    """A warehouse of two batches."""
    config = config_for(emulator.url, emulator.api_key, tmp_path / "state", max_requests_per_file=3)
    return Warehouse(config)


def cancelled(warehouse: Warehouse, *models: str, log: Any = print) -> Cancellation:
    """Cancel as the command does."""
    return cancel(warehouse.config, "tests", models=models, wait=30, console=Console(log))


def test_batches_end_and_finished_answers_are_kept(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """One batch has finished, the other is stuck and cut off; the next run asks only its rows."""
    emulator.endings({"stuck": True, "call": 2})
    warehouse.enrich(NOTES, mode="submit")
    finished = emulator.jobs.batches()[-1]["id"]
    wait_until(lambda: emulator.jobs.batch(finished)["status"] == "completed")
    assert cancelled(warehouse) == Cancellation(batches=2, requests=6, kept=3)
    warehouse.restart()
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": 6}
    assert set(emulator.account()["paid"].values()) == {1}


def test_nothing_is_paid_for_a_batch_that_is_cancelled_in_time(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """Its rows are failed as `cancelled` until a run sends them again."""
    emulator.pause()
    warehouse.enrich(NOTES, mode="submit")
    assert cancelled(warehouse) == Cancellation(batches=2, requests=6)
    warehouse.restart()
    warehouse.enrich(NOTES, mode="collect")
    assert warehouse.rows("select distinct enrichment_status, enrichment_error from enriched") == [
        ("failed", "cancelled: This request was cancelled before it could be executed.")
    ]
    emulator.resume()
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": 6}
    assert set(emulator.account()["paid"].values()) == {1}


def test_a_run_that_waits_takes_in_what_was_done_and_asks_no_more(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """It would otherwise send at once what the user has just cancelled."""
    emulator.pause()
    run = threading.Thread(target=warehouse.enrich, args=(NOTES,))
    run.start()
    wait_until(lambda: len(emulator.jobs.batches()) == 2)
    result = cancelled(warehouse)
    assert result.waiting == 2
    run.join(timeout=600)
    assert not run.is_alive()
    assert warehouse.statuses() == {"failed": 6}
    assert len(emulator.jobs.batches()) == 2


def test_only_the_selected_model_s_batches_end(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """By its name or its unique id."""
    emulator.pause()
    warehouse.enrich(NOTES, mode="submit")
    warehouse.enrich("select 9 as id, 'other' as note", table="other", mode="submit")
    assert cancelled(warehouse, "other").batches == 1
    statuses = sorted(batch["status"] for batch in emulator.jobs.batches())
    assert statuses.count("cancelled") == 1
    assert cancelled(warehouse, "model.tests.enriched").batches == 2


def test_a_name_that_no_model_has_is_refused(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """Nothing is in flight of it, but that is not what was meant."""
    emulator.pause()
    warehouse.enrich(NOTES, mode="submit")
    with pytest.raises(ConfigurationError, match=r"'enrichd' was never run.*enriched"):
        cancelled(warehouse, "enrichd")


def test_batches_are_found_with_the_state_directory_gone(
    warehouse: Warehouse, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """By listing, as every run finds them."""
    emulator.pause()
    warehouse.enrich(NOTES, mode="submit")
    lost = Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "fresh"))
    assert cancelled(lost).batches == 2
    assert {batch["status"] for batch in emulator.jobs.batches()} == {"cancelled"}


PROFILE = """
shop:
  target: dev
  outputs:
    dev:
      type: duckdb
      path: ":memory:"
      plugins:
        - module: dbt_enrich.plugin
          config:
            provider: azure
            endpoint: "{{ env_var('SHOP_ENDPOINT') }}"
            api_key: "{{ env_var('SHOP_KEY') }}"
            state_dir: state
            poll_interval: 0.05
            adoption_grace: 0
    plain:
      type: duckdb
      path: ":memory:"
"""


@pytest.fixture
def project(tmp_path: Path, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dbt project whose profile has the plugin."""
    root = tmp_path / "shop"
    root.mkdir()
    (root / "dbt_project.yml").write_text("name: shop\nprofile: shop\nversion: '1.0'\n")
    (root / "profiles.yml").write_text(PROFILE)
    monkeypatch.setenv("SHOP_ENDPOINT", emulator.url)
    monkeypatch.setenv("SHOP_KEY", emulator.api_key)
    monkeypatch.chdir(tmp_path)
    return root


def test_the_command_reads_the_profile_as_dbt_does(
    project: Path, emulator: RunningEmulator
) -> None:
    """Project, target and environment variables, from any directory."""
    config = config_for(emulator.url, emulator.api_key, project / "state")
    house = Warehouse(config)
    house.engine.namespace = "shop"
    emulator.pause()
    house.enrich(NOTES, mode="submit")
    done = CliRunner().invoke(main, ["cancel", "--project-dir", str(project)])
    assert done.exit_code == 0, done.output
    assert "asked the service to end 1 batch of 6 requests" in done.output
    again = CliRunner().invoke(main, ["cancel", "--project-dir", str(project)])
    assert "nothing is in flight" in again.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--project-dir", "."], "holds no dbt_project.yml"),
        (
            ["--project-dir", "shop", "--target", "plain"],
            "'plain' is not configured: its plugin dbt_enrich.plugin is not there",
        ),
        (["--project-dir", "shop", "--target", "prod"], "prod"),
    ],
)
def test_a_wrong_project_is_one_sentence(project: Path, arguments: list[str], said: str) -> None:
    """That names what to do."""
    done = CliRunner().invoke(main, ["cancel", *arguments])
    assert done.exit_code == 1
    assert said in done.output
    assert "Traceback" not in done.output
