"""`dbt-enrich doctor`: which door a project uses and why, and what its host needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from dbt_enrich.cli import diagnosis_host, main
from dbt_enrich.cli.hosts import KnownHost
from dbt_enrich.extras import Extra
from support.dbt_project import COMMAND, PLUGIN, DbtProject
from support.phrases import assert_two_phrases

LOCAL = {"provider": "local", "responder": "scripted"}


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for programs, the only one on the path."""
    directory = tmp_path / "programs"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


def says(directory: Path, text: str, name: str = "dbt") -> Path:
    """Put a program there that prints a text, as dbt prints its version."""
    program = directory / name
    program.write_text(f"#!/bin/sh\necho '{text}'\n")
    program.chmod(0o755)
    return program


def examined(project: DbtProject) -> dict[str, dict[str, str]]:
    """What the command finds, by subject."""
    places = ("--project-dir", str(project.directory), "--profiles-dir", str(project.directory))
    done = CliRunner().invoke(main, ["doctor", "--json", *places])
    findings: dict[str, dict[str, str]] = {one["subject"]: one for one in json.loads(done.stdout)}
    for finding in findings.values():
        if finding["verdict"] != "ok":
            assert_two_phrases(finding["found"], finding["fix"])
    return findings


@pytest.mark.parametrize(
    ("printed", "verdict", "said"),
    [
        ("Core: - installed: 1.12.6", "ok", "the plugin dbt_enrich.plugin of the target"),
        ("dbt 2.0.9", "warning", "the dbt on the path is 2.0.9, which has no plugins"),
        ("", "ok", "the plugin dbt_enrich.plugin of the target"),
    ],
)
def test_the_plugin_is_the_door_where_dbt_knows_plugins(
    tmp_path: Path, path: Path, printed: str, verdict: str, said: str
) -> None:
    """Dbt 2 passes over it in the profile; where none is on the path, none is started."""
    if printed:
        says(path, printed)
    found = examined(DbtProject(tmp_path, LOCAL, door=PLUGIN))
    assert found["configuration"]["found"] == "the plugin's block in profiles.yml"
    assert found["door"]["verdict"] == verdict
    assert said in found["door"]["found"]
    assert "dbt" not in found


def test_without_a_plugin_the_command_is_the_door(tmp_path: Path, path: Path) -> None:
    """With the dbt that it starts, whatever its version."""
    program = says(path, "dbt 2.0.9")
    found = examined(DbtProject(tmp_path, LOCAL, door=COMMAND))
    assert found["configuration"]["found"].startswith("dbt_enrich.yml, as the profile has no block")
    assert found["door"]["found"].startswith("the command `dbt-enrich run`, as the target has no")
    assert found["dbt"]["found"] == f"2.0.9 ({program})"
    assert found["database"]["verdict"] == "ok"


def test_the_profile_s_block_wins_and_says_so(tmp_path: Path, path: Path) -> None:
    """The file beside it is not even read, whatever it holds."""
    project = DbtProject(tmp_path, LOCAL, door=PLUGIN)
    project.write("dbt_enrich.yml", "no_such_key: 1\n")
    found = examined(project)
    said = "the plugin's block in profiles.yml; dbt_enrich.yml is not read"
    assert found["configuration"] == {**found["configuration"], "verdict": "ok", "found": said}


def test_what_is_wrong_with_the_file_is_not_said_of_the_profile(tmp_path: Path, path: Path) -> None:
    """It is a target that it does not name, say."""
    project = DbtProject(tmp_path, {**LOCAL, "targets": {"ci": {}}}, door=COMMAND)
    found = examined(project)
    assert found["configuration"]["found"] == "dbt_enrich.yml has no target 'dev'"
    assert "dev: {}" in found["configuration"]["fix"]
    assert "profile" not in found


def test_a_dbt_that_says_nothing_is_wrong(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a name in the environment that leads nowhere."""
    monkeypatch.setenv("DBT_ENRICH_DBT", str(path / "nowhere"))
    found = examined(DbtProject(tmp_path, LOCAL, door=COMMAND))
    assert (found["dbt"]["verdict"], "DBT_ENRICH_DBT" in found["dbt"]["fix"]) == ("wrong", True)


def on_postgres(tmp_path: Path, **changes: Any) -> DbtProject:
    """A project whose target is a server that is not there."""
    project = DbtProject(tmp_path, LOCAL, door=COMMAND)
    target = {
        "type": "postgres", "host": "127.0.0.1", "port": 9, "user": "notes", "password": "hunter2",
        "dbname": "notes", "schema": "public", **changes,
    }  # fmt: skip
    document = {"notes": {"target": "dev", "outputs": {"dev": target}}}
    project.write("profiles.yml", yaml.safe_dump(document))
    return project


@pytest.mark.parametrize(
    ("adapter", "way"),
    [("databricks", "`enrich` of dbt_enrich.spark"), ("snowflake", "name another target")],
)
def test_a_target_without_a_door_is_refused(tmp_path: Path, adapter: str, way: str) -> None:
    """By all commands, with what works there, and before dbt builds anything: there is no dbt."""
    project = on_postgres(tmp_path, type=adapter)
    found = examined(project)
    assert f"is of the type {adapter}; dbt-enrich works on" in found["door"]["found"]
    assert way in found["door"]["fix"]
    assert "host" not in found
    places = ("--project-dir", str(project.directory), "--profiles-dir", str(project.directory))
    done = CliRunner().invoke(main, ["run", *places])
    assert done.exit_code == 1
    assert way in done.output


def test_a_host_s_extra_is_named_before_the_host_is_asked(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that installs it."""
    says(path, "Core: - installed: 1.12.6")
    extra = Extra("postgres", ("no_such_driver",))
    missing = KnownHost("Postgres", ("postgres",), extra=extra)
    monkeypatch.setattr(diagnosis_host, "known_host", lambda _: missing)
    found = examined(on_postgres(tmp_path))
    assert found["door"]["found"].endswith("as the target is of the type postgres")
    assert found["host"]["verdict"] == "wrong"
    assert "Postgres needs the extra 'postgres'" in found["host"]["found"]
    assert found["host"]["fix"] == "pip install 'dbt-enrich[postgres]'"


def test_a_host_that_does_not_answer_is_wrong(tmp_path: Path, path: Path) -> None:
    """In one sentence, without the password; the lines after it are there all the same."""
    says(path, "Core: - installed: 1.12.6")
    found = examined(on_postgres(tmp_path))
    assert found["host"]["verdict"] == "wrong"
    assert "`host` and `port` of the target in profiles.yml" in found["host"]["fix"]
    assert "hunter2" not in json.dumps(found)
    assert found["endpoint"]["verdict"] == "ok"
