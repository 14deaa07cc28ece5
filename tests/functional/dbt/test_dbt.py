"""Real dbt against the emulator: the materialization, its macros, and what a mistake says."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from batch_server.checking import Deployment
from batch_server.process import ADDRESS_FILE
from batch_server.server import RunningEmulator, running_emulator
from dbt_enrich import __version__
from dbt_enrich.task.options import Mode
from support.dbt_project import COMMAND, PLUGIN, REPOSITORY, DbtProject, plugin_alone

NOTES = "select i as id, 'note ' || i as note from range(4) as numbers(i)"


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[RunningEmulator]:
    """An emulator with one batch deployment and one that is none."""
    deployments = [Deployment("gpt-4o-mini"), Deployment("standard", sku="Standard")]
    with running_emulator(tmp_path / "emulator", deployments=deployments) as running:
        yield running


def plugin(emulator: RunningEmulator, **changes: Any) -> dict[str, Any]:
    """The configuration of an Azure resource that is the emulator."""
    return {
        "provider": "azure",
        "endpoint": emulator.url,
        "api_key": emulator.api_key,
        "poll_interval": 0.1,
        **changes,
    }


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path, door: str) -> DbtProject:
    """A project with one enrichment and a model below it."""
    project = DbtProject(tmp_path, plugin(emulator), door=door, stands_in=True)
    project.enrichment("notes_enriched", NOTES)
    project.write(
        "models/counted.sql",
        "select enrichment_status, count(*) as n from {{ ref('notes_enriched') }} group by 1",
    )
    return project


def test_a_project_builds_without_a_warning(project: DbtProject, emulator: RunningEmulator) -> None:
    """Hooks, docs, tests, indexes and the errors table are as dbt users know them."""
    project.enrichment(
        "notes_enriched",
        NOTES,
        config="unique_key = 'id', indexes = [{'columns': ['id'], 'unique': true}], "
        "pre_hook = 'create or replace table before_it as select 1 as x', "
        "post_hook = 'create or replace table after_it as select count(*) as n from {{ this }}', "
        "persist_docs = {'relation': true, 'columns': true}",
    )
    project.write(
        "models/errors.sql",
        "select count(*) as n from {{ dbt_enrich.enrichment_errors('notes_enriched') }}",
    )
    project.write(
        "models/tested.yml",
        {
            "models": [
                {
                    "name": "counted",
                    "data_tests": [
                        {"dbt_enrich.enrichment_complete": {"arguments": {"min_done": 1.0}}}
                    ],
                }
            ]
        },
    )
    project.write("models/counted.sql", "select * from {{ ref('notes_enriched') }}")
    output = project.dbt("--warn-error", "build")
    assert ("notes_enriched: 4 done; " in output, "0 reused, 4 sent" in output) == (True, True)
    assert project.rows("select n from after_it") == [(4,)]
    assert project.rows("select n from errors") == [(0,)]
    assert project.rows("select count(*) from duckdb_indexes() where table_name like 'notes%'") == [
        (1,)
    ]
    work = "select count(*) from duckdb_tables() where schema_name = 'enrichment_work'"
    assert project.rows(work) == [(0,)]
    again = project.dbt("--warn-error", "build", "--full-refresh")
    assert "4 reused, 0 sent" in again
    assert set(emulator.account()["request_keys"].values()) == {1}
    project.dbt("--warn-error", "docs", "generate")


def test_submit_and_collect_by_vars(project: DbtProject, emulator: RunningEmulator) -> None:
    """Models further down run while the rows are pending; collecting fills them."""
    emulator.pause()
    project.dbt("run", "--vars", "{enrichment_mode: submit}")
    assert project.rows("from counted") == [("pending", 4)]
    emulator.resume()
    emulator.settle()
    project.dbt("run", "--vars", "{enrichment_mode: collect}")
    assert project.rows("from counted") == [("done", 4)]


@pytest.mark.parametrize("mode", ["plan", "preview"])
def test_plan_and_preview_make_an_empty_typed_table_once(
    mode: str, project: DbtProject, emulator: RunningEmulator
) -> None:
    """Models further down build, and a table that is there is left alone."""
    project.enrichment("notes_enriched", NOTES, meta={"preview_model": "standard"})
    project.write(
        "models/errors.sql", "select * from {{ dbt_enrich.enrichment_errors('notes_enriched') }}"
    )
    output = project.dbt("run", "--vars", f"{{enrichment_mode: {mode}}}")
    says = {PLUGIN: "4 requests to send", COMMAND: "output tokens from the schema"}[project.door]
    assert (says if mode == "plan" else "summary: note 1") in output
    assert project.rows("select count(*), count(summary) from notes_enriched") == [(0, 0)]
    assert emulator.account()["request_keys"] == {}
    project.dbt("run")
    project.dbt("run", "--vars", f"{{enrichment_mode: {mode}}}")
    assert project.rows("from counted") == [("done", 4)]


def test_a_failed_run_leaves_the_previous_table(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """Also when the SELECT changed meanwhile."""
    project.dbt("run")
    project.enrichment("notes_enriched", f"{NOTES} union all select 1, 'again'")
    output = project.dbt("run", succeeds=False)
    assert "unique_key 'id' is not unique" in output
    assert project.rows("select count(*) from notes_enriched") == [(4,)]


@plugin_alone
def test_a_python_model_shares_the_ledger(project: DbtProject, emulator: RunningEmulator) -> None:
    """The same task from Python pays nothing for rows that SQL has asked."""
    project.write(
        "models/from_python.py",
        """
