"""Export and load side by side with the notebook's way, as ratios from one run.

    python tests/benchmarks/bench_notebook.py --rows 200000

Every contender runs in a process of its own, on the same rows, and writes the same bytes:

- notebook: pandas `iterrows` and `json.dumps`; `json.loads` line by line into a DataFrame.
- dbt-enrich: stage, key, claim in the ledger and write; read, validate, store and type. The table
  that the warehouse then writes of it is the warehouse's own work, as it would be the notebook's.
- floor: writing and reading the same bytes and nothing else.

A time is the whole of the work after imports, the median of `--runs`; the peak is the process's
largest resident set, with the resident set after the imports beside it.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SYSTEM = (
    "Your goal is to extract movie categories from movie descriptions, as well as a one-sentence "
    "summary of these movies. You will be provided with a movie description, and you will answer "
    "with a JSON object of two fields: categories, an array of the movie's genres in lower case, "
    "at most four, the most obvious ones; and summary, the film in one sentence."
)
OUTPUTS: list[dict[str, Any]] = [
    {"name": "categories", "data_type": "varchar[]", "max_items": 4, "lower": True},
    {"name": "summary", "data_type": "varchar"},
]
WORDS = re.findall(
    r"\S+",
    """
    a the of and in who young old town war love family secret murder journey city night ship king
    détective “quoted” father's must finds loses returns discovers escape plan heist ghost winter
    river last first summer friends train island soldier singer teacher storm letter
    """,
)


@dataclass(frozen=True)
class Measure:
    """What one run of one contender took."""

    seconds: float
    peak_mb: float
    imports_mb: float


def resident_mb() -> float:
    """Return the largest resident set of this process so far, in megabytes.

    Linux hands `ru_maxrss` down from the parent process; `VmHWM` is the process's own.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(found[1]) / 1024 if found else 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 * 1024)


def make_rows(directory: Path, rows: int) -> None:
    """Write the synthetic movies: an id, a title and an overview of 20 to 40 words."""
    import duckdb

    words = ", ".join("'" + word.replace("'", "''") + "'" for word in WORDS)
    database = duckdb.connect(str(directory / "movies.duckdb"))
    database.execute(
        f"""
        create table movies as
        select
            i as movie_id,
            'Movie ' || i as title,
            i || ' ' || list_aggregate(list_transform(
                range((20 + hash(i) % 21)::bigint),
                lambda n: ([{words}])[1 + (hash(i * 100 + n) % {len(WORDS)})::integer]
            ), 'string_agg', ' ') as overview
        from range({rows}) as numbers(i)
        """
    )
    database.execute(f"copy movies to '{directory / 'movies.parquet'}'")
    database.close()


def notebook_export(directory: Path) -> Callable[[], object]:
    """The notebook's loop over a DataFrame that is in memory already."""
    import pandas as pd
    from dbt_enrich.request_lines import request_body

    frame = pd.read_parquet(directory / "movies.parquet")
    schema = request_body(our_task(), deployment="d", user_message="")["response_format"]

    def run() -> None:
        tasks = []
        for _, row in frame.iterrows():
            tasks.append(
                {
                    "custom_id": f"task-{row['movie_id']}",
                    "method": "POST",
                    "url": "/chat/completions",
                    "body": {
                        "model": "gpt-4o-mini",
                        "messages": [
                            {"role": "system", "content": SYSTEM},
                            {"role": "user", "content": row["overview"]},
                        ],
                        "response_format": schema,
                        "temperature": 0.1,
                    },
                }
            )
        with (directory / "notebook.jsonl").open("w") as file:
            for task in tasks:
                file.write(json.dumps(task) + "\n")

    return run


def notebook_load(directory: Path) -> Callable[[], object]:
    """The notebook's loop over the output file, into a DataFrame."""
    import pandas as pd

    def run() -> object:
        results = []
        with (directory / "output.jsonl").open() as file:
            for line in file:
                results.append(json.loads(line))  # noqa: PERF401
        rows = []
        for result in results:
            answer = json.loads(result["response"]["body"]["choices"][0]["message"]["content"])
            rows.append(
                {
                    "custom_id": result["custom_id"],
                    "categories": answer["categories"],
                    "summary": answer["summary"],
                }
            )
        return pd.DataFrame(rows)

    return run


