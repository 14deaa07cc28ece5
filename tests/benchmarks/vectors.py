"""Embeddings: export, load and table of many rows, as `sides` measures them of texts.

    python -m benchmarks.vectors DIRECTORY ROWS DIMENSIONS
    python -m benchmarks.vectors answer DIMENSIONS REQUESTS OUTPUT [REQUESTS OUTPUT ...]

A vector follows from its row's text, so that what was published is held to what must be there. The
output files are those of the service: base64, the lines of packs of 128, in another order.
"""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
from benchmarks import movies
from benchmarks.engine import PRIVATE_MEMORY, WAREHOUSE_MEMORY, Stages, open_warehouse
from benchmarks.engine import publish_table as publish_movies
from benchmarks.measuring import REPOSITORY, Clock, Figures, in_fresh_process, size_mb
from dbt_enrich.console.timings import Stage, Timings
from dbt_enrich.endpoints.embeddings import EMBEDDINGS
from dbt_enrich.pipeline.request import vector_packing
from dbt_enrich.task.endpoint_names import EndpointName
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.options import EnrichmentOptions
from dbt_enrich.task.schema import OutputColumn

MODEL = "text-embedding-3-small"
DIMENSIONS = 1_536
# OpenAI's most inputs of one batch.
_INPUTS_OF_FILE = 50_000
_CHECKED_ROWS = 200


def measure(rows: int, directory: Path, dimensions: int = DIMENSIONS) -> Figures:
    """Export and load so many rows in a process of its own, and return its figures."""
    movies.make_warehouse(directory / "movies.duckdb", rows)
    figures = in_fresh_process(
        ["benchmarks.vectors", directory, str(rows), str(dimensions)], disk=directory / "state"
    )
    check(directory / "movies.duckdb", rows, dimensions)
    return figures


def run(directory: Path, clock: Clock, dimensions: int) -> None:
    """Stage, key, claim and write the rows; read, store, and publish the vectors."""
    state = directory / "state"
    timings = Timings(watches_memory=True)
    asked = EnrichmentTask(
        model=MODEL,
        endpoint=EndpointName.EMBEDDINGS,
        user="{overview}",
        outputs=(OutputColumn(name="vector", data_type=f"float[{dimensions}]"),),
    )
    with open_warehouse(directory / "movies.duckdb", WAREHOUSE_MEMORY) as warehouse:
        stages = Stages(
            state,
            warehouse,
            vector_packing(EnrichmentOptions()),
            EMBEDDINGS,
            memory_limit=PRIVATE_MEMORY,
            asked=asked,
            max_requests=_INPUTS_OF_FILE,
        )
        with clock.step("export"):
            with timings.span(Stage.STAGE):
                rows = stages.stage()
            with timings.span(Stage.CLAIM):
                claimed = stages.claim(rows)
            with timings.span(Stage.WRITE):
                shards = stages.write(rows, claimed)
        for shard in shards:
            output = stages.run.store.response(shard.shard, "output")
            _answer_apart(stages.run.store.requests(shard.shard), output, dimensions)
            clock.count("response_mb", output.stat().st_size / 1_000_000)
            with clock.step("load"), timings.span(Stage.LOAD):
                stages.load(shard)
        with clock.step("load"), timings.span(Stage.PUBLISH):
            published = stages.publish(rows)
            stages.close()
        with clock.step("table"), timings.span(Stage.TABLE):
            publish_movies(warehouse, published.enriched_sql, published.errors_sql)
            warehouse.execute("checkpoint")
        with clock.step("load"):
            stages.scratch.close()
    timings.close()
    for name, times in timings.stages().items():
        clock.figures[f"{name}_s"] = times.seconds
        clock.figures[f"{name}_peak_mb"] = times.peak_bytes / 1_000_000
    clock.figures["state_left_mb"] = size_mb(state)


def check(warehouse: Path, rows: int, dimensions: int) -> None:
    """Hold the published vectors to what they must be, a sample of them number by number.

    Raises:
        RuntimeError: One is another, or is not there.
    """
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        counted = connection.execute(
            "select count(*), count(vector), any_value(typeof(vector)) from movies_enriched"
        ).fetchone()
        if counted != (rows, rows, f"FLOAT[{dimensions}]"):
            raise RuntimeError(f"the table has {counted}")
        sample = connection.execute(
            "select overview, vector from movies_enriched "
            f"using sample reservoir({_CHECKED_ROWS} rows) repeatable (7)"
        ).fetchall()
    for overview, found in sample:
        if vector(overview, dimensions).tolist() != list(found):
            raise RuntimeError(f"the vector of {overview!r} is another's")


def vector(text: str, dimensions: int) -> Any:
    """Return the vector of a text, in which no number is like the next."""
    import numpy as np

    numbers = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(dimensions)
    return (numbers / np.linalg.norm(numbers)).astype("<f4")


def _answer_apart(requests: Path, output: Path, dimensions: int) -> None:
    """Write the output file of an input file in another process, whose memory does not count."""
    command = [sys.executable, "-m", "benchmarks.vectors", "answer", str(dimensions)]
    subprocess.run([*command, str(requests), str(output)], check=True, cwd=REPOSITORY / "tests")


def answer(requests: Path, output: Path, dimensions: int) -> None:
    """Write the output file of an input file."""
    lines = requests.read_text().splitlines()
    random.Random(7).shuffle(lines)
    with output.open("w") as file:
        for line in lines:
            file.write(json.dumps(_replied(json.loads(line), dimensions)) + "\n")


def _replied(line: dict[str, Any], dimensions: int) -> dict[str, Any]:
    given = line["body"]["input"]
    texts = [given] if isinstance(given, str) else given
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector(text, dimensions).tobytes()).decode(),
        }
        for index, text in enumerate(texts)
    ]
    tokens = sum(len(text) // 4 for text in texts)
    body = {
        "object": "list",
        "data": data,
        "model": MODEL,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    response = {"status_code": 200, "request_id": "req", "body": body}
    return {"id": "batch_req", "custom_id": line["custom_id"], "response": response, "error": None}


def main(arguments: Sequence[str]) -> None:
    """Answer requests, or run and report."""
    if arguments[0] == "answer":
        answer(Path(arguments[2]), Path(arguments[3]), int(arguments[1]))
        return
    clock = Clock()
    run(Path(arguments[0]), clock, int(arguments[2]))
    clock.report()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(sys.argv[1:])
