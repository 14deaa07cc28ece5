"""The types of the status columns: an enum and a uuid, or texts where the user has them so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.task.result_columns import STATUS_TYPES
from support.dbt_project import DbtProject, azure, both_doors, plugin_alone

NOTES = "select i as id, 'note ' || i as note from range({{ var('rows', 2) }}) as numbers(i)"
TYPED = {
    "enrichment_status": "enum('done', 'failed', 'pending', 'skipped', 'stale')",
    "enrichment_key": "uuid",
}
TEXTS = dict.fromkeys(TYPED, "varchar")
# As versions before wrote them.
AS_BEFORE = """
    alter table {table} alter enrichment_status type varchar;
    alter table {table} alter enrichment_key type varchar
        using replace(cast(enrichment_key as varchar), '-', '');
    alter table {table}__errors alter enrichment_key type varchar
        using replace(cast(enrichment_key as varchar), '-', '');
"""
THREE_ROWS = ("--vars", "{rows: 3}")


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path, door: str) -> DbtProject:
    """A project without models; the note 1 always fails."""
    emulator.rules([{"match": "note 1", "fault": "refusal"}])
    return DbtProject(tmp_path, azure(emulator.url, emulator.api_key), door=door, stands_in=True)


def types(project: DbtProject, table: str) -> dict[str, str]:
    """The types of the columns in question."""
    described = {row[0]: str(row[1]) for row in project.rows(f"describe {table}")}
    return {
        name: described[name].replace("ENUM", "enum").replace("UUID", "uuid")
        if described[name] != "VARCHAR"
        else "varchar"
        for name in TYPED
        if name in described
    }


def failures_with_their_rows(project: DbtProject, table: str) -> list[tuple[Any, ...]]:
    """What the errors table says of the rows of the enriched one, joined by the key."""
    return project.rows(
        f"select id, kind from {table}__errors join {table} using (id, enrichment_key)"
    )


@plugin_alone
def test_tables_of_an_earlier_version_are_rebuilt_typed_and_merged_into_as_they_are(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """Nothing is sent for it, and keys stay comparable within each."""
    project.enrichment("rebuilt", NOTES)
    project.enrichment("merged", NOTES, meta={"publish": "merge"})
    project.dbt("run")
    before = project.rows("select * from rebuilt order by id")
    for table in ("rebuilt", "merged"):
        assert types(project, table) == TYPED == {name: STATUS_TYPES[name] for name in TYPED}
        assert types(project, f"{table}__errors") == {"enrichment_key": "uuid"}
        assert failures_with_their_rows(project, table) == [(1, "refusal")]
        project.execute(AS_BEFORE.format(table=table))
        assert types(project, table) == TEXTS
    paid = emulator.account()["paid"]
    project.dbt("run")
    assert emulator.account()["paid"] == paid
    assert types(project, "rebuilt") == TYPED
    assert project.rows("select * from rebuilt order by id") == before
    project.dbt("run", *THREE_ROWS)
    assert len(emulator.account()["paid"]) == len(paid) + 1
    assert types(project, "merged") == TEXTS
    assert types(project, "merged__errors") == {"enrichment_key": "varchar"}
    assert project.rows("select distinct length(enrichment_key) from merged") == [(32,)]
    assert project.rows(
        "select count(*) from merged join rebuilt using (id, enrichment_key, enrichment_status)"
    ) == [(3,)]
    for table in ("rebuilt", "merged"):
        assert failures_with_their_rows(project, table) == [(1, "refusal")]
    project.dbt("run", "--full-refresh", "--select", "merged", *THREE_ROWS)
    assert types(project, "merged") == TYPED
    assert len(emulator.account()["paid"]) == len(paid) + 1


@both_doors
def test_a_contract_that_has_texts_gets_texts(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """As projects have it that were written for the versions before; a new one gets types."""
    own = [
        {"name": "id", "data_type": "bigint"},
        {"name": "note", "data_type": "varchar"},
        {"name": "summary", "data_type": "varchar", "description": "One sentence"},
    ]
    contract = {"enrichment": {"model": "gpt-4o-mini", "user": "{note}", "output": ["summary"]}}
    for name, columns in (
        ("texts", {"enrichment_status": "varchar", "enrichment_key": "text"}),
        ("typed", TYPED),
    ):
        project.enrichment(name, NOTES)
        declared = [{"name": column, "data_type": kind} for column, kind in columns.items()]
        model = {
            "name": name,
            "config": {"meta": contract, "contract": {"enforced": True}},
            "columns": [*own, *declared],
        }
        project.write(f"models/{name}.yml", {"models": [model]})
    for _ in range(2):
        project.dbt("run")
    assert types(project, "texts") == TEXTS
    assert types(project, "texts__errors") == {"enrichment_key": "varchar"}
    assert types(project, "typed") == TYPED
    assert project.rows(
        "select count(*) from texts join typed using (id, enrichment_key, enrichment_status)"
    ) == [(2,)]
    assert set(emulator.account()["paid"].values()) == {1}


def test_they_compare_and_combine_as_texts_do(project: DbtProject, tmp_path: Path) -> None:
    """With words that are no status, in unions, tests, exports and data frames."""
    project.enrichment("notes", NOTES)
    project.write(
        "models/combined.sql",
        "select coalesce(enrichment_status, 'none') as status from {{ ref('notes') }} "
        "union all select 'another' "
        "union all select enrichment_status from {{ ref('notes') }} where enrichment_status "
        "not in ('done', 'another') and enrichment_status <> 'nothing'",
    )
    project.write(
        "models/tests.yml",
        {
            "models": [
                {
                    "name": "combined",
                    "columns": [
                        {
                            "name": "status",
                            "data_tests": [
                                {
                                    "accepted_values": {
                                        "arguments": {"values": ["done", "failed", "another"]}
                                    }
                                }
                            ],
                        }
                    ],
                }
            ]
        },
    )
    project.dbt("build")
    assert project.rows("select status from combined order by 1") == [
        ("another",), ("done",), ("failed",), ("failed",)
    ]  # fmt: skip
    path = tmp_path / "notes.parquet"
    project.execute(f"copy (from notes) to '{path}'")
    same = "enrichment_status = 'done' and enrichment_key = (select enrichment_key from notes "
    assert project.rows(f"select id from '{path}' where {same} where id = 0)") == [(0,)]
    assert project.rows("select enrichment_status from notes order by 1 desc") == [
        ("failed",),
        ("done",),
    ]
    assert "failed" in project.dbt("show", "--inline", "select * from {{ ref('notes') }}")
