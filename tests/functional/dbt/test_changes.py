"""Under dbt, a run in which little is new touches little; whatever else dbt does is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from support.dbt_project import DbtProject, azure, plugin_alone

ROWS = 20
SELECT = "select id, note from notes"
QUIET = {"warn_unsupported": False}
SUMMARY = {"name": "summary", "data_type": "varchar", "description": "A sentence"}
KEYED: list[dict[str, Any]] = [
    {
        "name": "id",
        "data_type": "bigint",
        "constraints": [{"type": "primary_key", **QUIET}],
    },
    {"name": "note", "data_type": "varchar"},
    SUMMARY,
]


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path, door: str) -> DbtProject:
    """A project with a model of each kind over one source."""
    # DuckDB does not list indexes where another thread replaces a table that has one.
    config = azure(emulator.url, emulator.api_key)
    project = DbtProject(tmp_path, config, threads=1, door=door, stands_in=True)
    project.execute(
        "create table notes as select i as id, 'note ' || i as note "
        f"from range({ROWS}) as numbers(i); create table log (model varchar)"
    )
    logs = "post_hook = \"insert into log values ('{{ this.name }}')\""
    project.enrichment("plain", SELECT, config=f"unique_key = 'id', {logs}")
    project.enrichment("ordered", f"{SELECT} order by id desc")
    edits = "post_hook = \"update {{ this }} set note = 'hook' where id = 1\""
    project.enrichment("edited", SELECT, config=f"unique_key = 'id', {edits}")
    index = "indexes = [{'columns': ['note'], 'unique': true}]"
    project.enrichment("indexed", SELECT, config=f"unique_key = 'id', {index}")
    docs = "persist_docs = {'relation': true, 'columns': true}"
    keyed = f"unique_key = 'id', contract = {{'enforced': true}}, {docs}"
    project.enrichment("keyed", SELECT, config=keyed, columns=KEYED)
    return project


def touched(project: DbtProject, *arguments: str) -> dict[str, int | None]:
    """Run dbt; say of each model how many rows it touched, or None where it was built anew."""
    project.dbt("--write-json", "run", *arguments)
    text = (project.directory / "target/run_results.json").read_text()
    return {
        result["unique_id"].rpartition(".")[2]: result["adapter_response"].get("rows_touched")
        for result in json.loads(text)["results"]
        if result["unique_id"].startswith("model.")
    }


@plugin_alone
def test_little_that_is_new_touches_little(project: DbtProject) -> None:
    """Except where the table is not what was published, or cannot be changed in place."""
    anew = dict.fromkeys(["edited", "indexed", "keyed", "ordered", "plain"])
    assert touched(project) == anew
    assert touched(project) == {**dict.fromkeys(anew, 0), "edited": None}
    assert project.rows("select count(*) from log where model = 'plain'") == [(2,)]
    (noted,) = project.rows("select distinct note from edited where id = 1")
    assert noted == ("hook",)

    project.execute(
        f"insert into notes values ({ROWS}, 'new'); delete from notes where id = 3; "
        "update notes set note = 'changed' where id = 4"
    )
    assert touched(project) == {**anew, "plain": 2}
    for model in anew:
        summaries = project.rows(f"select id, summary from {model} order by id")
        notes = project.rows("select id, 'summary: ' || note from notes order by id")
        assert summaries == notes, model
    ids = project.rows("select id from ordered")
    assert ids == sorted(ids, reverse=True)

    assert touched(project, "--full-refresh") == anew


@plugin_alone
def test_what_the_yaml_says_of_a_table_is_done_though_its_rows_stay(project: DbtProject) -> None:
    """A description is written; a constraint, an index and a comment of before have it built."""
    touched(project)
    described = [KEYED[0], {**KEYED[1], "description": "What was noted"}, SUMMARY]
    docs = "unique_key = 'id', persist_docs = {'columns': true}"
    keyed = f"{docs}, contract = {{'enforced': true}}"
    project.enrichment("keyed", SELECT, config=keyed, columns=described)
    check = {"type": "check", "expression": "id >= 0", **QUIET}
    project.enrichment("indexed", SELECT)
    assert touched(project, "--select", "keyed indexed") == {"keyed": 0, "indexed": None}
    comment = (
        "select comment from duckdb_columns() where table_name = 'keyed' and column_name = 'note'"
    )
    assert project.rows(comment) == [("What was noted",)]
    assert project.rows("select * from duckdb_indexes() where table_name = 'indexed'") == []
    constrained = [{**KEYED[0], "constraints": [*KEYED[0]["constraints"], check]}, *described[1:]]
    project.enrichment("keyed", SELECT, config=keyed, columns=constrained)
    assert touched(project, "--select", "keyed") == {"keyed": None}
    assert touched(project, "--select", "keyed") == {"keyed": 0}
    contract = "unique_key = 'id', contract = {'enforced': true}"
    project.enrichment("keyed", SELECT, config=contract, columns=constrained)
    assert touched(project, "--select", "keyed") == {"keyed": None}
    assert project.rows(comment) == [(None,)]
