"""`dbt-enrich doctor`: each thing that can be wrong, made wrong for real."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from click.testing import CliRunner
from dbt_enrich.cli import main
from dbt_enrich.config.azure import AZURE, AzureConfig
from support.dbt_project import DbtProject, azure
from support.phrases import assert_two_phrases
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
    for finding in findings:
        if finding["verdict"] == "ok":
            assert not finding["fix"]
        else:
            assert_two_phrases(finding["found"], finding["fix"])
    return {finding["subject"]: finding for finding in findings}


def test_a_sound_set_up_is_ok(project: DbtProject, emulator: RunningEmulator) -> None:
    """In every line, on whatever has been used or not; nothing is sent, and nothing made."""
    found = examined(project)
    assert {finding["verdict"] for finding in found.values()} == {"ok"}
    assert found["key"]["found"] == "accepted"
    assert found["duckdb"]["found"] == version("duckdb")
    assert found["quota of batch"]["found"].startswith("not known until a batch tells it")
    assert "0 of 10,000 input files, 0 of 500 without expiry" in found["file quota"]["found"]
    assert {call["method"] for call in emulator.account()["calls"]} == {"GET"}
    assert not project.state_dir.exists()


def test_each_line_is_marked(project: DbtProject, emulator: RunningEmulator) -> None:
    """With its fix below it."""
    project.configure(told(emulator, deployments={"gpt-4o-mini": ["batch", "live"]}))
    shown = CliRunner().invoke(main, ["doctor", "--project-dir", str(project.directory)])
    assert shown.exit_code == 1
    assert "ok       endpoint: azure:127.0.0.1" in shown.output
    lines = shown.output.splitlines()
    (place,) = [i for i, line in enumerate(lines) if line.startswith("wrong    deployment live: ")]
    assert lines[place + 1].startswith("         deploy the model as Global Batch")


@pytest.mark.parametrize(
    ("changes", "subject", "said"),
    [
        ({"api_key": "wrong"}, "key", "Access denied"),
        ({"endpoint": "http://127.0.0.1:9"}, "endpoint", "could not be reached"),
        ({"deployments": {"gpt-4o-mini": "live"}}, "deployment live", "GlobalStandard"),
        ({"deployments": {"gpt-4o-mini": ["batch", "other"]}}, "deployment other", "has no depl"),
        ({"api_key": ""}, "service", "needs `api_key` or `credential`"),
        ({"provder": "azure"}, "profile", "unknown key 'provder'"),
    ],
)
def test_what_is_wrong_at_the_service(
    project: DbtProject,
    emulator: RunningEmulator,
    changes: dict[str, Any],
    subject: str,
    said: str,
) -> None:
    """The line names it and its fix."""
    project.configure({**told(emulator), **changes})
    found = examined(project)
    assert found[subject]["verdict"] == "wrong"
    assert said in found[subject]["found"]
    if subject == "key":
        assert found["endpoint"]["verdict"] == "ok"


_AZURE = {"provider": "azure", "endpoint": "https://res.openai.azure.com", "api_key": "k"}
_OPENAI = {"provider": "openai", "api_key": "k"}
_ENTRA = {**_AZURE, "api_key": "", "credential": "default"}
_UPSTREAM = {"provider": "local", "responder": "upstream"}


@pytest.mark.parametrize(
    ("values", "found", "fix"),
    [
        (
            {**_AZURE, "api_key": ""},
            "The provider `azure` needs `api_key` or `credential`, and both are missing or empty",
            (
                "write `api_key: \"{{ env_var('AZURE_OPENAI_API_KEY') }}\"` in the profile and set "
                "AZURE_OPENAI_API_KEY, or write `credential: default` to sign in with Microsoft "
                "Entra ID"
            ),
        ),
        (
            {"provider": "openai"},
            "The provider `openai` needs `api_key`, and it is missing or empty",
            "write \"{{ env_var('OPENAI_API_KEY') }}\" in the profile and set OPENAI_API_KEY",
        ),
        ({**_AZURE, "endpoint": ""}, "`endpoint`, and it is missing", "write the resource's"),
        ({**_AZURE, "endpoint": "http://res.example"}, "in the clear", "write https://"),
        ({**_AZURE, "base_url": "https://a.example/v1"}, "belongs to the provider `openai`", "for"),
        ({**_AZURE, "api_version": "soon"}, "'soon'", "write a dated version"),
        ({**_AZURE, "file_expiry_days": 3}, "cannot be 3", "write a number in that range"),
        ({**_AZURE, "deployments": {"m": []}}, "the model 'm' has no deployment", "name at least"),
        ({**_AZURE, "memory_limit": "much"}, "must be a number with a unit", "write it like"),
        ({**_AZURE, "threads": "two"}, "must be a whole number", "correct it in profiles.yml"),
        ({**_AZURE, "tenant_id": "t"}, "of no use without `credential`", "write `credential: "),
        ({**_ENTRA, "credential": "defualt"}, "is not known", "did you mean 'default'?"),
        ({**_ENTRA, "client_secret": "s"}, "is of no use", "take it out of the profile"),
        ({**_OPENAI, "endpoint": "https://a.example"}, "to the provider `azure`", "for `openai`"),
        ({**_OPENAI, "credential": "default"}, "belongs to the provider `azure`", "for `openai`"),
        ({**_OPENAI, "base_url": "api.openai.com"}, "is not an address", "write it with https://"),
        ({"provider": "local", "api_key": "k"}, "does not belong to the provider `local`", "take"),
        (_UPSTREAM, "needs to know the model server", "add upstream: {base_url:"),
        ({**_UPSTREAM, "upstream": {"base_url": "there"}}, "no address", "write it up to /v1"),
        ({"provider": "bedrock"}, "'provider'", "correct it in profiles.yml"),
        ({"endpoint": "https://res.openai.azure.com"}, "has no 'provider'", "set it to azure"),
        ({**_AZURE, "zone": "eu"}, "unknown key 'zone'", "use one of the keys"),
    ],
)
def test_a_profile_that_cannot_work(
    project: DbtProject, values: dict[str, Any], found: str, fix: str
) -> None:
    """For every provider: what is wrong is one whole phrase, and what to do is another."""
    project.configure(values)
    wrong = [finding for finding in examined(project).values() if finding["verdict"] == "wrong"]
    (finding,) = wrong
    assert finding["subject"] in ("service", "profile")
    assert found in finding["found"]
    assert finding["fix"].startswith(fix)


def test_a_sign_in_that_fails(
    project: DbtProject, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Says nothing of the endpoint, which was not asked; here `az` is not installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    values = told(emulator, credential="azure_cli")
    project.configure({key: value for key, value in values.items() if key != "api_key"})
    found = examined(project)
    assert found["token"]["verdict"] == "wrong"
    assert "Signing in with `credential: azure_cli` failed" in found["token"]["found"]
    assert "endpoint" not in found
    assert not emulator.account()["calls"]


def test_an_address_without_a_batch_api(project: DbtProject, emulator: RunningEmulator) -> None:
    """Is told from one where nobody answers."""
    project.configure(told(emulator, endpoint=f"{emulator.url}/elsewhere"))
    found = examined(project)["endpoint"]
    assert "no Batch API" in found["found"]
    assert "check that `endpoint`" in found["fix"]


def test_a_service_that_fails(project: DbtProject, emulator: RunningEmulator) -> None:
    """Is given up soon, and nothing further is asked of it."""
    emulator.faults({"name": "status", "status": 500, "times": None})
    project.configure(told(emulator) | {"max_retries": 20})
    found = examined(project)
    assert found["endpoint"]["verdict"] == "wrong"
    assert "file quota" not in found
    assert len(emulator.account()["calls"]) <= 2


def test_openai(project: DbtProject, emulator: RunningEmulator) -> None:
    """Its models need no entry in the profile, and its files have no limit in number."""
    openai = {"provider": "openai", "base_url": f"{emulator.url}/v1", "max_retries": 0}
    project.configure({**openai, "api_key": emulator.api_key})
    found = examined(project)
    assert {finding["verdict"] for finding in found.values()} == {"ok"}
    assert "the models' own names" in found["deployments"]["found"]
    assert found["file quota"]["found"] == "0 input files of 0.0 MB"
    assert examined(project, "--model", "batch")["deployment batch"]["verdict"] == "ok"
    project.configure({**openai, "api_key": "wrong"})
    assert examined(project)["key"]["verdict"] == "wrong"


def test_local(project: DbtProject) -> None:
    """The emulator is started for the question, and leaves a state directory that is private."""
    project.configure({"provider": "local", "responder": "scripted"})
    found = examined(project)
    assert {finding["verdict"] for finding in found.values()} == {"ok"}
    assert found["endpoint"]["found"] == "local answers"
    assert "key" not in found
    assert examined(project)["state directory mode"]["found"] == "0700"


def test_a_model_may_be_named(project: DbtProject, emulator: RunningEmulator) -> None:
    """In place of the profile's deployments: all that serve it, or the one of its name."""
    assert examined(project, "--model", "live")["deployment live"]["verdict"] == "wrong"
    served = {"a": ["batch", "live"], "b": "other"}
    project.configure(told(emulator, deployments=served))
    found = examined(project, "--model", "a")
    assert {name for name in found if name.startswith("deployment")} == {
        "deployment batch",
        "deployment live",
    }


