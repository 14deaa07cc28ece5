"""Where an extra is not installed, every command that needs it says which, and does nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from batch_server.extras import WEIGHTS_PACKAGE
from click.testing import CliRunner
from dbt_enrich.cli import main
from dbt_enrich.config import parse_config
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.extras import AZURE, EMULATOR, EXTRAS, LOCAL, REPORT, Extra
from dbt_enrich.services import create_service
from support.dbt_project import DbtProject
from support.forked_dbt import run_forked
from support.warehouse import Warehouse

_ENTRA = {"provider": "azure", "endpoint": "https://x.openai.azure.com", "credential": "default"}
_KEY = {"provider": "openai", "api_key": "key"}
# The plugin's configuration, a module that it needs, and the extra that brings it.
_CASES: list[tuple[dict[str, Any], str, Extra]] = [
    ({"provider": "local"}, "xllamacpp", LOCAL),
    ({"provider": "local"}, WEIGHTS_PACKAGE, LOCAL),
    ({"provider": "local", "responder": "scripted"}, "uvicorn", EMULATOR),
    (
        {
            "provider": "local",
            "responder": "upstream",
            "upstream": {"base_url": "http://localhost:11434/v1"},
        },
        "python_multipart",
        EMULATOR,
    ),
    (_ENTRA, "azure.identity", AZURE),
]
_PYTHON = """
from dbt_enrich import EnrichmentTask, OutputColumn, enrich


def model(dbt, session):
    dbt.config(materialized="table")
    task = EnrichmentTask(
        model="gpt-4o-mini",
        user="{note}",
        outputs=[OutputColumn(name="summary", data_type="varchar")],
    )
    rows = session.sql("select 1 as id, error('it was staged') as note")
    return enrich(dbt, session, rows, task, unique_key="id")
"""
_MODES = ["run", "submit", "collect", "plan", "preview"]
# dbt brings one of them itself, and pandas, which the forks of the tests begin with, the others.
_THERE = {"jinja2", "numpy", "pyarrow"}
_HIDDEN = sorted({name for extra in EXTRAS for name in extra.modules} - _THERE)


@pytest.mark.parametrize(("values", "module", "extra"), _CASES)
@pytest.mark.parametrize("mode", _MODES)
def test_the_engine_stops_before_anything_is_made(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, Any],
    module: str,
    extra: Extra,
    mode: str,
) -> None:
    """In every mode; not even the state directory is there afterwards."""
    monkeypatch.setitem(sys.modules, module, None)
    state_dir = tmp_path / "state"
    config = parse_config({**values, "state_dir": str(state_dir)}, duckdb_settings={})
    warehouse = Warehouse(config)
    with pytest.raises(ConfigurationError) as caught:
        warehouse.enrich("select 1 as id, 'a' as note", mode=mode)
    assert caught.value.fix.startswith(f"install it with: {extra.install}")
    assert module in caught.value.problem
    assert not state_dir.exists()
    # `wait` and `cancel` have no engine.
    with pytest.raises(ConfigurationError, match="which is not installed"):
        create_service(config)


@pytest.mark.parametrize("way", [{"sync_below": 5}, {"via": "synchronous"}, {"via": "flex"}])
@pytest.mark.parametrize("mode", ["run", "submit", "plan"])
def test_what_goes_without_batches_needs_the_relay_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: dict[str, Any], mode: str
) -> None:
    """The error names the field and the command that installs it; nothing is claimed."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    config = parse_config({**_KEY, "state_dir": str(tmp_path / "state")}, duckdb_settings={})
    with pytest.raises(ConfigurationError) as caught:
        Warehouse(config).enrich("select 1 as id, 'a' as note", mode=mode, **way)
    (field,) = way
    assert f"model 'enriched': enrichment.{field} is" in caught.value.problem
    assert caught.value.fix.startswith(f"install it with: {EMULATOR.install}")


