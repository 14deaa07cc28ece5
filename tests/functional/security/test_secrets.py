"""Real dbt at debug level: no secret of the profile is in anything that a run leaves behind."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from batch_server.server import RunningEmulator, running_emulator
from functional.services.wire import Reply, Request, batch_body, file_body, serving
from support.dbt_project import DbtProject
from support.leftovers import contents, forms, places_of
from support.warehouse import Warehouse, config_for

KEY = "pl4nted+api/key=0c61b2f4"
PASSWORD = "pl4nted pass&word/93fe"
NOTES = "select i as id, 'note ' || i as note from range(4) as numbers(i)"
DEBUG = ("--debug", "--log-level", "debug", "--log-level-file", "debug")


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[RunningEmulator]:
    """An emulator that demands the planted key."""
    with running_emulator(tmp_path / "emulator", api_key=KEY) as running:
        yield running


def planted_project(directory: Path, plugin: dict[str, Any]) -> DbtProject:
    """A project whose profile holds a key as text, and takes a password from the environment."""
    project = DbtProject(directory, plugin)
    project.enrichment("notes_enriched", NOTES, meta={"await_timeout": 2})
    target = {
        "type": "duckdb",
        "path": str(project.warehouse),
        "threads": 2,
        "settings": {"http_proxy_password": "{{ env_var('PROXY_PASSWORD') }}"},
        "plugins": [
            {
                "module": "dbt_enrich.plugin",
                "alias": "enrich",
                "config": {"state_dir": str(project.state_dir), **plugin},
            }
        ],
    }
    project.write("profiles.yml", {"notes": {"target": "dev", "outputs": {"dev": target}}})
    return project


def azure(url: str, **changes: Any) -> dict[str, Any]:
    """An Azure resource at `url` with the planted key."""
    return {
        "provider": "azure",
        "endpoint": url,
        "api_key": KEY,
        "poll_interval": 0.1,
        "adoption_grace": 0,
        "max_retries": 0,
        **changes,
    }


def run(project: DbtProject, *arguments: str, succeeds: bool = True, mode: str = "run") -> None:
    """Run dbt at debug level; what it prints becomes a file beside the others."""
    output = project.dbt(
        *DEBUG,
        "run",
        "--vars",
        f"{{enrichment_mode: {mode}}}",
        *arguments,
        succeeds=succeeds,
        PROXY_PASSWORD=PASSWORD,
    )
    keep(project, output)


def keep(project: DbtProject, output: str) -> None:
    """Keep what dbt printed beside what it left."""
    with (project.directory / "printed.txt").open("a", encoding="utf-8") as file:
        file.write(output)


def assert_planted_nowhere(project: DbtProject, *roots: Path) -> None:
    """The profile alone holds the key, and the finder finds it there."""
    profile = project.directory / "profiles.yml"
    directory = project.directory.parent
    assert places_of([KEY, PASSWORD], [directory, *roots]) == {profile}


def test_every_mode_and_every_ending_keeps_them(tmp_path: Path, emulator: RunningEmulator) -> None:
    """Plan, preview, submit, collect, a killed run, failed rows and a failed model."""
    project = planted_project(tmp_path, azure(emulator.url))
    run(project, mode="plan")
    run(project, mode="preview")
    keep(project, project.killed(*DEBUG, "run", kill_at="submitted:after", PROXY_PASSWORD=PASSWORD))
    emulator.rules([{"match": "note 2", "fault": "broken_json"}])
    project.enrichment("notes_enriched", NOTES, meta={"max_attempts": 1, "system": "Be short."})
    run(project, mode="submit")
    emulator.settle()
    run(project, mode="collect")
    project.enrichment("notes_enriched", NOTES, meta={"fail_on": ["any"], "system": "Be short."})
    run(project, succeeds=False)
    assert project.rows("select count(*) from notes_enriched") == [(4,)]
    assert_planted_nowhere(project)


def echoing_batch(request: Request) -> Reply:
    """A service that takes everything and fails the batch with the key in the reason."""
    shown = f"Incorrect key {request.headers['api-key']} ({quote(KEY, safe='')})"
    if request.call == "GET /batches":
        return Reply(200, {"data": [], "has_more": False})
    if request.path.startswith("/files"):
        return Reply(200, file_body())
    if request.call == "POST /batches":
        return Reply(200, batch_body(status="validating"))
    if request.path.startswith("/batches"):
        errors = {"data": [{"code": KEY, "message": shown, "param": KEY}]}
        return Reply(200, batch_body(status="failed", errors=errors))
    return Reply(200, {"id": "gpt-4o-mini"})


@pytest.mark.parametrize("answer", ["401", "500", "failed batch"])
def test_a_service_that_repeats_the_key_is_not_quoted(answer: str, tmp_path: Path) -> None:
    """Whatever the reply's body holds, the error and the logs show stars."""

    def respond(request: Request) -> Reply:
        assert request.headers["api-key"] == KEY
        if answer == "failed batch":
            return echoing_batch(request)
        shown = f"Incorrect key {KEY} ({quote(KEY, safe='')}), Bearer {KEY}"
        return Reply(int(answer), {"error": {"code": KEY, "message": shown}})

    with serving(respond) as server:
        project = planted_project(tmp_path, azure(server.url))
        run(project, succeeds=False)
        if answer != "failed batch":
            run(project, mode="preview")
    assert "***" in (project.directory / "printed.txt").read_text(encoding="utf-8")
    assert_planted_nowhere(project)


def test_the_local_emulators_key_is_in_its_address_file_alone(tmp_path: Path) -> None:
    """By design: it is how processes share one emulator. It is random, and its owner's alone."""
    project = planted_project(tmp_path, {"provider": "local", "responder": "scripted"})
    keep(project, project.killed(*DEBUG, "run", kill_at="submitted:after", PROXY_PASSWORD=PASSWORD))
    run(project)
    file = project.state_dir / "local" / "address.json"
    address = json.loads(file.read_text(encoding="utf-8"))
    assert len(address["key"]) >= 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert places_of([address["key"]], [tmp_path]) == {file}
    assert places_of([PASSWORD], [tmp_path]) == set()


def test_no_object_of_a_run_shows_the_key(tmp_path: Path, emulator: RunningEmulator) -> None:
    """Configuration, settings, service, its client's errors and the engine, as repr and text."""
    config = config_for(emulator.url, KEY, tmp_path / "state")
    warehouse = Warehouse(config)
    warehouse.enrich(NOTES)
    engine = warehouse.engine
    shown = [config, config.model_dump(), config.model_dump_json()]
    shown += [vars(config), vars(engine), engine, *warehouse.log]
    for value in shown:
        for text in (repr(value), str(value)):
            assert not [form for form in forms(KEY) if form in text.encode()]


def test_the_finder_finds(tmp_path: Path) -> None:
    """Each form in each kind of file: what it says of a run is worth something."""
    import duckdb

    for number, form in enumerate(forms(KEY)):
        path = tmp_path / str(number)
        path.write_bytes(b"x" + form + b"y")
    duckdb.sql(f"copy (select repeat('{KEY}', 9) as a from range(9)) to '{tmp_path}/p.parquet'")
    with duckdb.connect(str(tmp_path / "w.duckdb")) as connection:
        connection.execute(f"create table t as select repeat('{KEY}', 9) as a from range(9999)")
    assert places_of([KEY], [tmp_path]) == set(tmp_path.iterdir())
    assert any(KEY.encode() in text for text in contents(tmp_path / "p.parquet"))
