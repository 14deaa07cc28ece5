"""Another endpoint is one class: requests are written and replies are read by it alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from benchmarks.engine import Stages, open_warehouse
from benchmarks.movies import MODEL
from dbt_enrich.endpoints.base import Image, Prompt, ReplyPaths
from dbt_enrich.endpoints.packs import Packing, keys_sql
from dbt_enrich.pipeline.planning.plan import row_overheads
from dbt_enrich.pipeline.stage.staged_rows import StagedRows
from dbt_enrich.state.shards import Shard

GOOD = {"categories": ["drama"], "summary": "A film."}
TOOK = {"read": 7, "again": 2, "wrote": 3}


class Echo:
    """An endpoint whose bodies and replies have nothing in common with those of any other."""

    name = "echo"
    path = "/echo"
    message_path = "$.ask.text"
    takes_lists = False
    reply = ReplyPaths(
        usual={
            "raw": "$.said.text",
            "finish_reason": "$.said.end",
            "refusal": "$.said.no",
            "model": "$.by",
            "prompt_tokens": "$.took.read",
            "cached_tokens": "$.took.again",
            "completion_tokens": "$.took.wrote",
        },
        keys=("said",),
        places=("$.said",),
    )
    cut_reasons = ("short",)
    filter_reasons = ()
    takes_images = False

    def body(
        self,
        prompt: Prompt,
        user_message: str,
        parameters: Mapping[str, Any],
        images: Sequence[Image] = (),  # noqa: ARG002 - it takes none
    ) -> dict[str, Any]:
        """Return a body."""
        return {
            "ask": {"text": user_message},
            "rules": [prompt.system, *prompt.examples],
            "form": {prompt.name: prompt.schema},
            "with": parameters,
        }

    def repair_sql(self, answer: str, problem: str) -> str:
        """Build another key of the body."""
        return f"""',"again":' || cast(to_json({answer} || ': ' || {problem}) as varchar)"""

    def prompt_tokens(self, prompt: Prompt, model: str) -> int:
        """Count what the name of its schema says."""
        return {"row": 11, "rows": 40}[prompt.name] + len(model) - len(MODEL)


REPLIES: list[tuple[Any, str]] = [
    ({"said": {"text": json.dumps(GOOD), "end": "done"}}, "done"),
    ({"said": {"no": "I will not."}}, "refusal"),
    ({"said": {"text": json.dumps(GOOD)[:9], "end": "short"}}, "truncated"),
    ({"said": {"text": '{"summary": 5, "categories": []}'}}, "schema_mismatch"),
    ({"said": {}}, "invalid_json"),
    (None, "invalid_json"),
]


@pytest.fixture
def stages(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """Give the stages over six movies, asked of the endpoint."""
    path = tmp_path / "movies.duckdb"
    with duckdb.connect(str(path)) as made:
        made.execute(
            "create table movies as select i as movie_id, 'Movie ' || i as title, "
            "'Film \"' || i || '\"' as overview from range(6) as numbers(i)"
        )
    with open_warehouse(path) as warehouse:
        opened = Stages(
            tmp_path / "state", warehouse, getattr(request, "param", None), endpoint=Echo()
        )
        yield opened
        opened.close()


def sent(stages: Stages, rows: StagedRows) -> tuple[Shard, list[dict[str, Any]]]:
    """Write what is new as one file, and return its lines."""
    (shard,) = stages.write(rows, stages.claim(rows))
    lines = stages.run.store.requests(shard.shard).read_text(encoding="utf-8").splitlines()
    return shard, [json.loads(line) for line in lines]


def answered(stages: Stages, shard: Shard, lines: list[str]) -> list[tuple[Any, ...]]:
    """Load lines as a shard's output file, and return the answers."""
    store = stages.run.store
    store.response(shard.shard, "output").write_text("\n".join(lines), encoding="utf-8")
    stages.load(shard)
    return stages.run.workspace.rows(
        "select kind, message, prompt_tokens, cached_tokens, completion_tokens, model "
        f"from {stages.run.answers.table_of([shard.shard])} as answers"
    )


def reply(custom_id: str, body: Any) -> str:
    """The line of a reply; one that broke off where there is none."""
    line = {
        "custom_id": custom_id,
        "response": {"status_code": 200, "body": {"by": "echo-1", "took": TOOK, **(body or {})}},
        "error": None,
    }
    return json.dumps(line) if body is not None else json.dumps(line)[:-10]


def test_rows_go_out_and_come_back_in_its_own_form(stages: Stages) -> None:
    """Answers, refusals, cut and missing ones, each with its tokens; a repair is asked its way."""
    rows = stages.stage()
    shard, lines = sent(stages, rows)
    assert {line["url"] for line in lines} == {"/echo"}
    assert min(line["body"]["ask"]["text"] for line in lines) == 'Film "0"'
    assert all([*line["body"]] == ["model", "ask", "rules", "form", "with"] for line in lines)
    replies = [
        reply(line["custom_id"], body) for line, (body, _) in zip(lines, REPLIES, strict=True)
    ]
    found = answered(stages, shard, replies)
    assert sorted(kind for kind, *_ in found) == sorted(kind for _, kind in REPLIES)
    assert {tuple(tokens) for _, _, *tokens, _ in found} == {(7, 2, 3)}
    assert {model for *_, model in found} == {"echo-1", None}
    messages = {message for _, message, *_ in found}
    assert "the reply has no text of an answer: it has `by`, `took`, `said`" not in messages
    assert "the reply has no text of an answer: `said` has nothing" in messages
    _, again = sent(stages, rows)
    repaired = [line["body"]["again"] for line in again if "again" in line["body"]]
    assert len(repaired) == 1
    assert any('{"summary": 5' in text and "$.summary" in text for text in repaired)


@pytest.mark.parametrize("stages", [Packing(rows=4)], indirect=True)
def test_packs_go_out_and_come_back_in_its_own_form(stages: Stages) -> None:
    """Their rows are read back of an input file, too, and a plan counts its tokens."""
    shard, lines = sent(stages, stages.stage())
    packs = [json.loads(line["body"]["ask"]["text"]) for line in lines]
    assert sorted(len(pack) for pack in packs) == [2, 4]
    assert all([*line["body"]["form"]] == ["rows"] for line in lines)
    path = stages.run.store.requests(shard.shard)
    input_file = f"(select line from read_csv('{path}', delim = e'\\x01', header = false, "
    input_file += "quote = '', escape = '', columns = {line: 'varchar'}))"
    manifest = f"read_parquet('{stages.run.store.manifest(shard.shard)}')"
    columns = "request_key, custom_id, position"
    assert stages.run.workspace.rows(
        f"select {columns} from ({keys_sql(Echo(), input_file, stages.task_key)}) order by all"
    ) == stages.run.workspace.rows(f"select {columns} from {manifest} order by all")
    answers = [json.dumps({"rows": [{"id": int(i), "answer": GOOD} for i in p]}) for p in packs]
    replies = [
        reply(line["custom_id"], {"said": {"text": text}})
        for line, text in zip(lines, answers, strict=True)
    ]
    found = answered(stages, shard, replies)
    assert [kind for kind, *_ in found] == ["done"] * 6
    assert sum(prompt for _, _, prompt, *_ in found) == 7 * 2
    assert row_overheads(stages.selection, 5.0) == (11, 40 / 4 + 3)