def test_deployments_that_nobody_named(project: DbtProject, emulator: RunningEmulator) -> None:
    """Are those that were used before; with none used, Azure needs to be told."""
    project.configure(told(emulator, deployments={}))
    assert examined(project)["deployments"]["verdict"] == "warning"
    emulator.deployments({"name": "gpt-4o-mini"})
    config = config_for(emulator.url, emulator.api_key, project.state_dir)
    Warehouse(config).enrich("select 1 as id, 'a' as note")
    assert examined(project)["deployment gpt-4o-mini"]["verdict"] == "ok"


def enriched(project: DbtProject, emulator: RunningEmulator, **changes: Any) -> None:
    """One row that was enriched in the project's state directory."""
    emulator.deployments({"name": "gpt-4o-mini", "max_enqueued_tokens": 90_000}, {"name": "batch"})
    config = config_for(emulator.url, emulator.api_key, project.state_dir, **changes)
    Warehouse(config).enrich("select 1 as id, 'a' as note")
    project.configure(told(emulator, deployments={"gpt-4o-mini": "gpt-4o-mini"}))


def test_token_quotas(project: DbtProject, emulator: RunningEmulator) -> None:
    """As the service told it, or the profile, and what batches in flight hold of it."""
    enriched(project, emulator)
    found = examined(project)["quota of gpt-4o-mini"]["found"]
    assert (
        found == "90,000 enqueued tokens, learned from the service; our batches hold about 0 "
        "tokens now"
    )
    emulator.pause()
    config = config_for(emulator.url, emulator.api_key, project.state_dir)
    Warehouse(config).enrich(f"select 2 as id, '{'b' * 8000}' as note", mode="submit")
    emulator.resume()
    limits = {"max_enqueued_tokens": {"gpt-4o-mini": 70_000}}
    project.configure(told(emulator, deployments={"a": "gpt-4o-mini"}, **limits))
    found = examined(project)["quota of gpt-4o-mini"]["found"]
    assert found.startswith("70,000 enqueued tokens, configured; our batches hold about 2,")