def model(dbt, session):
    from dbt_enrich import EnrichmentOptions, EnrichmentTask, OutputColumn, enrich

    dbt.config(materialized="table")
    meta = dbt.config.get("meta")
    task = EnrichmentTask(
        model="gpt-4o-mini",
        system="Summarise the note.",
        user="{note}",
        outputs=[OutputColumn(name="summary", data_type="varchar")],
    )
    rows = dbt.ref("notes_enriched").project("id, note")
    options = EnrichmentOptions(mode=meta["mode"])
    return enrich(dbt, session, rows, task, unique_key="id", options=options)
""",
    )
    mode = "{{ var('enrichment_mode', 'run') }}"
    project.write(
        "models/from_python.yml",
        {"models": [{"name": "from_python", "config": {"meta": {"mode": mode}}}]},
    )
    for _ in range(2):
        project.dbt("run")
    project.dbt("run", "--vars", "{enrichment_mode: plan}")
    assert project.rows("select id, summary from from_python order by id") == [
        (i, f"summary: note {i}") for i in range(4)
    ]
    assert set(emulator.account()["request_keys"].values()) == {1}
    assert project.rows("select count(*) from from_python__errors") == [(0,)]


MISTAKES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"config": ""}, {}, "needs a unique_key"),
    ({"meta": {"output": ["sumary"]}}, {}, "'sumary', which the YAML does not describe"),
    ({"columns": [{"name": "summary"}]}, {}, "'summary' has no data_type"),
    ({"columns": [{"name": "summary", "data_type": "blob"}]}, {}, "summary.*blob"),
    ({"meta": {"user": "{nota}"}}, {}, "'nota', which the SELECT does not return"),
    ({"meta": {"user": "{note} {note!r}"}}, {}, "{note!r}, which is no placeholder"),
    ({"meta": {"system": "Sum up {note}."}}, {}, "enrichment.system has {note}"),
    ({"meta": {"usr": "{note}"}}, {}, "unknown key 'usr'; did you mean 'user'"),
    ({}, {"api_kee": "x"}, "unknown key 'api_kee'; did you mean 'api_key'"),
    ({}, {"api_key": ""}, "needs `api_key`"),
    ({}, {"endpoint": "http://127.0.0.1:9"}, "127.0.0.1:9"),
    ({}, {"api_key": "wrong"}, "key"),
    ({}, {"deployments": {"gpt-4o-mini": "nothing"}}, "'nothing'"),
    ({}, {"deployments": {"gpt-4o-mini": "standard"}}, "'standard'"),
    ({}, {"state_dir": "/proc/nowhere"}, "/proc/nowhere"),
]

# What the file beside dbt_project.yml has otherwise: secrets are of the environment alone.
OF_THE_FILE = {"needs `api_key`": "`api_key` is ${NOTES_API_KEY}, and NOTES_API_KEY is not set"}


@pytest.mark.parametrize(
    ("model", "config", "message"), MISTAKES, ids=[message for *_, message in MISTAKES]
)
def test_a_mistake_fails_before_anything_is_uploaded(
    model: dict[str, Any],
    config: dict[str, Any],
    message: str,
    emulator: RunningEmulator,
    tmp_path: Path,
    door: str,
) -> None:
    """With one sentence that names the place and the fix, and no traceback."""
    config = plugin(emulator, timeout=5, max_retries=0, **config)
    project = DbtProject(tmp_path, config, door=door, stands_in=True)
    project.enrichment("notes_enriched", NOTES, **model)
    output = project.dbt("run", succeeds=False)
    text = " ".join(output.split())
    if door == COMMAND:
        message = OF_THE_FILE.get(message, message)
    assert all(part in text for part in message.split(".*")), text
    assert "Traceback" not in output
    assert not [c for c in emulator.account()["calls"] if c["method"] == "POST"]


def test_the_key_is_in_nothing_that_a_run_leaves_behind(
    emulator: RunningEmulator, tmp_path: Path, door: str
) -> None:
    """Also not at debug level."""
    project = DbtProject(tmp_path, plugin(emulator), door=door, stands_in=True)
    project.enrichment("notes_enriched", NOTES)
    output = project.dbt("--debug", "run")
    assert emulator.api_key not in output
    for path in [*project.state_dir.rglob("*"), *(project.directory / "logs").rglob("*")]:
        if path.is_file():
            assert emulator.api_key.encode() not in path.read_bytes(), path


def test_both_packages_have_one_version() -> None:
    """The macros and the plugin check each other, so the repository must agree with itself."""
    macro = (REPOSITORY / "macros/internal/_package_version.sql").read_text()
    package = (REPOSITORY / "dbt_project.yml").read_text()
    pyproject = (REPOSITORY / "pyproject.toml").read_text()
    assert f"'{__version__}'" in macro
    assert f"version: {__version__}" in package
    assert f'version = "{__version__}"' in pyproject


def test_another_version_of_the_macros_is_named(project: DbtProject) -> None:
    """With the two versions and how to make them one."""
    packages = project.directory / "dbt_packages"
    copy = packages / "dbt_enrich"
    copy.unlink()
    shutil.copytree(REPOSITORY / "macros", copy / "macros")
    shutil.copy(REPOSITORY / "dbt_project.yml", copy)
    version = copy / "macros/internal/_package_version.sql"
    version.write_text(version.read_text().replace(__version__, "0.0.9"))
    output = project.dbt("run", succeeds=False)
    assert f"version 0.0.9, the Python package dbt-enrich is {__version__}" in " ".join(
        output.split()
    )


def test_the_local_provider_runs_and_ends_its_emulator(tmp_path: Path, door: str) -> None:
    """Over real HTTP, with a process that is gone when nobody uses it."""
    config = {"provider": "local", "responder": "scripted"}
    project = DbtProject(tmp_path, config, door=door, stands_in=True)
    project.enrichment("notes_enriched", NOTES)
    project.dbt("run", "--vars", "{enrichment_mode: submit}")
    project.dbt("run")
    assert project.rows(
        "select distinct enrichment_status, enrichment_model from notes_enriched"
    ) == [("done", "scripted")]
    assert "4 reused, 0 sent" in project.dbt("run")
    given = json.loads(next(project.state_dir.rglob(ADDRESS_FILE)).read_text())
    port = urlsplit(given["url"]).port
    deadline = time.monotonic() + 60
    with pytest.raises(ConnectionRefusedError):
        while time.monotonic() < deadline:
            socket.create_connection(("127.0.0.1", port or 0), timeout=5).close()
            time.sleep(0.1)


@plugin_alone
def test_a_python_model_touches_nothing_but_its_own(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """A view that is called like its rows stays, and a plan adds no row to an incremental table."""
    project.write("models/source_rows.sql", NOTES)
    project.write(
        "models/in_python__rows.sql", "{{ config(materialized='view') }} select 42 as mine"
    )
    project.write(
        "models/in_python.py",
        """
from dbt_enrich import EnrichmentOptions, EnrichmentTask, OutputColumn, enrich


def model(dbt, session):
    dbt.config(materialized="incremental")
    outputs = [OutputColumn(name="summary", data_type="varchar")]
    task = EnrichmentTask(model="gpt-4o-mini", user="{note}", outputs=outputs)
    rows = dbt.ref("source_rows")
    if dbt.is_incremental:
        rows = rows.filter("false")
    meta = dbt.config.get("meta")
    options = EnrichmentOptions(mode=meta["mode"])
    return enrich(dbt, session, rows, task, unique_key="id", options=options)
""",
    )
    mode = "{{ var('enrichment_mode', 'run') }}"
    project.write(
        "models/in_python.yml",
        {"models": [{"name": "in_python", "config": {"meta": {"mode": mode}}}]},
    )
    project.dbt("run", "--select", "source_rows", "in_python", "in_python__rows")
    for _ in range(2):
        project.dbt(
            "run", "--select", "in_python", "--vars", f"{{enrichment_mode: {Mode.PLAN.value}}}"
        )
    assert project.rows("select count(*), count(distinct id) from in_python") == [(4, 4)]
    assert project.rows("select mine from in_python__rows") == [(42,)]
