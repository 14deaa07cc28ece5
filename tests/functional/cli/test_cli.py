"""The commands, with real dbt in processes of its own, as a user types them."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from click.testing import CliRunner
from dbt_enrich.cli import main
from dbt_enrich.cli.dbt import DbtOptions, run_dbt
from dbt_enrich.cli.exits import FAILED_ROWS, PENDING
from dbt_enrich.console.timings import Stage
from dbt_enrich.task.options import Mode
from filelock import FileLock
from support.dbt_project import DbtProject, azure
from support.forked_dbt import run_forked

NOTES = "select i as id, 'note ' || i as note from range(6) as numbers(i)"


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path) -> DbtProject:
    """A project with one enrichment."""
    project = DbtProject(tmp_path, azure(emulator.url, emulator.api_key))
    project.enrichment("notes_enriched", NOTES)
    return project


def answered(emulator: RunningEmulator) -> int:
    """How many requests were answered."""
    return sum(emulator.account()["request_keys"].values())


def test_plan_shows_cost_and_changes_and_sends_nothing(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """As a table, as Markdown for a pull request, and as JSON."""
    first = project.command("plan")
    assert "notes_enriched" in first
    assert "USD 0.000" in first
    assert answered(emulator) == 0
    project.dbt("run")
    project.enrichment("notes_enriched", NOTES, meta={"system": "Another | prompt."})
    markdown = project.command("plan", "--format", "markdown", "--select", "notes_enriched")
    assert markdown.startswith("| model | rows |")
    assert "the change of system text asks 6 rows again, about USD 0.00" in markdown
    (plan,) = json.loads(project.command("plan", "--json"))
    assert (plan["staged"], plan["changed"], plan["new"], plan["requests"]) == (6, 6, 0, 6)
    assert plan["estimate"]["completion_source"] == "earlier answers"
    assert answered(emulator) == 6


def test_plan_and_run_take_what_a_bare_dbt_build_takes(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """A default selector leaves out what may not even have its rows yet."""
    project.enrichment("others_enriched", "select * from not_there_yet")
    definition = {"method": "fqn", "value": "notes_enriched"}
    selector = {"name": "usual", "default": True, "definition": definition}
    project.write("selectors.yml", {"selectors": [selector]})
    assert [plan["name"] for plan in json.loads(project.command("plan", "--json"))] == [
        "notes_enriched"
    ]
    project.command("run")
    assert answered(emulator) == 6
    assert project.rows("select count(*) from notes_enriched") == [(6,)]


def test_plan_and_preview_run_no_other_model(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """A Python model, which would send its rows, and a view that the enrichment reads."""
    project.write("models/upstream.sql", NOTES)
    project.write(
        "models/in_python.py",
        """
from dbt_enrich import EnrichmentTask, OutputColumn, enrich


def model(dbt, session):
    outputs = [OutputColumn(name="summary", data_type="varchar")]
    task = EnrichmentTask(model="gpt-4o-mini", user="{note}", outputs=outputs)
    return enrich(dbt, session, dbt.ref("upstream"), task, unique_key="id")
