"""The relations `batches`, `attempts` and `usage` in the warehouse, and the tables' comments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.pipeline.publish.usage_relations import (
    ATTEMPT_COLUMNS,
    BATCH_COLUMNS,
    USAGE_COLUMNS,
)
from support.dbt_project import DbtProject, azure, plugin_alone

NOTES = "select i as id, 'note ' || i as note from range(4) as numbers(i)"
# One unit of money for a token in a batch, two for one of the answer.
PRICES = {"gpt-4o-mini": {"input": 2_000_000.0, "output": 4_000_000.0}}
COLUMNS = {"batches": BATCH_COLUMNS, "attempts": ATTEMPT_COLUMNS, "usage": USAGE_COLUMNS}


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path, door: str) -> DbtProject:
    """A project with one enrichment, and a model that reads the relations."""
    project = DbtProject(
        tmp_path,
        azure(
            emulator.url,
            emulator.api_key,
            prices={"gpt-4o-mini": {"input": 2_000_000.0, "output": 4_000_000.0}},
        ),
        door=door,
        stands_in=True,
    )
    project.enrichment("notes_enriched", NOTES)
    project.write(
        "models/costs.sql", "select sum(cost) as cost, count(*) as days from enrichment.usage"
    )
    return project


def described(project: DbtProject, relation: str) -> dict[str, str]:
    """The columns of a relation, with their types in lower case."""
    rows = project.rows(f"describe enrichment.{relation}")
    return {str(row[0]): str(row[1]).lower() for row in rows}


@plugin_alone
def test_the_relations_say_what_was_sent_and_what_it_cost(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """Models can read them from the first run on; each run replaces them if something changed."""
    emulator.rules([{"match": "note 2", "times": 1, "fault": "broken_json"}])
    project.dbt("run")
    assert {name: described(project, name) for name in COLUMNS} == COLUMNS
    batches = project.rows(
        "select requests, status, step, enrichment, model, currency, cost = prompt_tokens "
        "+ 2 * completion_tokens, saved = cost, enrichment_version from enrichment.batches "
        "order by created_at"
    )
    version = project.rows("select distinct enrichment_version from notes_enriched")[0][0]
    same = ("completed", "stored", "model.notes.notes_enriched", "gpt-4o-mini", "USD", True, True)
    assert batches == [(4, *same, version), (1, *same, version)]
    assert project.rows(
        "select kind, attempt, count(*) from enrichment.attempts group by all order by all"
    ) == [("done", 1, 3), ("done", 2, 1), ("invalid_json", 1, 1)]
    assert project.rows("select requests, completed, model from enrichment.usage") == [
        (5, 5, "gpt-4o-mini")
    ]
    project.dbt("run", "--select", "costs")
    assert project.rows("select days, cost > 0 from costs") == [(1, True)]


@plugin_alone
def test_a_table_s_comment_names_model_version_and_cost(project: DbtProject) -> None:
    """After its own description, where that is persisted."""
    project.dbt("run", "--select", "notes_enriched")
    (comment,) = project.rows(
        "select comment from duckdb_tables() where table_name = 'notes_enriched'"
    )[0]
    assert comment.startswith("Enriched by gpt-4o-mini, task version ")
    assert "cost so far USD " in comment
    project.dbt("docs", "generate")
    catalog = json.loads((project.directory / "target" / "catalog.json").read_text())
    assert catalog["nodes"]["model.notes.notes_enriched"]["metadata"]["comment"] == comment


@plugin_alone
def test_a_project_that_never_enriched_has_empty_relations(project: DbtProject) -> None:
    """And a target without the plugin is left alone."""
    project.dbt("run", "--select", "costs")
    for name, columns in COLUMNS.items():
        assert project.rows(f"select * from enrichment.{name}") == []
        described = project.rows(f"describe enrichment.{name}")
        assert {column: kind.lower() for column, kind, *_ in described} == columns
    assert not (project.state_dir / "ledger.sqlite").exists()
    target = {"type": "duckdb", "path": str(project.directory / "other.duckdb")}
    project.write("profiles.yml", {"notes": {"target": "dev", "outputs": {"dev": target}}})
    project.write("models/costs.sql", "select 1 as one")
    project.dbt("run", "--select", "costs")


@plugin_alone
def test_nothing_is_written_where_nothing_changed(project: DbtProject) -> None:
    """The relations of a large ledger are not rebuilt by every run."""
    project.dbt("run")
    known = project.rows(
        "select table_name, table_oid from duckdb_tables() where schema_name = 'enrichment' "
        "order by all"
    )
    project.dbt("run")
    assert known == project.rows(
        "select table_name, table_oid from duckdb_tables() where schema_name = 'enrichment' "
        "order by all"
    )
