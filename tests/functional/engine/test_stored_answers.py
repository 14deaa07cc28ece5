"""Answers are stored typed and in the order of the rows, and published from there."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from benchmarks.engine import Stages, open_warehouse
from dbt_enrich.config.file_limits import ServiceLimits
from dbt_enrich.endpoints.response_lines import reply_line
from dbt_enrich.pipeline.load import load_shard
from dbt_enrich.pipeline.stage.staged_rows import StagedRows
from dbt_enrich.state.answer_store import ANSWER_COLUMNS, text_sql
from dbt_enrich.state.shards import Shard
from support.shared import SharedState

ROWS, FILE_ROWS = 40, 10


@pytest.fixture(params=["local", "shared"])
def stages(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stages]:
    """Give the stages over some movies, with answers in the state directory and in a bucket."""
    if request.param == "shared":
        SharedState(tmp_path / "bucket", monkeypatch)
    path = tmp_path / "movies.duckdb"
    with duckdb.connect(str(path)) as made:
        made.execute(
            "create table movies as select i as movie_id, 'Movie ' || i as title, "
            f"'Film ' || i as overview from range({ROWS}) as numbers(i)"
        )
    with open_warehouse(path) as warehouse:
        opened = Stages(tmp_path / "state", warehouse)
        limits = ServiceLimits(max_requests=FILE_ROWS, max_bytes=1_000_000)
        opened.destination = replace(opened.destination, limits=limits)
        yield opened
        opened.close()


def asked(stages: Stages, texts: Mapping[int, Sequence[str]] | None = None) -> StagedRows:
    """Stage the movies, and load what is said of those that are new."""
    rows = staged(stages)
    for shard in stages.write(rows, stages.claim(rows)):
        loaded(stages, shard, texts or {})
    return rows


def staged(stages: Stages) -> StagedRows:
    """Stage the movies as they are now."""
    shutil.rmtree(stages.run.workspace.directory / "rows", ignore_errors=True)
    return stages.stage()


def published(stages: Stages, rows: StagedRows) -> tuple[list[Any], int]:
    """Return each movie's status and summary, and how many stored files were read as they are."""
    sql = stages.publish(rows).enriched_sql
    found = stages.request.relation.connection.execute(
        f"select movie_id, enrichment_status, summary, enrichment_error from ({sql})"
    ).fetchall()
    assert len(found) == rows.rows
    return found, sql.count("/held-")


def done(*movies: int) -> list[tuple[Any, ...]]:
    """Return what `published` returns of movies with their usual answers."""
    return [(movie, "done", f"Of {movie}.", None) for movie in movies]


def execute(stages: Stages, sql: str) -> None:
    """Change the movies."""
    stages.request.relation.connection.execute(sql)


def make_earlier(stages: Stages) -> None:
    """Write the answers as earlier versions did: as texts, in any order, without positions."""
    for name in stages.run.ledger.answers.live(stages.task_key):
        path = stages.run.store.answers(name)
        has_typed = stages.run.answers.has_typed(stages.run.answers.table_of([name]))
        text = text_sql("answers", has_typed=has_typed)
        columns = ", ".join(
            f"{text} as content" if column == "content" else column for column in ANSWER_COLUMNS
        )
        stages.run.workspace.write_parquet(
            f"select {columns} from read_parquet('{path}') as answers order by hash(request_key)",
            path.with_suffix(".earlier"),
        )
        path.with_suffix(".earlier").replace(path)


def loaded(stages: Stages, shard: Shard, texts: Mapping[int, Sequence[str]]) -> None:
    """Load a shard: what the model said of a movie, if not the usual, once or not, in any order."""
    requests = stages.run.store.requests(shard.shard).read_text(encoding="utf-8").splitlines()
    lines = []
    for request in map(json.loads, requests):
        said = [message["content"] for message in request["body"]["messages"]]
        (movie,) = (int(text[5:]) for text in said if text.startswith("Film "))
        for text in texts.get(movie, [usual(movie)]):
            message = {"role": "assistant", "content": text}
            choices = [{"finish_reason": "stop", "message": message}]
            usage = {"prompt_tokens": 1, "completion_tokens": 1}
            body = {"model": "m", "choices": choices, "usage": usage}
            lines.append(json.dumps(reply_line(request["custom_id"], 200, body)))
    random.Random(0).shuffle(lines)
    stages.run.store.response(shard.shard, "output").write_text("\n".join(lines), encoding="utf-8")
    stages.load(shard)


def usual(movie: int) -> str:
    """What the model says of a movie, as its own type gives it back."""
    return json.dumps({"categories": ["drama"], "summary": f"Of {movie}."}, separators=(",", ":"))


def stored(stages: Stages, *columns: str) -> list[tuple[Any, ...]]:
    """Return columns of all answers, as they lie in their files."""
    names = list(stages.run.ledger.answers.live(stages.task_key))
    table = stages.run.answers.table_with_texts(names, range(len(names)))
    return stages.run.workspace.rows(
        f"select {', '.join(columns)} from {table} as answers order by file_index, file_row_number"
    )


def test_answers_lie_typed_in_the_order_of_their_rows(stages: Stages) -> None:
    """The text is kept where the typed answer does not give it back, or the row failed."""
    loud, other = '{"categories":["DRAMA"],"summary":""}', '{"summary":"","categories":[]}'
    spaced = '{ "categories": [],\n  "summary": "" }'
    asked(stages, {3: [loud], 5: [other], 6: [spaced], 8: ["Sorry."], 9: []})
    answered = stored(stages, "row_id", "kind", "file_index")
    assert [row_id for row_id, kind, _ in answered if kind != "missing"] == [
        row for row in range(ROWS) if row != 9
    ]
    kept = stored(stages, "row_id", "kind", "content", "answer")
    assert [row for row in kept if row[2] is not None] == [
        (3, "done", loud, {"categories": ["drama"], "summary": ""}),
        (5, "done", other, {"categories": [], "summary": ""}),
        (8, "invalid_json", "Sorry.", None),
    ]


