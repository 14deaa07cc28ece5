"""A chain of enrichments: rows whose text another one still owes wait until it is there.

In `a` the notes 0, 1 and 3 have a text and 2 has none. `b` reads `a` alone, through a table between
them; `c` reads something else beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from support.dbt_project import COMMAND, PLUGIN, DbtProject, azure

SUBMIT = ("--vars", "{enrichment_mode: submit}")
WAITS = "missing_input: waits for the text of a"
TESTS = """  data_tests:
  - dbt_enrich.enrichment_complete:
      arguments: {min_done: 0.7}
"""


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path, door: str) -> DbtProject:
    """A project with the chain."""
    project = DbtProject(tmp_path, azure(emulator.url, emulator.api_key), door=door, stands_in=True)
    project.execute(
        "create table notes as select i as id, if(i = 2, null, 'note ' || i) as note "
        "from range(4) as numbers(i)"
    )
    project.write(
        "models/sources.yml",
        {"sources": [{"name": "raw", "schema": "main", "tables": [{"name": "notes"}]}]},
    )
    project.enrichment("a", "select id, note from {{ source('raw', 'notes') }}")
    project.write("models/between.sql", "select id, summary as text from {{ ref('a') }}")
    enrichment(project, "b", "select id, text from {{ ref('between') }}")
    return project


def enrichment(project: DbtProject, name: str, select: str, **meta: Any) -> None:
    """Write an enrichment of the column `text`."""
    task = {"user": "{text}", "output": ["topic"], "system": f"Name the topic for {name}.", **meta}
    columns = [{"name": "topic", "data_type": "varchar"}]
    project.enrichment(name, select, meta=task, columns=columns)


def rows(project: DbtProject, table: str) -> list[tuple[Any, ...]]:
    """A table's rows as they stand."""
    return project.rows(f"select id, enrichment_status, enrichment_error from {table} order by id")


def standing(status: str, column: str) -> list[tuple[Any, ...]]:
    """The rows of a table of which row 2 has no text in a column."""
    found: list[tuple[Any, ...]] = [(i, status, None) for i in range(4)]
    found[2] = (2, "skipped", f"missing_input: {column}")
    return found


def test_a_row_waits_for_the_text_that_another_enrichment_owes(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """Row by row where the model reads nothing else; a truly empty one is skipped in the end."""
    project.execute("create table labels as select i as id from range(4) as numbers(i)")
    project.write(
        "models/labels.yml",
        {"sources": [{"name": "more", "schema": "main", "tables": [{"name": "labels"}]}]},
    )
    enrichment(
        project,
        "c",
        "select id, text from {{ source('more', 'labels') }} left join {{ ref('between') }} "
        "using (id)",
    )
    # What may be empty is waited for as well: without it the row would be asked a second time.
    enrichment(
        project,
        "d",
        "select id, 'row ' || id as label, text from {{ ref('between') }}",
        user="{label}: {text}",
        optional=["text"],
    )
    for name in ("a", "b", "c", "d"):
        path = project.directory / f"models/{name}.yml"
        path.write_text(path.read_text().replace("  columns:", TESTS + "  columns:"))
    emulator.pause()
    output = project.dbt("build", *SUBMIT)
    assert ("b: 0 done, 4 pending" in output) == (project.door == COMMAND)
    assert rows(project, "a") == standing("pending", "note")
    waiting = [(i, "pending", WAITS) for i in range(4)]
    assert rows(project, "b") == [*waiting[:2], standing("pending", "text")[2], waiting[3]]
    assert rows(project, "c") == waiting
    # A row of which `a` never makes a text is asked without it at once.
    assert rows(project, "d") == [*waiting[:2], (2, "pending", None), waiting[3]]
    emulator.resume()
    emulator.settle()
    emulator.pause()
    project.dbt("build", *SUBMIT)
    assert rows(project, "a") == standing("done", "note")
    assert rows(project, "b") == rows(project, "c") == standing("pending", "text")
    emulator.resume()
    project.dbt("build")
    assert rows(project, "a") == standing("done", "note")
    assert rows(project, "b") == rows(project, "c") == standing("done", "text")
    assert [status for _, status, _ in rows(project, "d")] == ["done"] * 4
    account = emulator.account()
    assert len(account["paid"]) == 3 + 3 + 3 + 4
    assert set(account["paid"].values()) == {1}
    # In the mode `run` rows that are due do count.
    project.execute("update b set enrichment_status = 'pending'")
    assert "FAIL" in project.dbt("test", "--select", "b", succeeds=False)


def test_run_goes_through_a_chain_with_the_models_between(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """One command does it all, and builds nothing that is not between two enrichments."""
    project.write("models/apart.sql", "select 1 as x from {{ ref('b') }}")
    project.command("run")
    assert rows(project, "b") == standing("done", "text")
    assert project.rows("select count(*) from duckdb_tables() where table_name = 'apart'") == [(0,)]
    assert set(emulator.account()["paid"].values()) == {1}


def test_a_plan_of_a_chain_names_what_it_cannot_count(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """Before the first build, and until the answers are there; the sum is not the whole then."""
    enrichment(project, "c", "select id, summary as text from {{ ref('a') }}")
    text = " ".join(project.command("plan").split())
    assert "b: cannot be counted yet: it reads between, not built yet" in text
    assert "c: cannot be counted yet: it reads a, whose answers are still to come" in text
    assert "the sum of what is counted here is not the whole" in text
    # What is missing is not made, and nothing is sent.
    beside = {
        PLUGIN: {"batches", "attempts", "usage"},
        COMMAND: {"a__rows", "c__rows"},
    }[project.door]
    assert {name for (name,) in project.rows("select table_name from duckdb_tables()")} == {
        "notes", "a", "a__errors", "c", "c__errors", *beside,
    }  # fmt: skip
    planned = {p["name"]: p for p in json.loads(project.command("plan", "--json"))}
    assert planned["a"]["requests"] == 3
    assert planned["a"]["skipped"] == 1
    assert planned["a"]["waits_for"] == []
    assert planned["c"]["waits_for"] == ["a"]
    assert planned["b"]["unplanned"]
    emulator.pause()
    project.dbt("run", *SUBMIT)
    text = " ".join(project.command("plan").split())
    assert "b: 3 rows wait for the text of a" in text
    assert "b: cannot be counted yet: it reads a," in text
    emulator.resume()
    project.command("run")
    assert "cannot be counted" not in project.command("plan")


def test_a_merge_gets_the_texts_that_it_waited_for(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """Although its SELECT would yield their rows no more; a done row is not touched for it."""
    newer = (
        "select id, text from {{ ref('between') }} {% if dbt_enrich.is_incremental() %} "
        "where id > (select max(id) from {{ this }}) {% endif %}"
    )
    enrichment(project, "b", newer, publish="merge")
    emulator.pause()
    project.dbt("run", *SUBMIT)
    assert [status for _, status, _ in rows(project, "b")].count("pending") == 3
    emulator.resume()
    project.dbt("run")
    assert rows(project, "b") == standing("done", "text")
    # A changed task asks new rows alone, also while some wait.
    project.execute("insert into notes values (4, 'note 4')")
    enrichment(project, "b", newer, publish="merge", system="Another prompt.")
    emulator.pause()
    project.dbt("run", *SUBMIT)
    assert rows(project, "b") == [*standing("done", "text"), (4, "pending", WAITS)]
    emulator.resume()
    project.dbt("run")
    assert rows(project, "b") == [*standing("done", "text"), (4, "done", None)]
    account = emulator.account()
    assert len(account["paid"]) == 4 + 4
    assert set(account["paid"].values()) == {1}
