"""The notebook's way: a DataFrame's rows one by one into JSON, and the answers' lines back.

It ends where the others end: with the typed rows in a table of the warehouse. It makes no keys, and
passes over an answer that is no JSON, which is all that it validates.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
from benchmarks.answers import answer
from benchmarks.engine import response_format
from benchmarks.measuring import Clock, size_mb
from benchmarks.movies import MODEL, PARAMETERS, SHAPES, SYSTEM

# Files that a service takes: at most 100,000 requests each, which is less than 200 MB here.
_FILE_REQUESTS = 100_000


def run(directory: Path, clock: Clock, shape: str = "usual") -> None:
    """Export the rows, have them answered, and load the answers."""
    requests, responses = directory / "requests", directory / "responses"
    requests.mkdir()
    responses.mkdir()
    with duckdb.connect(str(directory / "movies.duckdb")) as warehouse:
        form = response_format(SHAPES[shape])
        with clock.step("export"):
            frame = warehouse.execute("select * from movies").df()
            export(frame, form, requests)
        files = [(path, responses / path.name) for path in sorted(requests.iterdir())]
        answer(files, shape)
        clock.figures["request_mb"] = size_mb(requests)
        clock.figures["response_mb"] = size_mb(responses)
        with clock.step("load"):
            answers = _load([path for _, path in files])
            enriched = frame.merge(answers, on="movie_id", how="left")  # noqa: F841
        with clock.step("table"):
            warehouse.execute("create table movies_enriched as select * from enriched")
            warehouse.execute("checkpoint")


def export(frame: pd.DataFrame, form: dict[str, Any], requests: Path) -> None:
    """Write a DataFrame's rows as input files: one request a row, each with the whole prompt."""
    tasks = []
    for _, row in frame.iterrows():
        tasks.append(
            {
                "custom_id": f"task-{row['movie_id']}",
                "method": "POST",
                "url": "/chat/completions",
                "body": {
                    "model": MODEL,
                    "messages": [
                        {"role": "system", "content": SYSTEM},
                        {"role": "user", "content": row["overview"]},
                    ],
                    "response_format": form,
                    **PARAMETERS,
                },
            }
        )
    for start in range(0, len(tasks), _FILE_REQUESTS):
        with (requests / f"{start}.jsonl").open("w") as file:
            for task in tasks[start : start + _FILE_REQUESTS]:
                file.write(json.dumps(task) + "\n")


def _load(files: list[Path]) -> pd.DataFrame:
    results = []
    for path in files:
        with path.open() as file:
            for line in file:
                results.append(json.loads(line))  # noqa: PERF401
    rows = []
    for result in results:
        try:
            content = json.loads(result["response"]["body"]["choices"][0]["message"]["content"])
        except json.JSONDecodeError:
            continue
        rows.append(
            {
                **content,
                "movie_id": int(result["custom_id"].removeprefix("task-")),
                "categories": [category.lower() for category in content["categories"]],
            }
        )
    return pd.DataFrame(rows)