def test_weights_of_your_own_need_no_packaged_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a service with a key need anything."""
    monkeypatch.setitem(sys.modules, WEIGHTS_PACKAGE, None)
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    own = {"provider": "local", "gguf": str(tmp_path / "own.gguf")}
    for values in (own, _KEY):
        config = parse_config(values, duckdb_settings={})
        config.check()
        config.check_installed()


def test_dbt_and_every_command_without_extras(tmp_path: Path) -> None:
    """In Pythons that lack them all: a sentence with the command that helps, and no traceback."""
    project = DbtProject(tmp_path, {"provider": "local"})
    # A query that fails if it is run, so that nothing can be staged unseen.
    project.enrichment("enriched", "select 1 as id, error('it was staged') as note")
    project.write("models/pythonic.py", _PYTHON)
    # One process at a time may hold the warehouse.
    run = project.fork("run", without=_HIDDEN)
    assert run.wait() == 1
    assert "ERROR=2" in run.output
    assert run.output.count(LOCAL.install) >= 2
    assert "it was staged" not in run.output
    # dbt-duckdb shows a traceback of whatever a Python model raises.
    assert "ModuleNotFoundError" not in run.output
    places = ["--project-dir", str(project.directory), "--profiles-dir", str(project.directory)]
    for name, extra in {"plan": LOCAL, "doctor": LOCAL, "report": REPORT}.items():
        code, output = run_forked(
            "dbt-enrich", name, *places, directory=project.directory, without=_HIDDEN
        )
        assert code == 1, output
        assert extra.install in output
        assert "it was staged" not in output
        assert "Traceback" not in output
    assert not project.state_dir.exists()
    assert not (project.directory / "report.html").exists()


def test_serve_without_extras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the responder needs, before the directory is made."""
    for responder, module, extra in (
        ("scripted", "starlette", EMULATOR),
        ("llama", "xllamacpp", LOCAL),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        arguments = ["serve", "--responder", responder, "--directory", str(tmp_path / "served")]
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 1
        assert extra.install in done.output
    assert not (tmp_path / "served").exists()


def test_doctor_looks_at_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of its own, with what is wrong and what to do as two phrases."""
    project = DbtProject(tmp_path, {"provider": "local", "responder": "scripted"})
    arguments = ["doctor", "--json", "--project-dir", str(project.directory)]
    arguments += ["--profiles-dir", str(project.directory)]

    def examined() -> dict[str, dict[str, str]]:
        done = CliRunner().invoke(main, arguments)
        return {finding["subject"]: finding for finding in json.loads(done.stdout)}

    assert examined()["extra emulator"]["verdict"] == "ok"
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    found = examined()["extra emulator"]
    assert found["verdict"] == "wrong"
    assert found["found"] == (
        "the responder scripted needs the extra 'emulator', which is not installed "
        "(uvicorn missing)"
    )
    assert found["fix"] == "install it with: pip install 'dbt-enrich[emulator]'"
    assert "endpoint" not in examined()


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        ("local", "pip install 'dbt-enrich[local]'"),
        ("azure", "pip install 'dbt-enrich[azure]'"),
        ("openai", "the provider openai needs no extra"),
    ],
)
def test_init_says_which_extra_the_provider_needs(tmp_path: Path, provider: str, said: str) -> None:
    """Also of a block that was there already, whatever `--provider` says now."""
    (tmp_path / "dbt_project.yml").write_text("name: shop\nprofile: shop\n")
    (tmp_path / "profiles.yml").write_text(
        "shop: {target: dev, outputs: {dev: {type: duckdb, path: shop.duckdb}}}\n"
    )
    where = ["--project-dir", str(tmp_path), "--profiles-dir", str(tmp_path), "--yes"]
    package = ["--package", "https://example.org/dbt-enrich.git"]
    for named in (provider, "openai"):
        done = CliRunner().invoke(main, ["init", "--provider", named, *where, *package])
        assert done.exit_code == 0, done.output
        assert said in done.output
        if provider == "local":
            installed = not LOCAL.missing()
            assert ("(it is installed)" in done.output) == installed