def test_a_mode_that_lets_others_look(project: DbtProject, emulator: RunningEmulator) -> None:
    """Is a warning until it is mended."""
    enriched(project, emulator)
    assert examined(project)["state directory mode"]["verdict"] == "ok"
    project.state_dir.chmod(0o755)
    for _ in range(2):
        found = examined(project)["state directory mode"]
        assert found["verdict"] == "warning"
        assert found["fix"] == f"chmod 700 {project.state_dir}"


def test_answers_that_are_gone(project: DbtProject, emulator: RunningEmulator) -> None:
    """Or cut off, or overwritten."""
    enriched(project, emulator)
    assert examined(project)["answers"]["found"] == "1 file is there, and whole"
    (path,) = (project.state_dir / "answers").iterdir()
    whole = path.read_bytes()
    overwritten = whole[:8] + b"\xff" * 60 + whole[68:]
    for content in (overwritten, whole[:-20], None):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        found = examined(project)["answers"]
        assert found["verdict"] == "wrong"
        assert path.name in found["found"]


def test_a_ledger_that_is_garbage(project: DbtProject, emulator: RunningEmulator) -> None:
    """Whole, or in a page that is read late; or from a version to come. The rest is still seen."""
    enriched(project, emulator)
    ledger = project.state_dir / "ledger.sqlite"
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    sound = ledger.read_bytes()
    damaged = bytearray(sound)
    damaged[5000:9000] = b"\xff" * 4000
    for content, text in ((b"garbage" * 500, "not a database"), (bytes(damaged), "it is damaged")):
        for path in project.state_dir.glob("ledger.sqlite*"):
            path.unlink()
        ledger.write_bytes(content)
        found = examined(project)
        assert text in found["ledger"]["found"]
        assert found["endpoint"]["verdict"] == "ok"
    ledger.write_bytes(sound)
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("insert into migrations values (900, 'm900', '2030-01-01')")
        connection.commit()
    assert "newer" in examined(project)["ledger"]["found"]