def our_task() -> Any:
    """The movies task."""
    from dbt_enrich.schema import OutputColumn
    from dbt_enrich.task import EnrichmentTask

    return EnrichmentTask(
        model="gpt-4o-mini",
        system=SYSTEM,
        user="{overview}",
        outputs=tuple(OutputColumn(**output) for output in OUTPUTS),
        parameters={"temperature": 0.1},
    )


@dataclass
class Stages:
    """The engine's stages over the movies, with a state directory of their own."""

    directory: Path

    def __post_init__(self) -> None:
        import duckdb
        from dbt_enrich.config import PluginConfig
        from dbt_enrich.ledger import Ledger
        from dbt_enrich.pipeline.export import Destination, Selection
        from dbt_enrich.pipeline.room import TokenRoom
        from dbt_enrich.pipeline.spread import Spread
        from dbt_enrich.pipeline.stage import StagedRelation
        from dbt_enrich.services.base import ServiceLimits
        from dbt_enrich.store import StateDirectory
        from dbt_enrich.workspace import Workspace

        defaults = PluginConfig(provider="local")
        self.task = our_task()
        self.task_key = self.task.task_key("gpt-4o-mini")
        self.store = StateDirectory(self.directory / "state")
        self.ledger = Ledger(self.store.ledger)
        self.run = self.store.begin_run("run-bench")
        self.workspace = Workspace(
            self.run.path, memory_limit=defaults.memory_limit, threads=defaults.threads
        )
        self.database = duckdb.connect(str(self.directory / "movies.duckdb"))
        self.database.execute("set memory_limit = '100MB'")
        self.relation = StagedRelation(
            connection=self.database, name="movies", unique_key=("movie_id",), model="movies"
        )
        self.selection = Selection(self.task, self.task_key, max_attempts=3)
        room = TokenRoom(self.ledger, lambda _: None)
        self.destination = Destination(
            enrichment="model.bench.movies",
            spread=Spread(("gpt-4o-mini",), "bench", room, self.ledger),
            service="bench",
            limits=ServiceLimits(max_requests=100_000, max_bytes=196_000_000),
            line_url="/chat/completions",
            namespace="bench",
            owner="run-bench",
        )

    def export(self) -> Any:
        """Stage, key, claim and write."""
        from dbt_enrich.pipeline.export import export
        from dbt_enrich.pipeline.stage import stage

        rows = stage(self.relation, self.task, self.task_key, self.workspace)
        shards = export(
            rows, self.relation, self.selection, self.destination,
            workspace=self.workspace, ledger=self.ledger, store=self.store,
        )  # fmt: skip
        return rows, shards

    def load(self, rows: Any, shards: Any) -> None:
        """Read, validate, store and type."""
        from dbt_enrich.pipeline.load import load
        from dbt_enrich.pipeline.publish import publish

        for shard in shards:
            load(
                shard, list(self.task.outputs),
                workspace=self.workspace, ledger=self.ledger, store=self.store, keep_files=True,
            )  # fmt: skip
        publish(
            rows, self.relation, self.task, self.task_key,
            existing=None, workspace=self.workspace, ledger=self.ledger, store=self.store,
        )  # fmt: skip


def our_export(directory: Path) -> Callable[[], object]:
    """The engine's way out."""
    shutil.rmtree(directory / "state", ignore_errors=True)
    return Stages(directory).export


def our_load(directory: Path) -> Callable[[], object]:
    """The engine's way in; what it loads is answered before the clock starts."""
    shutil.rmtree(directory / "state", ignore_errors=True)
    stages = Stages(directory)
    rows, shards = stages.export()
    for shard in shards:
        files = stages.store.requests(shard.shard), stages.store.response(shard.shard, "output")
        # In a process of its own, so that its memory is not counted as the engine's.
        subprocess.run([sys.executable, __file__, "--answer", *map(str, files)], check=True)
    return lambda: stages.load(rows, shards)


