"""Tokens: what the requests for the same real films hold, the notebook's way and ours.

Everything is counted, in the input files as they would be sent, by the tokenizer of the model's
family. The answer is the same for everybody: the film's own genres, and its overview as summary.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
from benchmarks import notebook
from benchmarks.engine import Stages, open_warehouse, response_format
from benchmarks.measuring import Figures
from benchmarks.movies import MODEL
from dbt_enrich.cost.prices import Price, price_table
from dbt_enrich.cost.tokens import count_tokens
from dbt_enrich.endpoints.base import Prompt
from dbt_enrich.endpoints.chat_completions import CHAT_COMPLETIONS
from dbt_enrich.endpoints.packs import Packing

ONE_ROW = "dbt-enrich, one row a request"
PACKS = (5, 10, 20, 50)
# What an output line holds beside the answer's text, as the emulator writes it.
_FRAME_BYTES = 700


def packs_of(rows: int) -> str:
    """Return the name of the contender that packs so many rows."""
    return f"dbt-enrich, {rows} rows a request"


def measure(warehouse: Path, directory: Path) -> dict[str, Figures]:
    """Count the tokens of each way to ask the films of a warehouse.

    Returns:
        Of each contender `requests`, `request_bytes` and `response_bytes`, `input` and `output`
        tokens, and their `batch` and `synchronous` cost in the currency of the package's prices.
    """
    with duckdb.connect(str(warehouse), read_only=True) as database:
        frame = database.execute("select * from movies").df()
        answers = _answers(database)
    found = {}
    requests = directory / "notebook"
    requests.mkdir()
    notebook.export(frame, response_format(), requests)
    found["notebook"] = _figures(requests.iterdir(), answers)
    for rows in (1, *PACKS):
        state = directory / f"state-{rows}"
        packing = Packing(rows=rows) if rows > 1 else None
        with open_warehouse(warehouse) as opened:
            stages = Stages(state, opened, packing)
            staged = stages.stage()
            shards = stages.write(staged, stages.claim(staged))
            stages.close()
        files = [stages.run.store.requests(shard.shard) for shard in shards]
        found[packs_of(rows) if rows > 1 else ONE_ROW] = _figures(files, answers)
    return found


def _answers(database: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Any]]:
    """Return the answer to each overview."""
    found = database.execute(
        "select overview, list_transform(split(genres, ','), lambda g: lower(trim(g))) from movies"
    ).fetchall()
    return {
        overview: {"categories": categories, "summary": overview} for overview, categories in found
    }


def _figures(files: Iterable[Path], answers: Mapping[str, dict[str, Any]]) -> Figures:
    """Count what input files hold and what their answers would."""
    paths = list(files)
    bodies = [body for path in paths for body in _bodies(path)]
    overhead = CHAT_COMPLETIONS.prompt_tokens(_prompt(bodies[0]), MODEL)
    messages = [str(body["messages"][-1]["content"]) for body in bodies]
    given = sum(count_tokens(messages, MODEL)) + overhead * len(bodies)
    texts = [_answer(message, answers) for message in messages]
    answered = sum(count_tokens(texts, MODEL))
    price = _price()
    return {
        "requests": len(bodies),
        "request_bytes": sum(path.stat().st_size for path in paths),
        "response_bytes": sum(len(text.encode()) + _FRAME_BYTES for text in texts),
        "input": given,
        "output": answered,
        "batch": price.batch_cost(given, answered) or 0.0,
        "synchronous": price.synchronous_cost(given, answered),
    }


def _prompt(body: dict[str, Any]) -> Prompt:
    """Return what a body has beside its user message."""
    system, *examples = [str(message["content"]) for message in body["messages"][:-1]]
    pairs = tuple(zip(examples[::2], examples[1::2], strict=True))
    return Prompt(system, pairs, "row", body["response_format"]["json_schema"]["schema"])


def _bodies(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)["body"]


def _answer(message: str, answers: Mapping[str, dict[str, Any]]) -> str:
    """Return the answer to a user message, of one row or of a pack of rows."""
    if message in answers:
        return _compact(answers[message])
    rows = [
        {"id": int(number), "answer": answers[text]} for number, text in json.loads(message).items()
    ]
    return _compact({"rows": rows})


def _compact(document: object) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _price() -> Price:
    price = price_table("azure").find(MODEL)
    if price is None:
        raise RuntimeError(f"the package has no price of {MODEL}")
    return price
