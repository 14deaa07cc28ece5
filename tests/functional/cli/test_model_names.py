"""Versioned models and models of one name in two packages: each command means the right one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.cli.exits import ERROR
from support.dbt_project import DbtProject, azure

NOTES = "select i as id, 'note ' || i as note from range(3) as numbers(i)"
SQL = "{{ config(materialized = 'enrichment', unique_key = 'id') }}\n" + NOTES
IN_PYTHON = """
from dbt_enrich import EnrichmentTask, OutputColumn, enrich


def model(dbt, session):
    outputs = [OutputColumn(name="summary", data_type="varchar")]
    task = EnrichmentTask(model="gpt-4o-mini", user="python {note}", outputs=outputs)
    return enrich(dbt, session, dbt.ref("notes"), task, unique_key="id")
"""


def versioned(name: str, *versions: int, user: str) -> dict[str, Any]:
    """The YAML of a versioned model."""
    task = {"model": "gpt-4o-mini", "user": user, "output": ["summary"]}
    return {
        "name": name,
        "latest_version": 1,
        "config": {"meta": {"enrichment": task}},
        "columns": [{"name": "summary", "data_type": "varchar"}],
        "data_tests": [{"dbt_enrich.enrichment_complete": {"arguments": {"min_done": 1.0}}}],
        "versions": [{"v": version} for version in versions],
    }


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path) -> DbtProject:
    """Two models of version 1 whose prompts differ; dbt joins a list of one to itself."""
    project = DbtProject(tmp_path, azure(emulator.url, emulator.api_key))
    models = [versioned("a", 1, user="a {note}"), versioned("b", 1, user="b {note}")]
    models[1]["versions"][0]["config"] = {"meta": {"enrichment": {"output": ["summary"]}}}
    project.write("models/models.yml", {"version": 2, "models": models})
    project.write("models/a_v1.sql", SQL)
    project.write("models/b_v1.sql", SQL)
    project.write(
        "models/errors.sql",
        "select count(*) as n from {{ dbt_enrich.enrichment_errors('a', v=1) }}\n"
        "union all select count(*) from {{ dbt_enrich.enrichment_errors('notes', 'b', v=1) }}\n"
        "union all select count(*) from "
        "{{ dbt_enrich.enrichment_errors('b', package_name='notes') }}",
    )
    return project


def test_versions_are_told_apart(project: DbtProject, emulator: RunningEmulator) -> None:
    """Each command names them as dbt does; `forget` deletes the answers of one alone."""
    built = project.dbt("--warn-error", "build")
    for name in ("a.v1", "b.v1"):
        assert f"{name}: 3 done; 0 reused, 3 sent" in built
    assert project.rows("select n from errors") == [(0,), (0,), (0,)]

    status = json.loads(project.command("status", "--all", "--json"))
    assert {batch["model"] for batch in status["batches"]} == {"a.v1", "b.v1"}
    assert {table["name"] for table in status["tables"]} == {"a.v1", "b.v1"}
    report = project.command("report", "--select", "a", "--format", "json")
    assert [model["name"] for model in json.loads(report)["models"]] == ["a.v1"]
    assert len(json.loads(project.command("versions", "a.v1", "--json"))) == 1
    assert "a.v1: no row failed" in project.command("retry", "--select", "a_v1")

    assert "was never run" in project.command("forget", "--model", "v1", "--yes", exits=ERROR)
    assert "a.v1: 3 answers" in project.command("forget", "--model", "a", "--yes")
    again = project.dbt("run")
    assert "a.v1: 3 done; 0 reused, 3 sent" in again
    assert "b.v1: 3 done; 3 reused, 0 sent" in again
    assert set(emulator.account()["request_keys"].values()) == {1, 2}


def test_a_second_version_shares_what_it_asks(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """The name alone fits both; shared answers are deleted only where both are named."""
    project.write("models/a_v2.sql", SQL)
    models = [versioned("a", 1, 2, user="a {note}"), versioned("b", 1, user="b {note}")]
    project.write("models/models.yml", {"version": 2, "models": models})
    project.dbt("run", "--select", "a")
    for arguments in (
        ["versions", "a"],
        ["status", "--select", "a"],
        ["report", "--select", "a"],
        ["cancel", "--select", "a"],
        ["wait", "--select", "a"],
        ["retry", "--select", "a"],
        ["forget", "--model", "a", "--yes"],
        ["preview", "a"],
    ):
        text = project.command(*arguments, exits=ERROR)
        assert "the name 'a' fits 2 models: a.v1, a.v2; name one of them" in text
    kept = emulator.account()["request_keys"]
    assert set(kept.values()) == {1}
    refused = project.command("forget", "--model", "a.v1", "--yes", exits=ERROR)
    assert "are those of a.v2 too" in refused
    assert "3 reused, 0 sent" in project.dbt("run", "--select", "a.v2")
    both = project.command("forget", "--model", "a.v1", "--model", "a.v2", "--yes")
    assert "a.v1 and a.v2: 3 answers" in both
    assert json.loads(project.command("versions", "a.v2", "--json"))[0]["answers"] == 0
    plan = json.loads(project.command("plan", "--json", "--select", "a"))
    assert {one["name"] for one in plan} == {"a.v1", "a.v2"}

    models[0]["versions"][1]["config"] = {"meta": {"enrichment": {"output": ["title"]}}}
    project.write("models/models.yml", {"version": 2, "models": models})
    text = project.command("plan", "--select", "a.v2", exits=ERROR)
    assert "model 'a.v2': dbt joins the list meta.enrichment.output of this version" in text
    assert "makes it [title, summary]; write the whole list in each version" in text


def test_models_of_one_name_in_two_packages(project: DbtProject, emulator: RunningEmulator) -> None:
    """They are named with their packages; a Python model by its name, not by its table's."""
    other = {"name": "crm", "version": "1.0", "config-version": 2}
    package = "dbt_packages/crm"
    project.write(f"{package}/dbt_project.yml", other)
    model = versioned("c", user="crm {note}")
    del model["versions"], model["latest_version"]
    project.write(f"{package}/models/c.yml", {"models": [model]})
    project.write(
        f"{package}/models/c.sql", SQL.replace("unique_key", "schema = 'crm', unique_key")
    )
    project.enrichment("c", NOTES)
    project.write("models/notes.sql", NOTES)
    project.write("models/in_python.py", IN_PYTHON)
    project.write(
        "models/in_python.yml",
        {"models": [{"name": "in_python", "config": {"alias": "other_table"}}]},
    )
    project.write(
        "packages.yml",
        {"packages": [{"local": "dbt_packages/dbt_enrich"}, {"local": "dbt_packages/crm"}]},
    )
    built = project.dbt("run", "--select", "c", "+in_python")
    for name in ("crm.c", "notes.c", "in_python"):
        assert f"{name}: 3 done; 0 reused, 3 sent" in built
    text = project.command("forget", "--model", "c", "--yes", exits=ERROR)
    assert "the name 'c' fits 2 models: crm.c, notes.c" in text
    assert "crm.c: 3 answers" in project.command("forget", "--model", "crm.c", "--yes")
    status = json.loads(project.command("status", "--json"))
    assert [table["name"] for table in status["tables"]] == ["crm.c", "notes.c", "in_python"]
    assert sum(emulator.account()["request_keys"].values()) == 9