""",
    )
    assert "no enrichment is selected" in project.command("plan", "-s", "+in_python")
    assert "in_python has materialized" in project.command("preview", "in_python", exits=1)
    assert answered(emulator) == 0
    assert not project.warehouse.exists()


def test_plan_says_what_is_wrong_in_dbt_s_words(project: DbtProject) -> None:
    """And fails."""
    project.enrichment("notes_enriched", "select 1 as id, 'a' as note", meta={"user": "{nope}"})
    assert "names the column 'nope'" in project.command("plan", exits=1)


def test_preview_asks_now_and_stores_nothing(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """With time, tokens, and what the whole table would cost."""
    shown = project.command("preview", "notes_enriched", "-n", "2")
    assert shown.count("answered:") == 2
    assert "At this rate 6 rows would take" in shown
    assert "nothing was stored" in shown
    assert not emulator.jobs.batches()
    (found,) = json.loads(project.command("preview", "notes_enriched", "-n", "1", "--json"))
    assert found["rows"][0]["problem"] is None


def test_submit_status_wait_and_publish(project: DbtProject, emulator: RunningEmulator) -> None:
    """Status reads the ledger alone; wait brings the answers home without the warehouse."""
    assert "nothing was sent yet" in project.command("status")
    emulator.pause()
    project.dbt("run", "--vars", "enrichment_mode: submit")
    status = json.loads(project.command("status", "--json"))
    assert [(b["model"], b["requests"]) for b in status["batches"]] == [("notes_enriched", 6)]
    assert status["tables"][0]["counts"] == {"pending": 6}
    assert "still in flight" in project.command("wait", "--timeout", "0.3", exits=PENDING)
    emulator.resume()
    assert "1 batch, 6 answers stored" in project.command("wait")
    project.dbt("run")
    assert "cost so far: USD 0.000" in project.command("status")
    assert "notes_enriched" in project.command("status", "--all")
    assert answered(emulator) == 6


def test_status_says_that_a_local_batch_waits(tmp_path: Path) -> None:
    """With the local service a batch goes on only while some process runs that."""
    plugin = {"provider": "local", "responder": "scripted"}
    project = DbtProject(tmp_path, plugin)
    project.enrichment("notes_enriched", NOTES)
    project.dbt("run", "--vars", "enrichment_mode: submit")
    text = project.command("status")
    assert "1 batch waits: nothing runs the local service; `dbt-enrich wait` goes on" in text
    assert re.search(r"notes_enriched +batch_\S+ +waits ", text)
    (batch,) = json.loads(project.command("status", "--json"))["batches"]
    assert batch["waits"] is True
    users = project.state_dir / "local" / "users"
    with FileLock(users / "another.lock"):
        assert "nothing runs" not in project.command("status")
    assert (users / "another.lock").exists()
    assert "6 answers stored" in project.command("wait")
    assert "nothing is in flight" in project.command("status")


def test_status_names_the_target_that_published(project: DbtProject) -> None:
    """One state serves all targets; the table of another is not shown as this one's."""
    project.dbt("run", "--target", "prod")
    text = "this is the table of the target prod, which published last; dev may have none"
    assert f"notes_enriched: {text}" in project.command("status")
    assert "this is the table" not in project.command("status", "--target", "prod")
    (table,) = json.loads(project.command("status", "--json"))["tables"]
    assert table["target"] == "prod"


