"""An enforced contract of an enrichment: held against the table before a row is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from batch_server.server import RunningEmulator
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.task.result_columns import STATUS_TYPES
from support.dbt_project import COMMAND, PLUGIN, DbtProject, azure, both_doors, plugin_alone

NOTES = "select i as id, 'note ' || i as note from range(3) as numbers(i)"
# dbt-core warns of constraints on anything but its own tables and incremental models.
QUIET = {"warn_unsupported": False}
NOT_NULL: dict[str, Any] = {"constraints": [{"type": "not_null", **QUIET}]}
ID: dict[str, Any] = {"name": "id", "data_type": "bigint"}
NOTE: dict[str, Any] = {"name": "note", "data_type": "varchar"}
SUMMARY: dict[str, Any] = {"name": "summary", "data_type": "varchar", "description": "One sentence"}


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path, door: str) -> DbtProject:
    """A project without models."""
    return DbtProject(tmp_path, azure(emulator.url, emulator.api_key), door=door, stands_in=True)


def contracted(
    project: DbtProject,
    name: str,
    columns: list[dict[str, Any]],
    *,
    select: str = NOTES,
    constraints: list[dict[str, Any]] | None = None,
    **meta: Any,
) -> None:
    """Write an enrichment whose contract is enforced."""
    project.enrichment(name, select)
    task = {"model": "gpt-4o-mini", "user": "{note}", "output": ["summary"], **meta}
    model = {
        "name": name,
        "config": {"meta": {"enrichment": task}, "contract": {"enforced": True}},
        "columns": columns,
        "constraints": constraints or [],
    }
    project.write(f"models/{name}.yml", {"models": [model]})


@both_doors
def test_a_contract_needs_the_users_own_columns_only(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """In the YAML's order, with its constraints; a second run and a merge keep it."""
    key = {"constraints": [{"type": "primary_key", **QUIET}]}
    columns = [SUMMARY, {**ID, **key}, {**NOTE, **NOT_NULL}]
    expression = "enrichment_status <> 'done' or summary <> ''"
    check = [{"type": "check", "expression": expression, **QUIET}]
    contracted(project, "rebuilt", columns, constraints=check)
    contracted(project, "merged", columns, constraints=check, publish="merge")
    for _ in range(2):
        project.dbt("--warn-error", "run")
    for name in ("rebuilt", "merged"):
        described = project.rows(f"describe {name}")
        assert [row[0] for row in described] == ["summary", "id", "note", *STATUS_TYPES]
        assert [row[2] for row in described[1:3]] == ["NO", "NO"]
        assert project.rows(f"select enrichment_status, count(*) from {name} group by 1") == [
            ("done", 3)
        ]
    assert len(emulator.account()["paid"]) == 3


def test_what_cannot_hold_is_refused_before_anything_is_sent(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """Names, types and number of columns in dbt's own words; constraints by the rows' number."""
    contracted(project, "wrong_type", [{**ID, "data_type": "integer"}, NOTE, SUMMARY])
    contracted(project, "too_many", [ID, NOTE, SUMMARY, {"name": "more", "data_type": "varchar"}])
    contracted(project, "too_few", [ID, SUMMARY])
    ours = {"name": "enriched_at", "data_type": "timestamp"}
    contracted(project, "wrong_status", [ID, NOTE, SUMMARY, ours])
    some_null = f"{NOTES} union all select 3, null"
    contracted(project, "null_note", [ID, {**NOTE, **NOT_NULL}, SUMMARY], select=some_null)
    repeated = [{"type": "unique", "columns": ["note"]}]
    again = f"{NOTES} union all select 3, 'note 1'"
    contracted(project, "repeated", [ID, NOTE, SUMMARY], select=again, constraints=repeated)
    contracted(project, "skips", [ID, NOTE, {**SUMMARY, **NOT_NULL}], select=some_null)
    refers = [{"type": "foreign_key", "columns": ["id"], "expression": "others (id)", **QUIET}]
    contracted(project, "referring", [ID, NOTE, SUMMARY], constraints=refers)
    text = " ".join(project.dbt("run", succeeds=False).split())
    assert text.count("This model has an enforced contract that failed") == 4
    # Without the plugin DuckDB holds the constraints, before anything is asked.
    constraints = {
        PLUGIN: (
            "constraint not_null of the column 'note': 1 row breaks it",
            "constraint unique (note): 1 value repeats",
            "constraint not_null of the column 'summary' cannot hold, as 1 row would be skipped",
            "'referring': the contract has a foreign_key constraint",
        ),
        COMMAND: (
            "NOT NULL constraint failed: null_note__dbt_tmp.note",
            'UNIQUE constraint violation: duplicate key "note 1"',
            "'skips': the contract has the output 'summary' not_null, but rows are pending until",
            "others does not exist",
        ),
    }[project.door]
    for reason in (
        "id | BIGINT | INTEGER | data type mismatch",
        "more | | VARCHAR | missing in definition",
        "note | VARCHAR | | missing in contract",
        "enriched_at | TIMESTAMP WITH TIME ZONE | TIMESTAMP | data type mismatch",
        *constraints,
    ):
        assert reason in " ".join(text.replace("|", " | ").split()), (reason, text)
    assert emulator.account()["request_keys"] == {}
    if project.door == PLUGIN:
        with Ledger(project.state_dir / "ledger.sqlite") as ledger:
            assert ledger.publications.all() == []


@plugin_alone
def test_an_output_that_may_not_be_null(project: DbtProject, emulator: RunningEmulator) -> None:
    """Pending rows would break it, so that they are not sent; rows that are all done keep it."""
    contracted(project, "notes", [ID, NOTE, {**SUMMARY, **NOT_NULL}], max_attempts=1)
    submit = ("run", "--vars", "{enrichment_mode: submit}")
    assert "3 rows would be pending" in " ".join(project.dbt(*submit, succeeds=False).split())
    assert emulator.account()["request_keys"] == {}
    emulator.rules([{"match": "note 1", "fault": "wrong_shape", "times": 1}])
    failed = " ".join(project.dbt("run", succeeds=False).split())
    assert "1 row would be without an answer; the previous table stays" in failed
    contracted(project, "notes", [ID, NOTE, {**SUMMARY, **NOT_NULL}], max_attempts=2)
    emulator.rules([{"match": "note 1", "answer": {"summary": "at last"}}])
    project.dbt("run")
    assert project.rows("select count(summary) from notes") == [(3,)]
    # Nothing is asked, so that nothing would be pending.
    project.dbt(*submit)
    assert sorted(emulator.account()["paid"].values()) == [1, 1, 2]


def test_what_describe_prints_is_the_tables_yaml(project: DbtProject) -> None:
    """As columns of the contract, and as a source with the errors table's own types."""
    columns = [ID, NOTE, SUMMARY]
    contracted(project, "notes", columns)
    document = yaml.safe_load(project.command("describe", "notes"))
    contracted(project, "notes", [*columns, *document["models"][0]["columns"]])
    project.write("models/sources.yml", {"sources": document["sources"]})
    project.write(
        "models/errors.sql",
        "select * from {{ source('notes_errors', 'notes__errors') }} "
        "-- depends_on: {{ ref('notes') }}",
    )
    project.dbt("--warn-error", "run")
    described = document["sources"][0]["tables"][0]["columns"]
    assert [(row[0], row[1].lower()) for row in project.rows("describe errors")] == [
        (column["name"], column["data_type"]) for column in described
    ]
