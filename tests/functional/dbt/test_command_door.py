"""dbt without our plugin: `dbt-enrich` does the paid work between two runs of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from batch_server.server import RunningEmulator
from click.testing import CliRunner
from dbt_enrich.cli import main
from dbt_enrich.cli.dbt import DbtOptions
from dbt_enrich.cli.doors import door_of
from dbt_enrich.cli.project import Location, load_project
from dbt_enrich.task.options import Mode
from support.dbt_project import COMMAND, DbtProject, azure

NOTES = "select i as id, 'note ' || i as note from range(4) as numbers(i)"


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path) -> DbtProject:
    """A project without models, whose target has no plugin."""
    return DbtProject(tmp_path, azure(emulator.url, emulator.api_key), door=COMMAND)


def statuses(project: DbtProject, table: str = "notes") -> dict[str, int]:
    """How many rows of a table have which status."""
    found = project.rows(f"select enrichment_status, count(*) from {table} group by 1 order by 1")
    return dict(found)


def test_dbt_alone_sends_nothing_and_the_command_does_it_all(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """A bare `dbt run` publishes what is known, before the command and after it."""
    project.enrichment("notes", NOTES)
    # Also where a mode of the plugin's is given, which dbt alone does not do.
    output = project.bare_dbt("run", DBT_ENRICH_MODE="submit")
    assert "notes: 4 rows are pending; `dbt-enrich run --select notes` sends and" in output
    assert statuses(project) == {"pending": 4}
    assert emulator.account()["paid"] == {}
    output = project.command("run")
    assert statuses(project) == {"done": 4}
    assert set(emulator.account()["paid"].values()) == {1}
    assert output.count("Running with dbt") == 2
    before = project.rows("from notes order by id")
    output = project.bare_dbt("run")
    assert "pending" not in output
    assert project.rows("from notes order by id") == before
    assert project.rows("select count(*) from notes__errors") == [(0,)]


def test_rows_that_change_are_asked_and_never_wear_another_texts_answer(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """A bare `dbt run` has them stale, or pending without a word where `on_pending` says so."""
    project.enrichment("notes", NOTES)
    project.command("run")
    changed = NOTES.replace("'note ' || i", "if(i = 1, 'another', 'note ' || i)")
    project.enrichment("notes", changed)
    project.bare_dbt("run")
    assert statuses(project) == {"done": 3, "stale": 1}
    ((previous, status),) = project.rows(
        "select summary, enrichment_status from notes where id = 1"
    )
    assert (previous is not None, status) == (True, "stale")
    project.enrichment("notes", changed, meta={"on_pending": "null"})
    project.bare_dbt("run")
    assert project.rows("select summary, enriched_at, enrichment_key from notes where id = 1") == [
        (None, None, None)
    ]
    project.command("run")
    assert statuses(project) == {"done": 4}
    paid = emulator.account()["paid"]
    assert (len(paid), set(paid.values())) == (5, {1})


def test_another_question_has_every_row_stale_at_once(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """Also where dbt runs alone; what does not change the question leaves them done."""
    project.enrichment("notes", NOTES)
    project.command("run")
    project.enrichment("notes", NOTES, meta={"max_attempts": 5})
    project.bare_dbt("run")
    assert statuses(project) == {"done": 4}
    columns = [{"name": "summary", "data_type": "varchar", "description": "In one word"}]
    project.enrichment("notes", NOTES, columns=columns)
    project.bare_dbt("run")
    assert statuses(project) == {"stale": 4}
    assert project.rows("select count(summary) from notes") == [(4,)]
    project.command("run")
    assert statuses(project) == {"done": 4}
    assert sorted(emulator.account()["paid"].values()) == [1] * 8
    project.enrichment("notes", NOTES)
    project.bare_dbt("run")
    assert statuses(project) == {"stale": 4}
    project.command("run")
    assert statuses(project) == {"done": 4}
    assert sorted(emulator.account()["paid"].values()) == [1] * 8


def test_failures_are_told_and_asked_again_on_request(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """The errors table has each attempt; the exit code says so; `retry` asks the row once more."""
    emulator.rules([{"match": "note 2", "fault": "wrong_shape"}])
    project.enrichment("notes", NOTES, meta={"max_attempts": 2, "warn_failed_share": 1})
    project.command("run", exits=4)
    assert statuses(project) == {"done": 3, "failed": 1}
    assert project.rows("select id, attempt, kind from notes__errors order by all") == [
        (2, 1, "schema_mismatch"),
        (2, 2, "schema_mismatch"),
    ]
    document = json.loads(project.command("status", "--json"))
    assert document["tables"][0]["counts"] == {"done": 3, "failed": 1}
    emulator.rules([])
    project.command("retry", "--select", "notes", "--kind", "schema_mismatch")
    project.command("run")
    assert statuses(project) == {"done": 4}


def test_plan_and_preview_leave_the_table_alone(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """They count and show all rows, those that have their answer too."""
    project.enrichment("notes", NOTES)
    (plan,) = json.loads(project.command("plan", "--json"))
    assert (plan["staged"], plan["new"], plan["requests"]) == (4, 4, 4)
    assert project.rows("select count(*) from notes") == [(0,)]
    assert emulator.account()["paid"] == {}
    project.command("run")
    project.enrichment("notes", NOTES.replace("range(4)", "range(6)"))
    (plan,) = json.loads(project.command("plan", "--json"))
    assert (plan["staged"], plan["answered"], plan["requests"]) == (6, 4, 2)
    shown = json.loads(project.command("preview", "notes", "-n", "2", "--json"))
    assert [len(one["rows"]) for one in shown] == [2]
    assert statuses(project) == {"done": 4}


@pytest.mark.parametrize(
    "moment", ["copy_rows:after", "write_results:before", "write_results:after"]
)
def test_the_command_may_be_killed_between_its_calls(
    project: DbtProject, emulator: RunningEmulator, moment: str
) -> None:
    """Nothing is asked twice, and no answer is lost; dbt alone publishes what was written."""
    project.enrichment("notes", NOTES)
    project.killed_command("run", kill_at=moment)
    project.bare_dbt("run")
    assert statuses(project) == {"done" if moment == "write_results:after" else "pending": 4}
    project.command("run")
    assert statuses(project) == {"done": 4}
    paid = emulator.account()["paid"]
    assert (len(paid), set(paid.values())) == (4, {1})
    assert list((project.state_dir / "runs").iterdir()) == []


def test_a_row_that_changes_while_it_is_asked_is_asked_anew(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """Between staging and publishing: its answer is kept, and stands for its own text alone."""
    project.enrichment("notes", NOTES)
    project.killed_command("run", kill_at="write_results:before")
    project.enrichment("notes", NOTES.replace("'note ' || i", "if(i = 1, 'new', 'note ' || i)"))
    emulator.pause()
    project.command("submit")
    assert statuses(project) == {"done": 3, "pending": 1}
    emulator.resume()
    project.command("run")
    assert statuses(project) == {"done": 4}
    project.enrichment("notes", NOTES)
    project.command("run")
    assert statuses(project) == {"done": 4}
    paid = emulator.account()["paid"]
    assert (len(paid), set(paid.values())) == (5, {1})


def test_lost_results_come_back_and_a_lost_ledger_learns_from_them(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """Each of the two is a second source of the answers to the other."""
    project.enrichment("notes", NOTES)
    project.command("run")
    project.execute("drop table main_enrichment.notes__results")
    project.bare_dbt("run")
    assert statuses(project) == {"pending": 4}
    project.command("run")
    assert statuses(project) == {"done": 4}
    shutil.rmtree(project.state_dir)
    for (batch,) in project.rows("select distinct enrichment_batch_id from notes"):
        emulator.forget(batch)
    # As if another version of dbt had staged them: all rows are looked at again.
    project.execute("update main_enrichment.notes__results set enrichment_row = 'another'")
    project.enrichment("notes", NOTES.replace("range(4)", "range(5)"))
    project.command("run")
    assert statuses(project) == {"done": 5}
    paid = emulator.account()["paid"]
    assert (len(paid), set(paid.values())) == (5, {1})


def test_both_doors_share_their_answers(
    project: DbtProject, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Keys are the engine's own: what one has paid, the other finds, whatever staged it."""
    other = DbtProject(tmp_path / "other", azure(emulator.url, emulator.api_key))
    other.configure(azure(emulator.url, emulator.api_key, state_dir=str(project.state_dir)))
    select = (
        f"select *, 1.5::decimal(4,1) as number, now()::timestamp is null as flag from ({NOTES})"
    )
    meta = {"user": "{note} {number} {flag}"}
    other.enrichment("notes", select, meta=meta)
    other.dbt("run")
    project.enrichment("notes", select, meta=meta)
    project.command("run")
    assert statuses(project) == {"done": 4}
    columns = "id, enrichment_key, summary, enrichment_batch_id"
    assert project.rows(f"select {columns} from notes order by id") == other.rows(
        f"select {columns} from notes order by id"
    )
    paid = emulator.account()["paid"]
    assert (len(paid), set(paid.values())) == (4, {1})