def answer_requests(requests: Path, output: Path) -> None:
    """Write an output file in the service's shape and in shuffled order."""
    import duckdb

    answer = json.dumps(
        {
            "categories": ["Drama", "Thriller", "crime"],
            "summary": "MARK, an unlikely pair crosses the town's “quoted” river before winter.",
        }
    )
    body = {
        "id": "chatcmpl-x", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [
            {
                "index": 0, "finish_reason": "stop", "logprobs": None,
                "message": {"role": "assistant", "content": answer, "refusal": None},
                "content_filter_results": {
                    kind: {"filtered": False, "severity": "safe"}
                    for kind in ("hate", "self_harm", "sexual", "violence")
                },
            }
        ],
        "usage": {
            "prompt_tokens": 140, "completion_tokens": 40, "total_tokens": 180,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }  # fmt: skip
    line = {"custom_id": "ID", "response": {"body": body, "request_id": "r", "status_code": 200}}
    text = json.dumps({**line, "error": None}).replace("'", "''")
    before, after = text.split('"ID"')
    left, right = after.split("MARK")
    database = duckdb.connect()
    database.execute(
        f"""
        copy (
            select '{before}"' || custom_id || '"{left}' || custom_id || '{right}' as line
            from read_json('{requests}', columns = {{custom_id: 'varchar'}})
            order by hash(custom_id)
        ) to '{output}' (format csv, header false, quote '', escape '', delimiter e'\\x01')
        """
    )


def floor_export(directory: Path) -> Callable[[], object]:
    """Write the request bytes."""
    content = (directory / "notebook.jsonl").read_bytes()
    return lambda: (directory / "floor.jsonl").write_bytes(content)


def floor_load(directory: Path) -> Callable[[], object]:
    """Read the output bytes."""

    def run() -> int:
        with (directory / "output.jsonl").open("rb") as file:
            return sum(len(line) for line in file)

    return run


CONTENDERS: dict[str, Callable[[Path], Callable[[], object]]] = {
    "notebook export": notebook_export,
    "dbt-enrich export": our_export,
    "floor export": floor_export,
    "notebook load": notebook_load,
    "dbt-enrich load": our_load,
    "floor load": floor_load,
}


def contend(name: str, directory: Path) -> None:
    """Run one contender in this process and print what it took."""
    import duckdb  # noqa: F401

    work = CONTENDERS[name](directory)
    before = resident_mb()
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_mb": resident_mb(), "imports_mb": before}))


def measure(name: str, directory: Path, runs: int) -> Measure:
    """Run a contender several times, each in a fresh process, and return the medians."""
    command = [sys.executable, __file__, "--contender", name, "--directory", str(directory)]
    found = []
    for _ in range(runs):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr}")
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return Measure(**{key: statistics.median(run[key] for run in found) for key in found[0]})


def compare(rows: int, runs: int) -> dict[str, Measure]:
    """Run all contenders on the same rows."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        make_rows(directory, rows)
        requests = directory / "requests.jsonl"
        stages = Stages(directory)
        _, shards = stages.export()
        with requests.open("wb") as joined:
            for shard in shards:
                joined.write(stages.store.requests(shard.shard).read_bytes())
        stages.database.close()
        answer_requests(requests, directory / "output.jsonl")
        return {contender: measure(contender, directory, runs) for contender in CONTENDERS}


def report(rows: int, found: dict[str, Measure]) -> str:
    """Return the table."""
    lines = [
        f"{rows:,} rows", "",
        "| contender | seconds | rows/s | against the notebook | peak MB | after imports MB |",
        "|---|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for name, measured in found.items():
        base = found[f"notebook {name.split()[-1]}"]
        lines.append(
            f"| {name} | {measured.seconds:.3f} | {rows / measured.seconds:,.0f} "
            f"| {base.seconds / measured.seconds:.1f} | {measured.peak_mb:.0f} "
            f"| {measured.imports_mb:.0f} |"
        )
    ours = found["dbt-enrich export"].seconds + found["dbt-enrich load"].seconds
    theirs = found["notebook export"].seconds + found["notebook load"].seconds
    lines += ["", f"Export and load together: {theirs / ours:.1f} times the notebook."]
    return "\n".join(lines)


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--contender", choices=CONTENDERS)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--answer", type=Path, nargs=2, metavar=("REQUESTS", "OUTPUT"))
    arguments = parser.parse_args()
    if arguments.answer:
        answer_requests(*arguments.answer)
        return
    if arguments.contender:
        contend(arguments.contender, arguments.directory)
        return
    print(report(arguments.rows, compare(arguments.rows, arguments.runs)))


if __name__ == "__main__":
    main()
