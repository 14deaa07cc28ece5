"""What dbt puts around a model's SQL, and what it says of it afterwards, for an enrichment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from support.dbt_project import PLUGIN, DbtProject, azure, plugin_alone

NOTES = "select i as id, 'note ' || i as note from range(4) as numbers(i)"


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path, door: str) -> DbtProject:
    """A project without models."""
    return DbtProject(tmp_path, azure(emulator.url, emulator.api_key), door=door, stands_in=True)


def response(project: DbtProject) -> dict[str, Any]:
    """The `adapter_response` of the only model of the last run."""
    results = json.loads((project.directory / "target/run_results.json").read_text())
    (result,) = [one for one in results["results"] if one["unique_id"].startswith("model.")]
    return dict(result["adapter_response"])


def status(project: DbtProject) -> dict[str, Any]:
    """What `dbt-enrich status --json` says."""
    return dict(json.loads(project.command("status", "--json")))


@plugin_alone
def test_dbt_says_what_came_of_an_enrichment(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """In its result line and in run_results.json; too many failed rows are a warning."""
    project.enrichment("notes", NOTES, meta={"max_attempts": 1})
    planned = project.dbt("--write-json", "run", "--vars", "{enrichment_mode: plan}")
    assert "[requests to send: 4, USD 0.0" in planned
    assert (response(project)["mode"], response(project)["requests"]) == ("plan", 0)
    emulator.rules([{"match": "note 1", "fault": "wrong_shape"}])
    refused = " ".join(project.dbt("--write-json", "--warn-error", "run", succeeds=False).split())
    warned = "1 of 4 answered rows failed, a larger share than warn_failed_share = 0.05"
    assert warned in refused
    assert project.rows("select count(*) from notes") == [(0,)]
    assert status(project)["tables"] == []
    output = project.dbt("--write-json", "run")
    assert warned in " ".join(output.split())
    assert "[3 done, 1 failed, USD 0.00 in" in output
    project.enrichment("notes", NOTES, meta={"system": "Again.", "warn_failed_share": 0.5})
    output = project.dbt(
        "--write-json", "--warn-error", "run", "--vars", "{enrichment_mode: submit}"
    )
    assert "[0 done, 1 pending, 3 stale, USD 0.00 in" in output
    text = response(project)
    assert {name: text[name] for name in ("done", "pending", "stale", "failed")} == {
        "done": 0,
        "pending": 1,
        "stale": 3,
        "failed": 0,
    }
    emulator.settle()
    project.dbt("--write-json", "--warn-error", "run")
    text = response(project)
    assert text.pop("_message").startswith("3 done, 1 failed, USD 0.0")
    assert text.pop("cost") > 0
    assert text.pop("saved") > 0
    assert text.pop("prompt_tokens") > 0
    assert text.pop("completion_tokens") > 0
    assert text == {
        "rows_affected": 4,
        "mode": "run",
        "done": 3,
        "pending": 0,
        "stale": 0,
        "failed": 1,
        "skipped": 0,
        "requests": 2,
        "cached_tokens": 0,
        "currency": "USD",
    }


def test_what_dbt_cannot_publish_is_not_published(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """A failing hook leaves no table, no scratch and no word of a publication; nothing is lost."""
    hook = "unique_key = 'id', post_hook = \"select error('no')\""
    project.enrichment("notes", NOTES, config=hook)
    assert "no" in project.dbt("run", succeeds=False)
    assert status(project)["tables"] == []
    assert project.rows("select count(*) from duckdb_tables() where table_name = 'notes'") == [(0,)]
    project.enrichment("notes", NOTES)
    assert "4 reused, 0 sent" in project.dbt("run")
    (table,) = status(project)["tables"]
    assert table["counts"] == {"done": 4}
    assert set(emulator.account()["paid"].values()) == {1}


def test_headers_hooks_docs_and_indexes(project: DbtProject, emulator: RunningEmulator) -> None:
    """As around a `table`: a header that can run but once, and comments on the columns of ours."""
    project.write(
        "models/notes.sql",
        """
{{ config(materialized = 'enrichment', unique_key = 'id',
          indexes = [{'columns': ['id'], 'unique': true}],
          pre_hook = 'create table if not exists seen as select 1 as x',
          post_hook = [{'sql': 'create or replace table after_it as select * from {{ this }}'},
                       {'sql': 'create or replace table outside as select 1 as x',
                        'transaction': false}],
          persist_docs = {'relation': true, 'columns': true}) }}
{% call set_sql_header(config) %}
  create temp table prefixes as select 'note ' as prefix;
{%- endcall %}
{%- set rows = run_query('select x from seen') -%}
select i as id, prefix || i as note from range(4) as numbers(i), prefixes -- a remark
""",
    )
    task = {"model": "gpt-4o-mini", "user": "{note}", "output": ["summary"]}
    described = [
        {"name": "id", "description": "The note's number."},
        {"name": "summary", "data_type": "varchar", "description": "It's one sentence"},
    ]
    model = {
        "name": "notes",
        "description": "What's in the notes.",
        "config": {"meta": {"enrichment": task}},
        "columns": described,
    }
    project.write("models/notes.yml", {"models": [model]})
    project.execute("create table seen as select 1 as x")
    project.dbt("--warn-error", "run")
    assert project.rows("select count(summary) from after_it") == [(4,)]
    assert project.rows("select count(*) from outside") == [(1,)]
    comments = dict(
        project.rows("select column_name, comment from duckdb_columns() where table_name = 'notes'")
    )
    assert comments["summary"] == "It's one sentence"
    ours = "Kind and message of the failure." if project.door == PLUGIN else None
    assert comments["enrichment_error"] == ours
    of_table = "select comment from duckdb_tables() where table_name = 'notes'"
    ((comment,),) = project.rows(of_table)
    ours = "\n\nEnriched by gpt-4o-mini, task version " if project.door == PLUGIN else ""
    assert comment.startswith(f"What's in the notes.{ours}")
    project.execute("drop table after_it; drop table outside")
    project.dbt("run", "--vars", "{enrichment_mode: plan}")
    assert project.rows("select count(*) from after_it") == [(4,)]
    assert project.rows(of_table) == [(comment,)]


def test_an_index_that_cannot_be_is_refused_before_anything_is_sent(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """In every mode, and nothing of the attempt stays."""
    indexes = "unique_key = 'id', indexes = [{'columns': ['nowhere']}]"
    project.enrichment("notes", NOTES, config=indexes)
    assert "nowhere" in project.dbt("run", "--vars", "{enrichment_mode: plan}", succeeds=False)
    assert "nowhere" in project.dbt("run", succeeds=False)
    assert emulator.account()["request_keys"] == {}
    assert project.rows("select table_name from duckdb_tables() where schema_name = 'main'") == []


def test_empty_builds_send_nothing(project: DbtProject, emulator: RunningEmulator) -> None:
    """A table without rows, and a merged one as it is, though rows of it are unfinished."""
    project.enrichment("rebuilt", NOTES)
    project.enrichment("merged", NOTES, meta={"publish": "merge", "max_attempts": 2})
    emulator.pause()
    project.dbt("run", "--vars", "{enrichment_mode: submit}")
    sent = emulator.account()
    project.bare_dbt("--warn-error", "run", "--empty")
    assert emulator.account() == sent
    assert project.rows("select count(*), count(summary) from rebuilt") == [(0, 0)]
    assert project.rows("select count(*) from merged") == [(4,)]
    emulator.resume()
    emulator.settle()
    project.dbt("run")
    for table in ("rebuilt", "merged"):
        assert project.rows(f"select count(summary) from {table}") == [(4,)]
    assert set(emulator.account()["paid"].values()) == {1}


def test_a_table_that_refers_to_an_enrichment_is_rebuilt_with_it(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """By a foreign key, which would hold the table that is replaced."""

    def contracted(name: str, columns: list[dict[str, Any]], **config: Any) -> None:
        config = {"contract": {"enforced": True}, **config}
        project.write(
            f"models/{name}.yml",
            {"models": [{"name": name, "config": config, "columns": columns}]},
        )

    task = {"model": "gpt-4o-mini", "user": "{note}", "output": ["summary"]}
    key = [{"type": "primary_key", "warn_unsupported": False}]
    others = [{"name": name, "data_type": "varchar"} for name in ("note", "summary")]
    project.enrichment("parents", NOTES)
    own = {"name": "id", "data_type": "bigint", "constraints": key}
    contracted("parents", [own, *others], meta={"enrichment": task})
    project.write("models/children.sql", "select id as parent from {{ ref('parents') }}")
    refers = {"type": "foreign_key", "to": "ref('parents')", "to_columns": ["id"]}
    contracted("children", [{"name": "parent", "data_type": "bigint", "constraints": [refers]}])
    for _ in range(2):
        project.dbt("run")
    assert project.rows("select count(*) from children join parents on id = parent") == [(4,)]