def test_a_chain_goes_on_to_its_end(project: DbtProject, emulator: RunningEmulator) -> None:
    """A second enrichment waits for the first one's texts, and skips none that is still to come."""
    project.enrichment("notes", NOTES)
    select = "select id, summary as note from {{ ref('notes') }}"
    columns = [{"name": "topic", "data_type": "varchar"}]
    project.enrichment("topics", select, meta={"output": ["topic"]}, columns=columns)
    emulator.pause()
    project.command("submit")
    assert statuses(project, "topics") == {"pending": 4}
    (text,) = project.rows("select distinct enrichment_error from topics")[0]
    assert text == "missing_input: waits for the text of notes"
    emulator.resume()
    project.command("run")
    assert (statuses(project), statuses(project, "topics")) == ({"done": 4}, {"done": 4})
    assert set(emulator.account()["paid"].values()) == {1}


def test_rows_are_merged_by_their_key(project: DbtProject, emulator: RunningEmulator) -> None:
    """With `publish: merge` the SELECT may yield new rows alone; unfinished ones go on."""
    select = f"""select * from ({NOTES}) {{% if dbt_enrich.is_incremental() %}}
        where id > (select max(id) from {{{{ this }}}}){{% endif %}}"""
    project.enrichment("notes", select, meta={"publish": "merge"})
    emulator.pause()
    project.command("submit")
    assert statuses(project) == {"pending": 4}
    emulator.resume()
    emulator.settle()
    project.command("collect")
    assert statuses(project) == {"done": 4}
    emulator.rules([{"match": "note 5", "fault": "wrong_shape"}])
    more = select.replace("range(4)", "range(6)")
    project.enrichment("notes", more, meta={"publish": "merge", "max_attempts": 1})
    project.command("run", exits=4)
    assert statuses(project) == {"done": 5, "failed": 1}
    assert project.rows("select id from notes__errors") == [(5,)]
    assert project.rows("select count(*) from main_enrichment.notes__rows") == [(2,)]


