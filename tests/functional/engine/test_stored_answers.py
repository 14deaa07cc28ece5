"""Answers are stored typed and in the order of the rows, and published from there."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from benchmarks.engine import Stages, open_warehouse
from dbt_enrich.endpoints.response_lines import reply_line
from dbt_enrich.state.shards import Shard

ROWS = 40


@pytest.fixture
def stages(tmp_path: Path) -> Iterator[Stages]:
    """Give the stages over some movies."""
    path = tmp_path / "movies.duckdb"
    with duckdb.connect(str(path)) as made:
        made.execute(
            "create table movies as select i as movie_id, 'Movie ' || i as title, "
            f"'Film ' || i as overview from range({ROWS}) as numbers(i)"
        )
    with open_warehouse(path) as warehouse:
        opened = Stages(tmp_path / "state", warehouse)
        yield opened
        opened.close()


def loaded(stages: Stages, shard: Shard, texts: Mapping[int, Sequence[str]]) -> None:
    """Load a shard: what the model said of a movie, if not the usual, once or not, in any order."""
    requests = stages.run.store.requests(shard.shard).read_text(encoding="utf-8").splitlines()
    lines = []
    for request in map(json.loads, requests):
        movie = int(request["body"]["messages"][-1]["content"].removeprefix("Film "))
        for text in texts.get(movie, [usual(movie)]):
            message = {"role": "assistant", "content": text}
            body = {"model": "m", "choices": [{"finish_reason": "stop", "message": message}]}
            lines.append(json.dumps(reply_line(request["custom_id"], 200, body)))
    random.Random(0).shuffle(lines)
    stages.run.store.response(shard.shard, "output").write_text("\n".join(lines), encoding="utf-8")
    stages.load(shard)


def usual(movie: int) -> str:
    """What the model says of a movie, as its own type gives it back."""
    return json.dumps({"categories": ["drama"], "summary": f"Of {movie}."}, separators=(",", ":"))


def stored(stages: Stages, *columns: str) -> list[tuple[Any, ...]]:
    """Return columns of all answers, as they lie in their files."""
    table = stages.run.answers.table(stages.task_key)
    return stages.run.workspace.rows(
        f"select {', '.join(columns)} from {table} as answers order by file_index, file_row_number"
    )


def test_answers_lie_typed_in_the_order_of_their_rows(stages: Stages) -> None:
    """The text is kept where the typed answer does not give it back, or the row failed."""
    (shard,) = stages.write(rows := stages.stage(), stages.claim(rows))
    loud, other = '{"categories":["DRAMA"],"summary":""}', '{"summary":"","categories":[]}'
    spaced = '{ "categories": [],\n  "summary": "" }'
    loaded(stages, shard, {3: [loud], 5: [other], 6: [spaced], 8: ["Sorry."], 9: []})
    in_order = [row for row in stored(stages, "row_id", "kind") if row[1] != "missing"]
    assert [row_id for row_id, _ in in_order] == [row for row in range(ROWS) if row != 9]
    kept = stored(stages, "row_id", "kind", "content", "answer")
    assert [row for row in kept if row[2] is not None] == [
        (3, "done", loud, {"categories": ["drama"], "summary": ""}),
        (5, "done", other, {"categories": [], "summary": ""}),
        (8, "invalid_json", "Sorry.", None),
    ]


def test_of_two_answers_the_same_one_stands_whether_its_text_is_kept(stages: Stages) -> None:
    """The first of the texts, of which one is left out; the order of the rows stays."""
    (shard,) = stages.write(rows := stages.stage(), stages.claim(rows))
    early, late = usual(1), '{"summary":"B","categories":[]}'
    loaded(stages, shard, {2: [late, early, "Sorry."], 4: [early, early]})
    found = stored(stages, "row_id", "kind", "answer")
    assert [row_id for row_id, *_ in found] == [*range(ROWS)]
    assert found[2] == (2, "done", json.loads(early))
    assert found[4] == (4, "done", json.loads(early))
