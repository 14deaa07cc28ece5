"""dbt-postgres and `dbt-enrich` between its runs, against a real server."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.cli.hosts import open_remote_host
from dbt_enrich.cli.project import Location, load_project
from dbt_enrich.report.collect import SETTINGS, collect
from dbt_enrich.report.documents import markdown_document
from dbt_enrich.warehouse.copied_tables import copied_tables
from support.dbt_project import DbtProject, azure
from support.postgres_project import PostgresProject
from support.shared_ledger import LedgerServer, document

for _module in ("adbc_driver_manager", "adbc_driver_postgresql", "pyarrow", "psycopg2"):
    pytest.importorskip(_module)

NOTES = "select id, note from {{ target.schema }}.raw"


@pytest.fixture
def project(emulator: RunningEmulator, ledgers: LedgerServer, tmp_path: Path) -> PostgresProject:
    """A project in whose schema a table has four notes."""
    made = PostgresProject(tmp_path, azure(emulator.url, emulator.api_key), ledgers)
    made.execute(
        "create table raw as select i as id, 'note ' || i as note "
        "from generate_series(0, 3) as numbers (i)"
    )
    return made


def statuses(project: PostgresProject, table: str = "notes") -> dict[str, int]:
    """Return how many rows of the enriched table have come to each status."""
    return dict(project.rows(f"select enrichment_status, count(*) from {table} group by 1"))


def test_rows_are_asked_once(project: PostgresProject, emulator: RunningEmulator) -> None:
    """A bare run of dbt sends nothing; changed rows are asked, and all of a changed task."""
    project.enrichment("notes", NOTES, meta={"max_attempts": 1, "warn_failed_share": 1})
    project.command("run")
    assert statuses(project) == {"done": 4}
    assert "nothing new" in project.command("run")
    emulator.rules([{"match": "broken", "fault": "wrong_shape"}])
    project.execute("update raw set note = 'changed' where id = 1")
    project.execute("update raw set note = 'broken' where id = 2")
    project.bare_dbt("run")
    assert statuses(project) == {"done": 2, "stale": 2}
    project.command("run", exits=4)
    assert statuses(project) == {"done": 3, "failed": 1}
    assert project.rows("select summary from notes where id = 1") == [("summary: changed",)]
    assert project.rows("select id, attempt, kind from notes__errors") == [
        (2, 1, "schema_mismatch")
    ]
    assert set(emulator.account()["paid"].values()) == {1}
    emulator.rules([])
    emulator.pause()
    project.enrichment("notes", NOTES, meta={"system": "Say it in a word."})
    project.command("run", "--timeout", "0", exits=3)
    assert statuses(project) == {"stale": 3, "pending": 1}
    emulator.resume()
    project.command("run")
    assert statuses(project) == {"done": 4}
    assert project.rows("select count(*) from notes__errors") == [(0,)]
    assert set(emulator.account()["paid"].values()) == {1}


# Outputs of every type, by name, with what Postgres has them as.
_OUTPUTS = {
    "words": ("varchar", "text"),
    "is_it": ("boolean", "boolean"),
    "small": ("tinyint", "smallint"),
    "whole": ("integer", "integer"),
    "large": ("bigint", "bigint"),
    "huge": ("hugeint", "numeric"),
    "about": ("double", "double precision"),
    "exact": ("decimal(10,2)", "numeric"),
    "day": ("date", "date"),
    "hour": ("time", "time without time zone"),
    "at": ("timestamp", "timestamp without time zone"),
    "instant": ("timestamptz", "timestamp with time zone"),
    "tone": ("enum('so-so', 'it''s fine')", "text"),
    "labels": ("enum('a', 'b')[]", "ARRAY"),
    "days": ("date[]", "ARRAY"),
    "table_of_words": ("varchar[][]", "jsonb"),
    "Thing": ("struct(a integer, b varchar[])", "jsonb"),
    "things": ("struct(a varchar, b struct(c enum('x', 'y'))[])[]", "jsonb"),
}


_ANSWER = {
    "words": "a\x00b",
    "is_it": True,
    "small": -7,
    "whole": 2147483647,
    "large": 9007199254740993,
    "huge": 123,
    "about": 0.1,
    "exact": 1.5,
    "day": "2024-02-29",
    "hour": "12:34:56",
    "at": "2024-02-29T12:34:56.789",
    "instant": "2024-02-29T12:34:56+02:00",
    "tone": "it's fine",
    "labels": ["a", "b"],
    "days": ["2024-02-29"],
    "table_of_words": [["a", "b"], []],
    "Thing": {"a": 1, "b": ["x", "y\x00"]},
    "things": [{"a": "q", "b": [{"c": "x"}]}],
}


_AS_TEXT = {
    "words": "a\ufffdb",
    "is_it": "true",
    "small": "-7",
    "whole": "2147483647",
    "large": "9007199254740993",
    "huge": "123",
    "about": "0.1",
    "exact": "1.50",
    "day": "2024-02-29",
    "hour": "12:34:56",
    "at": "2024-02-29 12:34:56.789",
    "instant": "2024-02-29 10:34:56+00",
    "tone": "it's fine",
    "labels": "{a,b}",
    "days": "{2024-02-29}",
    "table_of_words": '[["a", "b"], []]',
    "Thing": '{"a": 1, "b": ["x", "y\ufffd"]}',
    "things": '[{"a": "q", "b": [{"c": "x"}]}]',
}


def test_a_table_is_all_that_dbt_makes_of_one(
    project: PostgresProject, emulator: RunningEmulator
) -> None:
    """With outputs of every type, a contract, indexes, grants, docs and hooks; with an odd text."""
    project.execute("create role reader; create table hooked (at text)")
    emulator.rules([{"match": "", "answer": _ANSWER}])
    columns: list[dict[str, Any]] = [
        {"name": name, "data_type": kind, "description": f"The {name}.", "quote": name == "Thing"}
        for name, (kind, _) in _OUTPUTS.items()
    ]
    columns += [
        {"name": "id", "data_type": "integer", "constraints": [{"type": "not_null"}]},
        {"name": "note", "data_type": "text"},
    ]
    config = (
        "unique_key = 'id', contract = {'enforced': true}, "
        "indexes = [{'columns': ['id'], 'unique': true}], "
        "grants = {'select': ['reader']}, persist_docs = {'relation': true, 'columns': true}, "
        "post_hook = \"insert into {{ target.schema }}.hooked values ('after')\""
    )
    project.enrichment(
        "typed", NOTES, meta={"output": list(_OUTPUTS)}, columns=columns, config=config
    )
    output = project.command("run")
    assert output.count("Postgres (dbt-postgres) does not hold every type") == 1
    assert statuses(project, "typed") == {"done": 4}
    here = f"table_schema = '{project.schema}' and table_name = 'typed'"
    types = dict(
        project.rows(f"select column_name, data_type from information_schema.columns where {here}")
    )
    assert {name: types[name] for name in _OUTPUTS} == {
        name: kind for name, (_, kind) in _OUTPUTS.items()
    }
    assert (types["enrichment_key"], types["enrichment_status"]) == ("uuid", "text")
    shown = ", ".join(f'"{name}"::text' for name in _OUTPUTS)
    for row in project.rows(f"select {shown} from typed"):
        assert dict(zip(_OUTPUTS, row, strict=True)) == _AS_TEXT
    assert project.rows("select count(*) from pg_indexes where tablename = 'typed'") == [(1,)]
    assert project.rows(
        f"select privilege_type from information_schema.role_table_grants where {here} "
        "and grantee = 'reader'"
    ) == [("SELECT",)]
    described = "select col_description('typed'::regclass, attnum) from pg_attribute "
    described += "where attrelid = 'typed'::regclass and attname = 'Thing'"
    assert project.rows(described) == [("The Thing.",)]
    assert {row[0] for row in project.rows("select at from hooked")} == {"after"}
    for name in ("tone", "enrichment_status"):
        with pytest.raises(Exception, match=f"{name}_members"):
            project.execute(f"update typed set {name} = 'another'")


def test_rows_are_merged(project: PostgresProject, emulator: RunningEmulator) -> None:
    """New rows alone are looked at; the members of an enum may be others by then."""
    select = NOTES + "{% if dbt_enrich.is_incremental() %} where id > 1 {% endif %}"
    meta = {"publish": "merge", "output": ["tone"], "max_attempts": 1, "warn_failed_share": 1}

    def written(kind: str, **more: Any) -> None:
        columns = [{"name": "tone", "data_type": kind}]
        project.enrichment("notes", select, meta={**meta, **more}, columns=columns)

    emulator.rules([{"match": "note 3", "fault": "wrong_shape"}])
    written("enum('good', 'bad')")
    project.command("run", exits=4)
    assert statuses(project) == {"done": 3, "failed": 1}
    before = project.rows("select * from notes where id < 2 order by id")
    emulator.rules([])
    project.execute("insert into raw values (4, 'note 4')")
    project.execute("update raw set note = 'edited' where id = 3")
    written("enum('new')")
    project.command("run")
    assert statuses(project) == {"done": 5}
    assert project.rows("select * from notes where id < 2 order by id") == before
    assert project.rows("select tone from notes where id > 1") == [("new",)] * 3
    assert project.rows("select count(*) from notes__errors") == [(0,)]
    assert set(emulator.account()["paid"].values()) == {1}


def test_what_is_cut_off_is_paid_once(project: PostgresProject, emulator: RunningEmulator) -> None:
    """Killed before and after results are written, and where the table cannot be published."""
    project.enrichment("notes", NOTES)
    assert "notes: 4 rows are pending" in project.bare_dbt("run")
    for moment in ("write_results:before", "write_results:after"):
        project.killed_command("run", kill_at=moment)
        assert statuses(project) == {"pending": 4}
    project.execute("create view watching as select * from notes")
    hooks = "unique_key = 'id', post_hook = 'select 1 / 0'"
    project.enrichment("notes", NOTES, config=hooks)
    project.command("run", exits=1)
    assert statuses(project) == {"pending": 4}
    assert project.rows("select count(*) from watching") == [(4,)]
    project.enrichment("notes", NOTES)
    project.command("run")
    assert statuses(project) == {"done": 4}
    assert set(emulator.account()["paid"].values()) == {1}
    assert len(emulator.account()["paid"]) == 4


def test_a_name_that_postgres_would_cut_off(project: PostgresProject) -> None:
    """Is refused before a table of another model is lost to it."""
    project.enrichment("é" * 27, NOTES)
    output = project.bare_dbt("run", succeeds=False)
    assert "has 54 bytes, and Postgres cuts names off after 63" in " ".join(output.split())
    project.enrichment("notes", NOTES, config="unique_key = 'ID'")
    output = project.bare_dbt("run", "--select", "notes", succeeds=False)
    assert "'ID', but Postgres tells upper case from lower" in " ".join(output.split())


def test_views_on_a_table_stay(project: PostgresProject, emulator: RunningEmulator) -> None:
    """They are on the new one, with their owner's grants and options, and so are dbt's own."""
    project.enrichment("notes", NOTES, meta={"max_attempts": 1, "warn_failed_share": 1})
    for name, select in (
        ("watched", "select id, summary, ';' as mark from {{ ref('notes') }} where id >= 0"),
        ("failed", "select kind from {{ dbt_enrich.enrichment_errors('notes') }}"),
    ):
        project.write(f"models/{name}.sql", "{{ config(materialized='view') }} " + select)
    emulator.rules([{"match": "note 3", "fault": "wrong_shape"}])
    project.command("run", exits=4)
    project.bare_dbt("run")
    project.execute(
        "create role watcher; create view others with (security_barrier = true) as "
        "select count(*) as failed from notes where enrichment_status = 'failed'; "
        "grant select on others to watcher; "
        "create materialized view kept as select id from notes"
    )
    emulator.rules([])
    project.execute("update raw set note = 'changed' where id = 3")
    output = project.command("run")
    assert output.count("is on the previous table") == 1
    assert "kept is on the previous table" in " ".join(output.split())
    assert project.rows("select failed from others") == [(0,)]
    assert project.rows("select has_table_privilege('watcher', 'others', 'select')") == [(True,)]
    options = "select reloptions from pg_class where oid = 'others'::regclass"
    assert project.rows(options) == [(["security_barrier=true"],)]
    summaries = project.rows("select summary from watched where id = 3")
    assert summaries == [("summary: changed",)]
    assert project.rows("select count(*) from failed") == [(0,)]
    # A column that a view needs is another one now: that view alone is dropped, and dbt makes its.
    project.execute("alter table raw alter id type bigint")
    output = project.bare_dbt("run")
    assert f"view {project.schema}.watched is on the previous table" in " ".join(output.split())
    assert project.rows("select failed from others") == [(0,)]
    assert project.rows("select count(*) from watched") == [(4,)]


# Values whose text in a request must be the same, in DuckDB's words and in Postgres's.
_VALUES = {
    "text": ("'it''s \"é\"'", "text"),
    "whole": ("-7", "bigint"),
    "about": ("0.1", "double precision"),
    "tenth": ("0.1", "real"),
    "exact": ("1.50", "numeric(10,2)"),
    "is_it": ("true", "boolean"),
    "day": ("'2024-02-29'", "date"),
    "hour": ("'12:34:56.5'", "time"),
    "at": ("'2024-02-29 12:34:56.789'", "timestamp"),
    "instant": ("'2024-02-29 12:34:56+02'", "timestamptz"),
    "id_": ("'6ba7b810-9dad-11d1-80b4-00c04fd430c8'", "uuid"),
    "labels": ("array['a', null, 'b\"']", "text[]"),
    "days": ("array[date '2024-02-29']", "date[]"),
    "document": ("'{\"a\": [1, null]}'", "json"),
}


def test_hosts_and_targets_share_answers(
    emulator: RunningEmulator, ledgers: LedgerServer, tmp_path: Path
) -> None:
    """What DuckDB has asked, Postgres does not; the ledger is in the same server, named once."""
    values = ", ".join(
        f"cast({value} as {kind}) as {name}" for name, (value, kind) in _VALUES.items()
    )
    select = f"select 1 as id, {values} union all select 2 as id, {values.replace('é', 'è')}"
    task = {"user": " ".join(f"{{{name}}}" for name in _VALUES)}
    config = azure(emulator.url, emulator.api_key, state=document(ledgers.new()))
    duckdb = DbtProject(tmp_path / "duckdb", config)
    duckdb.enrichment("notes", select, meta=task)
    duckdb.dbt("run")
    keys = "select id, cast(enrichment_key as varchar) from notes where summary is not null"
    asked = sorted(duckdb.rows(keys))
    assert len(asked) == 2
    in_target = {**config, "state": {**config["state"], "ledger": "target"}}
    project = PostgresProject(tmp_path / "postgres", in_target, ledgers)
    project.enrichment("notes", select, meta=task)
    for target in ("dev", "prod"):
        project.command("run", "--target", target)
    assert sorted(project.rows(keys)) == asked
    assert sorted(project.rows(keys.replace("notes", f"{project.schema}_prod.notes"))) == asked
    assert set(emulator.account()["paid"].values()) == {1}
    assert len(emulator.account()["paid"]) == 2


def test_a_report_of_what_is_in_postgres(
    project: PostgresProject, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """All rows are counted there; what is shown of a few of them comes as a copy."""
    columns = [
        {"name": "summary", "data_type": "varchar"},
        {"name": "tone", "data_type": "enum('good', 'bad')"},
        {"name": "who", "data_type": "struct(name varchar, ages integer[])"},
    ]
    meta = {
        "output": [column["name"] for column in columns],
        "max_attempts": 2,
        "warn_failed_share": 1,
    }
    emulator.rules(
        [
            {"match": "note 3", "fault": "wrong_shape"},
            *(
                {"match": f"note {row}", "answer": {
                    "summary": f"about {row}", "tone": "bad" if row else "good",
                    "who": {"name": "Ann", "ages": [row]}}}
                for row in range(3)
            ),
        ]
    )  # fmt: skip
    project.enrichment("notes", NOTES, meta=meta, columns=columns)
    project.command("run", exits=4)
    document = json.loads(project.command("report", "--format", "json"))
    (model,) = document["models"]
    assert (model["note"], model["copied"]) == (None, None)
    assert model["statuses"] == {"done": 3, "failed": 1}
    found = {column["name"]: column for column in model["columns"]}
    assert found["tone"]["values"] == [{"value": "bad", "rows": 2}, {"value": "good", "rows": 1}]
    assert found["who.ages"]["histogram"]["maximum"] == 2
    assert [(f["kind"], f["rows"], f["next_run"]) for f in model["failures"]] == [
        ("schema_mismatch", 1, 0)
    ]
    assert [row["status"] for row in model["sample"]] == ["failed", "done", "done", "done"]
    assert sum(day["retries"] for day in document["days"]) == 2
    assert "Ann" in project.command("report", "--format", "markdown")
    project.command("report", "--output", str(tmp_path / "report.html"))
    location = Location(project.directory, project.directory)
    loaded = load_project(location)
    with closing(open_remote_host(loaded, location)) as host:
        folder = tmp_path / "copies"
        folder.mkdir()
        tables = copied_tables(host, folder, SETTINGS, most=1)
        report = collect(loaded.config, project=loaded.name, tables=tables)
    (part,) = report.models
    assert part.statuses == {"done": 3, "failed": 1}
    assert part.versions[0].rows == 3
    assert part.copied is not None
    assert 1 <= part.copied <= 2
    assert len(part.sample) == 4
    assert "of all" in markdown_document(report)
    project.execute("drop table notes")
    (gone,) = json.loads(project.command("report", "--format", "json"))["models"]
    assert "not in the warehouse" in gone["note"]
