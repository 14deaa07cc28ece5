"""What may go wrong around `dbt-enrich run` without the plugin: nothing is lost or paid twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from batch_server.server import RunningEmulator
from support.dbt_project import COMMAND, DbtProject, azure
from support.waiting import wait_until

SELECT = "select id, note from notes_given"


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path) -> DbtProject:
    """A project with four notes in a table of its database, and an enrichment of them."""
    project = DbtProject(tmp_path, azure(emulator.url, emulator.api_key), door=COMMAND)
    project.execute(
        "create table notes_given as select i as id, 'note ' || i as note from range(4) as n(i)"
    )
    project.enrichment("notes", SELECT)
    return project


def statuses(project: DbtProject, table: str = "notes") -> dict[str, int]:
    """How many rows of a table have which status."""
    found = project.rows(f"select enrichment_status, count(*) from {table} group by 1 order by 1")
    return dict(found)


def paid(emulator: RunningEmulator) -> list[int]:
    """How often each request was paid for."""
    return sorted(emulator.account()["paid"].values())


def test_two_at_once_take_turns(project: DbtProject, emulator: RunningEmulator) -> None:
    """Each reads what its own dbt has left, and both end with a whole table."""
    columns = [{"name": "topic", "data_type": "varchar"}]
    project.enrichment("topics", SELECT, meta={"output": ["topic"]}, columns=columns)
    running = [
        project.fork_command("run", "--select", f"path:models/{name}.sql")
        for name in ("notes", "topics")
    ]
    for one in running:
        assert one.wait() == 0, one.output
    said = "another dbt-enrich works on this project; waiting for the end of its step"
    assert any(said in one.output for one in running)
    assert (statuses(project), statuses(project, "topics")) == ({"done": 4}, {"done": 4})
    assert paid(emulator) == [1] * 8


def test_what_else_is_done_while_it_waits(project: DbtProject, emulator: RunningEmulator) -> None:
    """A row changes, dbt stages it, and dbt builds another target: each has its own answers."""
    emulator.pause()
    running = project.fork_command("run", "--target", "dev")
    wait_until(lambda: emulator.jobs.batches() or not running.process.is_alive())
    wait_until(lambda: "4 pending" in running.output or not running.process.is_alive())
    project.execute("update notes_given set note = 'changed' where id = 1")
    project.bare_dbt("run")
    assert statuses(project) == {"pending": 4}
    project.enrichment("notes", "select i as id, 'other ' || i as note from range(2) as n(i)")
    project.bare_dbt("--write-json", "run", "--target", "prod")
    project.enrichment("notes", SELECT)
    emulator.resume()
    assert running.wait() == 0, running.output
    assert project.rows("select id, summary from notes order by id") == [
        (i, "summary: changed" if i == 1 else f"summary: note {i}") for i in range(4)
    ]
    assert paid(emulator) == [1] * 5


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("'id'", "insert into notes_given values (null, 'x')", "unique_key 'id' is null in 1 row"),
        (
            "['id', 'note']",
            "insert into notes_given values (7, null)",
            "unique_key 'id, note' is null in 1 row",
        ),
        ("['id', 'note']", "insert into notes_given values (1, 'note 1')", "is not unique"),
        ("'id'", "alter table notes_given rename note to text", 'column "note" not found'),
    ],
)
def test_rows_that_cannot_be_told_apart_are_refused(
    project: DbtProject, emulator: RunningEmulator, key: str, change: str, said: str
) -> None:
    """By name, before anything of the model is sent; its table stays, and others go on."""
    project.enrichment("notes", SELECT, config=f"unique_key = {key}")
    project.command("run")
    before = project.rows("from notes order by all")
    project.execute(change)
    project.enrichment("others", "select 1 as id, 'other' as note")
    output = " ".join(project.command("run", exits=1).split())
    assert said.lower() in output.lower()
    assert len(paid(emulator)) in (4, 5)
    project.execute("delete from notes_given")
    if "rename" in change:
        project.execute("alter table notes_given rename text to note")
    project.execute("insert into notes_given select i, 'note ' || i from range(4) as n(i)")
    project.command("run")
    assert project.rows("from notes order by all") == before
    assert statuses(project, "others") == {"done": 1}
    assert paid(emulator) == [1] * 5


@pytest.mark.matrix
def test_a_model_that_is_disabled_for_a_while_loses_nothing(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """Its batch is at the service meanwhile; so it is with a full refresh, and a table dropped."""
    emulator.pause()
    project.command("submit")
    project.enrichment("notes", SELECT, config="unique_key = 'id', enabled = false")
    project.enrichment("others", SELECT, meta={"system": "Another."})
    emulator.resume()
    project.command("run")
    assert (statuses(project), statuses(project, "others")) == ({"pending": 4}, {"done": 4})
    project.enrichment("notes", SELECT)
    project.command("run")
    assert statuses(project) == {"done": 4}
    project.bare_dbt("run", "--full-refresh")
    project.execute("drop table others; drop table main_enrichment.notes__failures")
    project.command("run")
    assert (statuses(project), statuses(project, "others")) == ({"done": 4}, {"done": 4})
    assert paid(emulator) == [1] * 8


@pytest.mark.matrix
@pytest.mark.parametrize(
    "select",
    [["+notes+"], ["path:models"], ["tag:nightly"], ["+counted"], ["given+", "counted"]],
    ids=" ".join,
)
def test_what_is_selected_is_what_dbt_selects(
    project: DbtProject, emulator: RunningEmulator, select: list[str]
) -> None:
    """By a path, a tag or the graph; what reads the enrichment is built once it is done."""
    tagged = "tags = ['nightly']"
    project.write("models/given.sql", f"{{{{ config({tagged}) }}}} {SELECT}")
    config = f"unique_key = 'id', {tagged}"
    project.enrichment("notes", "select * from {{ ref('given') }}", config=config)
    project.write(
        "models/counted.sql",
        f"{{{{ config({tagged}) }}}} select count(summary) as n from {{{{ ref('notes') }}}}",
    )
    project.command("run", *(word for one in select for word in ("--select", one)))
    assert project.rows("from counted") == [(4,)]
    assert paid(emulator) == [1] * 4


def test_a_model_that_dbt_cannot_build_holds_no_other_up(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """What was built is worked on and published; the command ends as dbt did."""
    project.write("models/broken.sql", "select no_such_column from notes_given")
    project.enrichment("unbuilt", "select id, no_such_column as note from notes_given")
    output = project.command("submit", "--select", "notes", "broken", "unbuilt", exits=1)
    assert "no_such_column" in output
    assert statuses(project) == {"pending": 4}
    emulator.settle()
    project.command("run", "--select", "notes", "broken", "unbuilt", exits=1)
    assert statuses(project) == {"done": 4}
    assert paid(emulator) == [1] * 4
