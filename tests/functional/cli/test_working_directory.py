"""dbt and the commands from other directories than the project's: one state, one set of files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from batch_server.server import RunningEmulator
from support.dbt_project import DbtProject, azure
from support.forked_dbt import run_forked

NOTES = "select i as id, 'note ' || i as note from range(3) as numbers(i)"
RULES = [{"match": "", "answer": {"summary": "by rule"}}]
PRICES = {"models": {"gpt-4o-mini": {"input": 100, "output": 100}}}
IN_PYTHON = """
from dbt_enrich import EnrichmentTask, OutputColumn, enrich


def model(dbt, session):
    outputs = [OutputColumn(name="summary", data_type="varchar")]
    task = EnrichmentTask(model="gpt-4o-mini", user="python {note}", outputs=outputs)
    return enrich(dbt, session, dbt.ref("notes"), task, unique_key="id")
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory beside the project."""
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    return directory


def from_there(directory: Path, program: str, *arguments: str, **environment: str) -> str:
    """Run a command in a directory; assert that it succeeds and return what it printed."""
    code, text = run_forked(program, *arguments, directory=directory, environment=environment)
    assert code == 0, text
    assert "Traceback" not in text
    return text


def local_project(tmp_path: Path) -> DbtProject:
    """A project whose paths are all relative, but for the warehouse's."""
    plugin = {
        "provider": "local",
        "responder": "scripted",
        "state_dir": "state",
        "script": "rules.json",
    }
    project = DbtProject(tmp_path, plugin)
    project.write("rules.json", json.dumps(RULES))
    project.enrichment("notes_enriched", NOTES)
    project.write("models/notes.sql", NOTES)
    project.write("models/in_python.py", IN_PYTHON)
    return project