def test_of_two_answers_the_same_one_stands_whether_its_text_is_kept(stages: Stages) -> None:
    """The first of the texts, of which one is left out; the order of the rows stays."""
    early, late = usual(1), '{"summary":"B","categories":[]}'
    asked(stages, {2: [late, early, "Sorry."], 4: [early, early]})
    found = stored(stages, "row_id", "kind", "answer")
    assert [row_id for row_id, *_ in found] == [*range(ROWS)]
    assert found[2] == (2, "done", json.loads(early))
    assert found[4] == (4, "done", json.loads(early))


def test_files_that_lie_as_the_rows_do_are_published_as_they_are(stages: Stages) -> None:
    """Nothing else is written of their rows; and they are there until the table is, too."""
    rows = asked(stages)
    found = stages.publish(rows)
    left = {path.name for path in stages.run.workspace.directory.glob("*.parquet")}
    assert not any(name.startswith(("results", "places")) for name in left)
    assert found.counts == {"done": ROWS}
    stages.run.answers.forget(stages.task_key)
    table = stages.request.relation.connection.execute(
        f"select movie_id, enrichment_status, summary, enrichment_error from ({found.enriched_sql})"
    ).fetchall()
    assert table == done(*range(ROWS))
    assert published(stages, staged(stages))[1] == 0


def test_what_lies_otherwise_takes_the_general_path_file_by_file(stages: Stages) -> None:
    """Failed and missing rows, and those that were asked again, between files that are in order."""
    expected = done(*range(ROWS))
    expected[13] = (13, "failed", None, "invalid_json: the answer is not one valid JSON object")
    expected[39] = (39, "failed", None, "missing: the service returned no line for the request")
    rows = asked(stages, {13: ["Sorry."], 39: []})
    assert published(stages, rows) == (expected, 3)
    again = asked(stages)
    assert published(stages, again) == (done(*range(ROWS)), 3)


def test_rows_that_move_are_found_by_their_keys(stages: Stages) -> None:
    """Whatever comes before, between or after them, goes, or is there twice."""
    asked(stages)
    execute(stages, f"insert into movies select {ROWS}, 'New', 'Film {ROWS}'")
    assert published(stages, asked(stages)) == (done(*range(ROWS + 1)), 5)
    execute(stages, "create or replace table movies as from movies where movie_id <> 25")
    expected = done(*(movie for movie in range(ROWS + 1) if movie != 25))
    assert published(stages, asked(stages)) == (expected, 2)
    execute(stages, "insert into movies select 100, 'Same', 'Film 5'")
    expected.append((100, "done", "Of 5.", None))
    assert published(stages, asked(stages)) == (expected, 2)
    execute(stages, "create or replace table movies as from movies order by movie_id desc")
    assert published(stages, asked(stages)) == (expected[::-1], 0)


def test_of_two_files_with_an_answer_neither_is_taken_for_its_order(stages: Stages) -> None:
    """The answer that stands is looked up, as it is where files are not in order."""
    rows = asked(stages)
    answers = stages.run.answers
    names = list(stages.run.ledger.answers.live(stages.task_key))
    table = f"(from {answers.table_with_texts(names, [1])} where row_id between 10 and 19)"
    answers.add(f"select * replace (2 as attempt, {{categories: [], summary: 'Later.'}} as "
        f"answer) from {table} order by row_id", stages.task_key, "later")  # fmt: skip
    expected = done(*range(ROWS))
    expected[10:20] = [(movie, "done", "Later.", None) for movie in range(10, 20)]
    assert published(stages, rows) == (expected, 3)


@pytest.mark.parametrize("stages", ["local"], indirect=True)
def test_answers_of_earlier_versions_are_read_as_they_are(stages: Stages) -> None:
    """Beside those of today, failed ones and all."""
    rows = asked(stages, {13: ["Sorry."]})
    before, _ = published(stages, rows)
    make_earlier(stages)
    assert published(stages, rows) == (before, 0)
    execute(stages, f"insert into movies select {ROWS}, 'New', 'Film {ROWS}'")
    table, straight = published(stages, asked(stages, {13: ["Sorry."]}))
    assert (table[:13], table[14:]) == (done(*range(13)), done(*range(14, ROWS + 1)))
    assert (straight, table[13][1]) == (1, "failed")


def test_a_manifest_of_an_earlier_version_has_no_positions(stages: Stages) -> None:
    """What it asked is loaded, and published by its keys."""
    rows = stages.stage()
    for shard in stages.write(rows, stages.claim(rows)):
        path = stages.run.store.manifest(shard.shard)
        query = f"select request_key, attempt from read_parquet('{path}')"
        stages.run.workspace.write_parquet(query, path)
        loaded(stages, shard, {})
    assert published(stages, rows) == (done(*range(ROWS)), 0)


def test_answers_are_stored_unsorted_where_memory_is_too_little(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are safe, and published by their keys."""
    monkeypatch.setattr(load_shard, "_SORT", 1_000_000_000)
    rows = asked(stages)
    assert "row_id" not in stages.run.workspace.columns(
        f"from {stages.run.answers.table(stages.task_key)}"
    )
    assert published(stages, rows) == (done(*range(ROWS)), 0)
