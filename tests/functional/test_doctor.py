"""`dbt-enrich doctor`: each thing that can be wrong, made wrong for real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from dbt_enrich.cli import main
from dbt_enrich.emulator.server import RunningEmulator
from support.dbt_project import DbtProject, azure
from support.warehouse import Warehouse, config_for


@pytest.fixture
def project(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> DbtProject:
    """A project whose set-up is right."""
    monkeypatch.setenv("DBT_PROFILES_DIR", str(tmp_path / "project"))
    monkeypatch.chdir(tmp_path)
    emulator.deployments({"name": "batch"}, {"name": "live", "sku": "GlobalStandard"})
    return DbtProject(tmp_path, told(emulator))


def told(emulator: RunningEmulator, **changes: Any) -> dict[str, Any]:
    """The plugin's configuration."""
    changes = {"deployments": {"gpt-4o-mini": "batch"}, **changes}
    return azure(emulator.url, emulator.api_key, max_retries=0, **changes)


def examined(project: DbtProject, *arguments: str) -> dict[str, dict[str, str]]:
    """What the command finds, by subject; its exit code is that of its worst finding."""
    done = CliRunner().invoke(
        main, ["doctor", "--json", "--project-dir", str(project.directory), *arguments]
    )
    findings = json.loads(done.stdout)
    wrong = any(finding["verdict"] == "wrong" for finding in findings)
    assert done.exit_code == int(wrong), done.output
    assert all(finding["mend"] for finding in findings if finding["verdict"] != "ok")
    return {finding["subject"]: finding for finding in findings}


def test_a_sound_set_up_is_ok(project: DbtProject) -> None:
    """In every line."""
    found = examined(project)
    assert {finding["verdict"] for finding in found.values()} == {"ok"}
    assert "takes the key" in found["endpoint"]["found"]
    assert "0 of 10,000 input files" in found["file quota"]["found"]
    shown = CliRunner().invoke(main, ["doctor", "--project-dir", str(project.directory)])
    assert "ok       endpoint:" in shown.output


@pytest.mark.parametrize(
    ("changes", "subject", "said"),
    [
        ({"api_key": "wrong"}, "key", "Access denied"),
        ({"endpoint": "http://127.0.0.1:9"}, "endpoint", "could not be reached"),
        ({"deployments": {"gpt-4o-mini": "live"}}, "deployment live", "live"),
        ({"deployments": {"gpt-4o-mini": "other"}}, "deployment other", "other"),
    ],
)
def test_what_is_wrong_at_the_service(
    project: DbtProject,
    emulator: RunningEmulator,
    changes: dict[str, Any],
    subject: str,
    said: str,
) -> None:
    """The line names it and its mend."""
    values = {**told(emulator), **changes}
    project.configure(values)
    found = examined(project)[subject]
    assert found["verdict"] == "wrong"
    assert said in found["found"]


def test_a_model_may_be_named(project: DbtProject) -> None:
    """In place of the profile's deployments."""
    assert examined(project, "--model", "live")["deployment live"]["verdict"] == "wrong"


def test_what_is_wrong_with_the_state(project: DbtProject, emulator: RunningEmulator) -> None:
    """Its mode, a file of answers that is gone, a ledger that is garbage, and a quota learned."""
    config = config_for(emulator.url, emulator.api_key, project.state_dir)
    emulator.deployments({"name": "gpt-4o-mini", "max_enqueued_tokens": 90_000}, {"name": "batch"})
    Warehouse(config).enrich("select 1 as id, 'a' as note")
    project.configure(told(emulator, deployments={"gpt-4o-mini": "gpt-4o-mini"}))
    assert "90,000 enqueued tokens" in examined(project)["quota of gpt-4o-mini"]["found"]
    project.state_dir.chmod(0o755)
    assert examined(project)["state directory mode"]["verdict"] == "warning"
    for path in (project.state_dir / "answers").iterdir():
        path.unlink()
    assert examined(project)["answers"]["verdict"] == "wrong"
    for path in project.state_dir.glob("ledger.sqlite*"):
        path.unlink()
    (project.state_dir / "ledger.sqlite").write_bytes(b"garbage" * 500)
    assert examined(project)["ledger"]["verdict"] == "wrong"


def test_macros_of_another_version(project: DbtProject) -> None:
    """Or none."""
    package = project.directory / "dbt_packages" / "dbt_enrich"
    package.unlink()
    assert "not installed in this project" in examined(project)["macros"]["found"]
    package.mkdir()
    (package / "dbt_project.yml").write_text("name: dbt_enrich\nversion: 9.9.9\n")
    assert "version 9.9.9, but" in examined(project)["macros"]["found"]


def test_files_without_expiry_use_up_the_quota(
    project: DbtProject, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is smaller for them."""
    monkeypatch.setattr("dbt_enrich.cli.diagnosis._MOST_LASTING_FILES", 1)
    config = config_for(emulator.url, emulator.api_key, project.state_dir, file_expiry_days=None)
    emulator.deployments({"name": "gpt-4o-mini"}, {"name": "batch"})
    Warehouse(config).enrich("select 1 as id, 'a' as note")
    assert examined(project)["file quota"]["verdict"] == "warning"