def test_dbt_keeps_its_state_in_the_project(tmp_path: Path, elsewhere: Path) -> None:
    """By a relative option, by DBT_PROJECT_DIR and by dbtRunner, SQL and Python models alike."""
    project = local_project(tmp_path)
    named = ["--project-dir", "../project", "--profiles-dir", "../project"]
    first = from_there(elsewhere, "dbt", "--no-use-colors", "run", *named)
    assert "notes_enriched: 3 done; 0 reused, 3 sent" in first
    assert "in_python: 3 done; 0 reused, 3 sent" in first
    assert project.rows("select distinct summary from notes_enriched") == [("by rule",)]

    project.execute("drop table notes_enriched; drop table in_python")
    environment = {
        "DBT_PROJECT_DIR": str(project.directory),
        "DBT_ENGINE_PROFILES_DIR": str(project.directory),
    }
    again = from_there(elsewhere, "dbt", "--no-use-colors", "run", **environment)
    assert "notes_enriched: 3 done; 3 reused, 0 sent" in again
    assert "in_python: 3 done; 3 reused, 0 sent" in again

    other = local_project(tmp_path / "other")
    project.execute("drop table notes_enriched")
    runner = (
        "import sys\n"
        "from dbt.cli.main import dbtRunner\n"
        "for root in sys.argv[1:]:\n"
        "    places = ['--project-dir', root, '--profiles-dir', root]\n"
        "    run = ['--no-use-colors', 'run', '--select', 'notes_enriched', *places]\n"
        "    assert dbtRunner().invoke(run).success\n"
    )
    roots = [str(project.directory), str(other.directory)]
    text = subprocess.run(
        [sys.executable, "-c", runner, *roots],
        cwd=elsewhere,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "notes_enriched: 3 done; 3 reused, 0 sent" in text
    assert "notes_enriched: 3 done; 0 reused, 3 sent" in text
    assert (other.directory / "state" / "ledger.sqlite").exists()
    assert not (elsewhere / "state").exists()
    assert not project.state_dir.exists()


def test_commands_from_elsewhere_act_on_the_project(
    emulator: RunningEmulator, tmp_path: Path, elsewhere: Path
) -> None:
    """What dbt sent from there is seen, waited for and published; there is no second ledger."""
    plugin = azure(emulator.url, emulator.api_key, state_dir=".enrichment", prices_file="p.json")
    project = DbtProject(tmp_path, plugin)
    project.write("p.json", json.dumps(PRICES))
    project.enrichment("notes_enriched", NOTES)
    named = ["--project-dir", str(project.directory)]
    emulator.pause()
    places = [*named, "--profiles-dir", str(project.directory)]
    from_there(elsewhere, "dbt", "run", "--vars", "{enrichment_mode: submit}", *places)
    # Neither here nor in ~/.dbt is a profile: the project's own is taken, by every command alike.
    home = {"HOME": str(tmp_path)}
    status = json.loads(from_there(elsewhere, "dbt-enrich", "status", "--json", *named, **home))
    assert status["batches"][0]["requests"] == 3
    assert status["batches"][0]["cost"] > 0.001
    assert '"pending": 3' in from_there(
        elsewhere, "dbt-enrich", "report", "--format", "json", *named, **home
    )
    emulator.resume()
    assert "3 answers stored" in from_there(elsewhere, "dbt-enrich", "wait", *named, **home)
    plan = from_there(elsewhere, "dbt-enrich", "plan", "--json", *named, **home)
    assert json.loads(plan)[0]["requests"] == 0
    from_there(elsewhere, "dbt-enrich", "run", *named, **home)
    assert "nothing is in flight" in from_there(elsewhere, "dbt-enrich", "cancel", *named, **home)
    assert project.rows("select enrichment_status, count(*) from notes_enriched group by 1") == [
        ("done", 3)
    ]
    assert sorted(path.name for path in elsewhere.iterdir()) == []
    # In a directory below the project, as dbt, without any option.
    below = from_there(
        project.directory / "models",
        "dbt-enrich",
        "status",
        DBT_PROFILES_DIR=str(project.directory),
    )
    assert "notes_enriched" in below


def test_a_state_directory_that_is_elsewhere_is_named(
    emulator: RunningEmulator, tmp_path: Path, elsewhere: Path
) -> None:
    """An earlier version left it where dbt was run; another project's is nobody's business."""
    project = DbtProject(tmp_path, azure(emulator.url, emulator.api_key, state_dir=".enrichment"))
    project.enrichment("notes_enriched", NOTES)
    project.dbt("run")
    own, stray = project.directory / ".enrichment", elsewhere / ".enrichment"
    places = ["--project-dir", str(project.directory), "--profiles-dir", str(project.directory)]
    shutil.copytree(own, stray)
    assert "holds answers of" not in from_there(elsewhere, "dbt-enrich", "status", *places)
    shutil.rmtree(own)
    for program, command in (("dbt-enrich", "status"), ("dbt", "run")):
        text = " ".join(from_there(elsewhere, program, command, *places).split())
        assert text.count(f"{stray} holds answers of this project") == 1
        assert f"move {stray} to {own}" in text
    shutil.rmtree(own)
    described = project.directory / "dbt_project.yml"
    described.write_text(described.read_text().replace("name: notes", "name: others", 1))
    assert "holds answers of" not in from_there(elsewhere, "dbt-enrich", "status", *places)


def test_commands_leave_the_parsed_project_to_dbt(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Dbt parses anew only what changed, before and after them, with variables of the user's."""
    project = DbtProject(tmp_path, azure(emulator.url, emulator.api_key))
    project.enrichment("notes_enriched", NOTES, meta={"preview_model": "gpt-4o-mini"})
    variables = ["--vars", "{a: 1}"]
    project.dbt("run", *variables)
    log = project.directory / "logs" / "dbt.log"
    log.unlink()
    places = ["--project-dir", "project", "--profiles-dir", "project", *variables]
    for command in (["plan"], ["run"], ["preview", "notes_enriched", "-n", "1"]):
        from_there(tmp_path, "dbt-enrich", *command, *places)
    project.dbt("run", *variables)
    parsed = log.read_text()
    assert parsed.count("Partial parsing enabled: 0 files deleted, 0 files added") == 4
    assert "Unable to do partial parsing" not in parsed


def test_the_mode_of_the_environment_is_checked(emulator: RunningEmulator, tmp_path: Path) -> None:
    """A typing error is no run that pays."""
    project = DbtProject(tmp_path, azure(emulator.url, emulator.api_key))
    project.enrichment("notes_enriched", NOTES)
    text = project.dbt("run", succeeds=False, DBT_ENRICH_MODE="sumbit")
    assert "DBT_ENRICH_MODE is 'sumbit', which is no mode; did you mean 'submit'?" in text
    assert not emulator.jobs.batches()