def test_a_repeated_key_is_refused_by_dbt_alone(project: DbtProject) -> None:
    """Also where one of the rows has its answer, so that the command would see the other alone."""
    project.enrichment("notes", NOTES)
    project.command("run")
    project.enrichment("notes", f"{NOTES} union all select 2, 'another'")
    output = " ".join(project.bare_dbt("run", succeeds=False).split())
    assert "the unique_key 'id' is not unique: the value 2 stands in 2 rows" in output
    assert statuses(project) == {"done": 4}


def test_what_is_wrong_with_one_model_leaves_the_others_alone(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """Its rows stay pending, and so do those of what reads it; nothing of it is sent."""
    project.enrichment("notes", NOTES)
    project.enrichment("bad", NOTES, meta={"temprature": 1})
    columns = [{"name": "topic", "data_type": "varchar"}]
    select = "select id, summary as note from {{ ref('bad') }}"
    project.enrichment("topics", select, meta={"output": ["topic"]}, columns=columns)
    project.command("submit", "--select", "path:models/notes.sql")
    output = project.command("run", exits=1)
    assert "Error: model 'bad': meta.enrichment has the unknown key 'temprature'" in output
    assert statuses(project, "bad") == {"pending": 4}
    assert "topics" not in output.partition("Error")[2].partition("Running with dbt")[0]
    assert project.command("run", "--select", "path:models/notes.sql").count("notes: 4 done") >= 1
    assert statuses(project) == {"done": 4}
    assert "nothing new" in project.command("run", "--select", "path:models/notes.sql")
    project.command("run", "--select", "tag:nothing")
    assert len(emulator.account()["paid"]) == 4


def test_a_model_whose_parents_are_not_built_is_not_planned(project: DbtProject) -> None:
    """Its SELECT cannot be run; the plan says what it waits for."""
    project.write("models/source.sql", NOTES)
    project.enrichment("notes", "select * from {{ ref('source') }}")
    output = project.command("plan")
    assert "notes: cannot be counted yet: it reads source, not built yet" in output
    project.bare_dbt("run", "--select", "source")
    (plan,) = json.loads(project.command("plan", "--json"))
    assert plan["requests"] == 4


def test_dbt_may_be_another_program(
    project: DbtProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment names it, with what comes before its arguments."""
    seen = tmp_path / "seen"
    program = tmp_path / "mydbt"
    program.write_text(f'#!/bin/sh\necho "$@" >> {seen}\necho not today\nexit 2\n')
    program.chmod(0o755)
    project.enrichment("notes", NOTES)
    location = Location(project.directory, project.directory)
    monkeypatch.setenv("DBT_ENRICH_DBT", f"{program} --fast")
    monkeypatch.setenv("NOTES_API_KEY", "none")
    step = door_of(load_project(location), DbtOptions(location, ("notes",))).step(Mode.SUBMIT)
    assert (step.code, step.published) == (1, [])
    assert seen.read_text().startswith("--fast run --project-dir ")
    assert seen.read_text().endswith("--select notes\n")


def test_answers_that_were_kept_are_asked_again_where_the_task_says_so_later(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """`new_rows` keeps them; without it they are no answers to the task."""
    project.enrichment("notes", NOTES)
    project.command("run")
    task = {"system": "Sum it up.", "on_task_change": "new_rows"}
    project.enrichment("notes", NOTES, meta=task)
    assert "4 done" in project.command("run")
    assert len(emulator.account()["paid"]) == 4
    project.enrichment("notes", NOTES, meta={**task, "on_task_change": "all"})
    project.command("run")
    assert sorted(emulator.account()["paid"].values()) == [1] * 8
    assert project.rows("select count(distinct enrichment_version), count(*) from notes") == [
        (1, 4)
    ]
    assert "4 done; 4 reused, 0 sent, 0 input and 0 output tokens; nothing new" in (
        project.command("run")
    )


@pytest.mark.parametrize(
    ("built", "code", "said"),
    [
        ([("model.notes.notes", "reused")], 1, "dbt State reused the table of notes"),
        ([], 0, "no enrichment was run"),
    ],
)
def test_what_dbt_passes_over_is_no_silent_success(
    project: DbtProject,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    built: list[tuple[str, str]],
    code: int,
    said: str,
) -> None:
    """A program writes what dbt does with dbt State, which is a service, or with nothing."""
    node = {
        "resource_type": "model",
        "name": "notes",
        "config": {"materialized": "enrichment"},
        "depends_on": {"nodes": []},
    }
    written = {
        "manifest": {"nodes": {"model.notes.notes": node}},
        "run_results": {"results": [{"unique_id": i, "status": status} for i, status in built]},
    }
    target = project.directory / "target"
    lines = [f"echo '{json.dumps(text)}' > {target}/{name}.json" for name, text in written.items()]
    program = tmp_path / "dbt"
    program.write_text("\n".join(["#!/bin/sh", f"mkdir -p {target}", *lines, ""]))
    program.chmod(0o755)
    monkeypatch.setenv("DBT_ENRICH_DBT", str(program))
    monkeypatch.setenv("NOTES_API_KEY", "none")
    places = ("--project-dir", str(project.directory), "--profiles-dir", str(project.directory))
    done = CliRunner().invoke(main, ["run", *places])
    assert (done.exit_code, said in f"{done.output}{done.exception}") == (code, True), done.output