def test_run_goes_on_until_nothing_is_left_to_ask(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """Repairs included; the exit code tells rows that failed for good."""
    emulator.rules(
        [
            {"match": "note 2", "times": 1, "fault": "broken_json"},
            {"match": "note 4", "fault": "refusal"},
        ]
    )
    output = project.command("run", exits=FAILED_ROWS)
    assert "1 row failed" in output
    assert project.rows(
        "select enrichment_status, count(*) from notes_enriched group by 1 order by 1"
    ) == [("done", 5), ("failed", 1)]
    assert answered(emulator) == 7


def test_run_waits_for_batches_that_another_command_found(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """The state directory was lost, and nobody knew yet which model had asked."""
    emulator.pause()
    project.dbt("run", "--vars", "{enrichment_mode: submit}")
    shutil.rmtree(project.state_dir)
    project.command("wait", "--timeout", "0.1", exits=PENDING)
    output = project.command("run", "--timeout", "6", exits=PENDING)
    assert output.count("Running with dbt") <= 2, output
    emulator.resume()
    project.command("run")
    assert set(emulator.account()["paid"].values()) == {1}


def test_run_goes_on_where_another_command_stores_what_it_waits_for(
    project: DbtProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the end of dbt and the command's look at what is in flight."""

    def interleaved(
        options: DbtOptions, mode: Mode, environment: Mapping[str, str]
    ) -> tuple[int, list[dict[str, Any]]]:
        done = run_dbt(options, mode, environment)
        project.command("wait")
        return done

    def forked(
        command: Sequence[str], *, env: Mapping[str, str], **_: object
    ) -> subprocess.CompletedProcess[str]:
        directory = project.directory
        code, text = run_forked(
            "dbt", *command[3:], directory=directory, environment=env, inherits=False
        )
        assert code == 0, text
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr("dbt_enrich.cli.dbt.subprocess", SimpleNamespace(run=forked))
    module = importlib.import_module("dbt_enrich.cli.doors")
    monkeypatch.setattr(module, "run_dbt", interleaved)
    monkeypatch.chdir(project.directory)
    done = CliRunner().invoke(main, ["run", "--profiles-dir", str(project.directory)])
    assert done.exit_code == 0, done.output
    assert project.rows("select distinct enrichment_status from notes_enriched") == [("done",)]


def test_run_says_where_the_time_went(project: DbtProject) -> None:
    """Of dbt's part and of the wait: each stage with rows and seconds, and only where asked."""
    given = project.command("run", "--timings")
    for stage in set(Stage) - {Stage.WAIT}:
        assert re.search(rf"\b{stage} +6 +\d+\.\d +\d+\.\d\d ", given), stage
    project.enrichment("notes_enriched", NOTES, meta={"system": "Another prompt."})
    assert "peak MB" not in project.command("run")


def test_run_gives_up_in_time_and_goes_on_later(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """With rows pending; the next one sends nothing again."""
    emulator.pause()
    assert "still in flight" in project.command("run", "--timeout", "1", exits=PENDING)
    emulator.resume()
    project.command("run")
    assert project.rows("select distinct enrichment_status from notes_enriched") == [("done",)]
    assert answered(emulator) == 6


def test_retry_asks_failed_rows_once_more(project: DbtProject, emulator: RunningEmulator) -> None:
    """Also those whose rule says no; only of the kind that is named."""
    emulator.rules(
        [
            {"match": "note 1", "times": 1, "fault": "refusal"},
            {"match": "note 2", "times": 1, "fault": "content_filter_prompt"},
        ]
    )
    project.dbt("run")
    assert "2 failed rows" in project.command("retry", "--kind", "refusal")
    project.dbt("run")
    assert (
        project.rows(
            "select id, enrichment_error from notes_enriched where enrichment_status = 'failed'"
        )[0][0]
        == 2
    )
    assert answered(emulator) == 7
    project.command("retry")
    project.dbt("run")
    assert project.rows("select distinct enrichment_status from notes_enriched") == [("done",)]
    assert answered(emulator) == 8
    assert "'other' was never run" in project.command("retry", "--select", "other", exits=1)


def test_forget_says_the_price_and_has_everything_asked_again(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """Also what the enriched table still holds."""
    project.dbt("run")
    assert "Aborted" in project.command("forget", "--model", "notes_enriched", exits=1)
    project.dbt("run")
    assert answered(emulator) == 6
    output = project.command("forget", "--model", "notes_enriched", "--yes")
    assert "6 answers that cost USD 0.0000" in output
    project.dbt("run")
    assert answered(emulator) == 12
    text = project.command("forget", "--model", "other", "--yes", exits=1)
    assert "'other' was never run" in text


def test_versions_list_prompts_with_their_rows_and_diffs(project: DbtProject) -> None:
    """Newest first."""
    project.dbt("run")
    project.enrichment("notes_enriched", NOTES, meta={"system": "Be brief.\nVery."})
    project.dbt("run")
    shown = project.command("versions", "notes_enriched")
    lines = shown.splitlines()
    assert "system text" in lines[2]
    assert "published" in lines[2]
    assert "first" in lines[3]
    assert "+  Very." in shown
    listed = json.loads(project.command("versions", "notes_enriched", "--json"))
    assert [row["answers"] for row in listed] == [6, 6]


def test_plan_status_and_versions_agree_on_rows_that_keep_previous_answers(
    project: DbtProject,
) -> None:
    """And where `on_task_change` has the run refuse, a plan says so and stops a pipeline."""
    project.dbt("run")
    meta = {"system": "Be brief.", "on_task_change": "new_rows"}
    project.enrichment("notes_enriched", NOTES, meta=meta)
    assert "6 of the answered rows keep" in project.command("plan")
    project.dbt("run")
    (table,) = json.loads(project.command("status", "--json"))["tables"]
    assert table["counts"] == {"done": 6, "kept": 6}
    assert re.search(r"notes_enriched +6( +0){4} +6 ", project.command("status"))
    text = project.command("versions", "notes_enriched", "--no-diff")
    assert "notes_enriched: 6 of 6 done rows keep the answers to previous versions" in text
    newest, oldest = json.loads(project.command("versions", "notes_enriched", "--json"))
    assert (newest["kept"], oldest["kept"]) == (6, None)
    project.enrichment(
        "notes_enriched", NOTES, meta={"system": "Be long.", "on_task_change": "error"}
    )
    text = " ".join(project.command("plan", exits=1).split())
    assert "a run would refuse: model 'notes_enriched': the task changed (system text)" in text
    (plan,) = json.loads(project.command("plan", "--json", exits=1))
    assert "nothing was" in plan["refusal"]
    project.dbt("run", succeeds=False)