def test_a_state_directory_that_cannot_be(project: DbtProject) -> None:
    """Such as one below a file."""
    project.state_dir.write_text("a file")
    found = examined(project)
    assert "Not a directory" in found["state directory"]["found"]
    assert "ledger" not in found


def test_little_room(project: DbtProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the disk of the state directory."""
    monkeypatch.setattr("dbt_enrich.cli.diagnosis_state._LITTLE_ROOM", 1 << 60)
    assert examined(project)["disk"]["verdict"] == "warning"


def test_macros_of_another_version(project: DbtProject) -> None:
    """Or none; and they are looked for where the project has its packages."""
    package = project.directory / "dbt_packages" / "dbt_enrich"
    package.unlink()
    assert "not installed in this project" in examined(project)["macros"]["found"]
    package.mkdir()
    (package / "dbt_project.yml").write_text("name: dbt_enrich\nversion: 9.9.9\n")
    assert "version 9.9.9, but" in examined(project)["macros"]["found"]
    described = project.directory / "dbt_project.yml"
    described.write_text(f"{described.read_text()}packages-install-path: vendor\n")
    assert "not installed in this project" in examined(project)["macros"]["found"]
    (project.directory / "dbt_packages").rename(project.directory / "vendor")
    assert "version 9.9.9, but" in examined(project)["macros"]["found"]


@pytest.mark.parametrize(("installed", "verdict"), [("1.99.0", "warning"), ("1.10.3", "ok")])
def test_a_version_that_this_one_was_not_made_for(
    project: DbtProject,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    installed: str,
    verdict: str,
) -> None:
    """As pip sees it."""
    described = tmp_path / "site" / f"dbt_core-{installed}.dist-info"
    described.mkdir(parents=True)
    text = f"Metadata-Version: 2.1\nName: dbt-core\nVersion: {installed}\n"
    (described / "METADATA").write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = examined(project)["dbt-core"]
    assert found["verdict"] == verdict
    assert installed in found["found"]


@pytest.mark.parametrize(
    ("expiry", "limits", "verdict"),
    [
        (None, {"max_lasting_files": 1}, "wrong"),
        (30, {"max_lasting_files": 1}, "ok"),
        (30, {"max_files": 1}, "wrong"),
        (None, {"max_files": 1}, "warning"),
    ],
)
def test_files_use_up_the_quota(
    project: DbtProject,
    emulator: RunningEmulator,
    monkeypatch: pytest.MonkeyPatch,
    expiry: int | None,
    limits: dict[str, Any],
    verdict: str,
) -> None:
    """Of files like those that a run would upload: with an expiry, or without."""
    monkeypatch.setattr(AzureConfig, "facts", replace(AZURE, **limits))
    emulator.deployments({"name": "gpt-4o-mini"}, {"name": "batch"})
    emulator.pause()
    config = config_for(emulator.url, emulator.api_key, project.state_dir, file_expiry_days=expiry)
    Warehouse(config).enrich("select 1 as id, 'a' as note", mode="submit")
    emulator.resume()
    project.configure(told(emulator, file_expiry_days=expiry))
    found = examined(project)["file quota"]
    assert found["verdict"] == verdict
    assert found["found"].startswith("1 of ")
