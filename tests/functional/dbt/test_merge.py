"""`publish: merge` under real dbt: a SELECT of new rows only, and a table that keeps the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.state.ledger import Ledger
from support.dbt_project import COMMAND, PLUGIN, DbtProject, azure, both_doors

MERGE = {"publish": "merge"}
SELECT = """
select * from {{ source('raw', 'notes') }}
{% if dbt_enrich.is_incremental() %}
where version > (select max(version) from {{ this }})
{% endif %}
"""


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path, door: str) -> DbtProject:
    """A project whose source has three notes of version 1."""
    project = DbtProject(tmp_path, azure(emulator.url, emulator.api_key), door=door, stands_in=True)
    project.write(
        "models/sources.yml",
        {"sources": [{"name": "raw", "schema": "main", "tables": [{"name": "notes"}]}]},
    )
    project.enrichment("enriched", SELECT, meta=MERGE)
    project.execute(
        "create table notes as select i as id, 'note ' || i as note, 1 as version "
        "from range(3) as numbers(i)"
    )
    return project


def enriched(project: DbtProject) -> list[tuple[object, ...]]:
    """The table as it stands."""
    return project.rows("select id, version, summary, enrichment_status from enriched order by id")


def test_only_new_and_changed_rows_are_looked_at(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """The others stay as they are, and the log counts the rows of the run."""
    project.dbt("run")
    project.execute("insert into notes values (3, 'note 3', 2)")
    project.execute("update notes set note = 'edited', version = 2 where id = 1")
    output = project.dbt("run")
    assert ("enriched: 2 done; " in output, "0 reused, 2 sent" in output) == (True, True)
    assert enriched(project) == [
        (0, 1, "summary: note 0", "done"),
        (1, 2, "summary: edited", "done"),
        (2, 1, "summary: note 2", "done"),
        (3, 2, "summary: note 3", "done"),
    ]
    assert "0 sent" in project.dbt("run")
    assert len(enriched(project)) == 4
    assert set(emulator.account()["paid"].values()) == {1}
    with Ledger(project.state_dir / "ledger.sqlite") as ledger:
        (publication,) = ledger.publications.all()
    assert publication.counts == {"done": 4}


def test_a_misspelt_unique_key_is_named(project: DbtProject) -> None:
    """Where there is a table already, too."""
    project.dbt("run")
    project.enrichment("enriched", SELECT, meta=MERGE, config="unique_key = 'idd'")
    output = project.dbt("run", succeeds=False)
    assert "unique_key names the column 'idd', which the SELECT does not return" in output


def test_a_plan_before_the_first_run_hides_no_row(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """The empty table that it leaves is no table to go on from."""
    project.dbt("run", "--vars", "{enrichment_mode: plan}")
    assert enriched(project) == []
    project.dbt("run")
    assert [row[3] for row in enriched(project)] == ["done"] * 3
    assert len(emulator.account()["paid"]) == 3


def test_a_preview_shows_rows_that_are_not_new(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """The first ones of the whole SELECT, where a run would look at none; the table stays."""
    project.enrichment("enriched", SELECT, meta={**MERGE, "preview_model": "standard"})
    project.dbt("run")
    before = enriched(project)
    emulator.deployments({"name": "standard", "sku": "Standard"}, {"name": "gpt-4o-mini"})
    output = project.dbt("run", "--vars", "{enrichment_mode: preview, enrichment_preview_rows: 1}")
    assert "asked:    note 0" in output
    assert "previewed 1 row by standard, 0 would fail" in output
    assert enriched(project) == before
    project.execute("delete from notes")
    assert "no row to preview" in project.dbt("run", "--vars", "{enrichment_mode: preview}")


def test_pending_rows_get_their_answers_although_the_select_has_them_no_more(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """Beside the rows that are new."""
    emulator.pause()
    project.dbt("run", "--vars", "{enrichment_mode: submit}")
    assert {row[3] for row in enriched(project)} == {"pending"}
    emulator.resume()
    emulator.settle()
    project.execute("insert into notes values (3, 'note 3', 2)")
    project.dbt("run")
    assert enriched(project) == [
        (i, 2 if i == 3 else 1, f"summary: note {i}", "done") for i in range(4)
    ]
    assert set(emulator.account()["paid"].values()) == {1}


def test_failed_rows_are_mended_and_their_attempts_stay(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """The errors table has the attempts of every row, of this run or of an earlier one."""
    project.enrichment("enriched", SELECT, meta={**MERGE, "max_attempts": 1})
    emulator.rules([{"match": "note 1", "fault": "wrong_shape", "times": 1}])
    project.dbt("run")
    assert [row[3] for row in enriched(project)] == ["done", "failed", "done"]
    project.execute("insert into notes values (3, 'note 3', 2)")
    emulator.rules([{"match": "note 3", "fault": "wrong_shape", "times": 1}])
    project.dbt("run")
    errors = "select id, attempt, kind from enriched__errors order by id"
    assert project.rows(errors) == [(1, 1, "schema_mismatch"), (3, 1, "schema_mismatch")]
    emulator.rules(
        [{"match": f"note {i}", "answer": {"summary": f"summary: note {i}"}} for i in (1, 3)]
    )
    project.enrichment("enriched", SELECT, meta={**MERGE, "max_attempts": 2})
    project.dbt("run")
    assert {row[3] for row in enriched(project)} == {"done"}
    assert project.rows(errors) == [(1, 1, "schema_mismatch"), (3, 1, "schema_mismatch")]


def test_a_full_refresh_rebuilds_and_asks_nothing_again(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """Rows that left the source leave the table."""
    project.dbt("run")
    project.execute("delete from notes where id = 0")
    assert "0 sent" in project.dbt("run", "--full-refresh")
    assert [row[0] for row in enriched(project)] == [1, 2]
    assert set(emulator.account()["paid"].values()) == {1}


@both_doors
def test_a_key_of_several_columns_and_a_unique_index(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """Rows are told apart by all of them, and updated under the index."""
    project.enrichment(
        "enriched",
        SELECT,
        meta=MERGE,
        config="unique_key = ['id', 'kind of'], "
        "indexes = [{'columns': ['id', '\"kind of\"'], 'unique': true}]",
    )
    project.execute("alter table notes add column \"kind of\" varchar default 'a'")
    project.dbt("run")
    project.execute("insert into notes values (1, 'edited', 2, 'a'), (1, 'another', 2, 'b')")
    project.execute("delete from notes where id = 1 and version = 1")
    project.dbt("run")
    assert project.rows('select "kind of", summary from enriched where id = 1 order by 1') == [
        ("a", "summary: edited"),
        ("b", "summary: another"),
    ]


@pytest.mark.parametrize(
    ("door", "change", "said"),
    [
        (PLUGIN, "alter table notes add column mood varchar", "has no column 'mood'"),
        (PLUGIN, "alter table notes alter version type bigint", "'version' is BIGINT, but INTEGER"),
        (PLUGIN, "alter table notes drop column note2", "a column 'note2' that is neither"),
        (COMMAND, "alter table notes drop column note2", "a column 'note2' that is neither"),
    ],
)
def test_other_columns_than_the_table_has_are_named_before_anything_is_sent(
    project: DbtProject, emulator: RunningEmulator, change: str, said: str
) -> None:
    """With the fix, which works."""
    project.execute("alter table notes add column note2 varchar")
    project.dbt("run")
    project.execute("insert into notes values (3, 'note 3', 2, null)")
    project.execute(change)
    before = len(emulator.account()["paid"])
    output = project.dbt("run", succeeds=False)
    assert said in output
    assert "--full-refresh" in output
    assert len(emulator.account()["paid"]) == before
    project.dbt("run", "--full-refresh")
    assert len(enriched(project)) == 4


@both_doors
def test_an_output_of_another_type_is_named(project: DbtProject) -> None:
    """Outputs are columns of the table too."""
    project.dbt("run")
    project.enrichment(
        "enriched", SELECT, meta=MERGE, columns=[{"name": "summary", "data_type": "varchar[]"}]
    )
    assert "'summary' is varchar[], but VARCHAR" in project.dbt("run", succeeds=False)


def test_forgotten_rows_are_looked_at_again(project: DbtProject, emulator: RunningEmulator) -> None:
    """By the next run, as `plan` says, though the SELECT yields them no more."""
    project.dbt("run")
    project.command("forget", "--model", "enriched", "--yes")
    (plan,) = json.loads(project.command("plan", "--json"))
    assert (plan["staged"], plan["changed"], plan["requests"]) == (3, 3, 3)
    project.dbt("run")
    assert set(emulator.account()["paid"].values()) == {2}
    assert [row[2:] for row in enriched(project)] == [
        (f"summary: note {i}", "done") for i in range(3)
    ]
    (plan,) = json.loads(project.command("plan", "--json"))
    assert (plan["staged"], plan["requests"]) == (0, 0)
    # A changed task asks new rows alone, but for a full refresh, of which a plan is told.
    project.enrichment("enriched", SELECT, meta={**MERGE, "system": "Another prompt."})
    (plan,) = json.loads(project.command("plan", "--json"))
    assert plan["requests"] == 0
    (plan,) = json.loads(project.command("plan", "--full-refresh", "--json"))
    assert plan["requests"] == 3
    # The tables are as they were: a plan rebuilds nothing.
    assert len(enriched(project)) == 3
