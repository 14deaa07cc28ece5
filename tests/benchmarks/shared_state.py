"""State that machines share, beside one machine's own: the way out and in, a new one's plan.

The bucket is a directory and the ledger a Postgres here: what a network adds is in no figure.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import movies
from benchmarks.answers import answer
from benchmarks.engine import Stages, open_warehouse
from benchmarks.measuring import Figures
from dbt_enrich.config.state import StateKeys
from dbt_enrich.pipeline.export.new_requests import choose, find_undone
from dbt_enrich.state.file_store import FileKind
from dbt_enrich.state.shared_files import SharedFiles

LOCAL, SHARED = "one machine's own state", "shared state"


def measure(rows: int, directory: Path, keys: StateKeys | None) -> Figures:
    """Send and take in rows on one machine, and plan the same rows on another.

    Args:
        rows: How many.
        directory: Where all of it is.
        keys: The shared state; None for a state directory, which both then have.

    Returns:
        `export_s`, `load_s` and `plan_s`; of a shared state also `keys_mb` and `texts_mb`, which
        the plan fetched, and `stored_mb`, which the answers have in the bucket.

    Raises:
        RuntimeError: The plan would send something.
    """
    figures: Figures = {}
    path = directory / "movies.duckdb"
    movies.make_warehouse(path, rows)
    with open_warehouse(path) as warehouse:
        with _opened(Stages(directory / "first", warehouse, shared=keys)) as stages:
            with _timed(figures, "export_s"):
                staged = stages.stage()
                shards = stages.write(staged, stages.claim(staged))
            store = stages.run.store
            answer(
                (
                    (store.requests(shard.shard), store.response(shard.shard, "output"))
                    for shard in shards
                ),
                "usual",
            )
            with _timed(figures, "load_s"):
                for shard in shards:
                    stages.load(shard)
        place = "second" if keys else "first"
        with _opened(Stages(directory / place, warehouse, shared=keys)) as stages:
            run, staged = stages.run, stages.stage()
            with _timed(figures, "plan_s"):
                undone = find_undone(run, staged, stages.selection.answer_keys)
                chosen = choose(run, undone, stages.selection)
            if chosen.requests:
                raise RuntimeError(f"{chosen.requests} answered rows are new to another machine")
            if isinstance(run.files, SharedFiles):
                figures["keys_mb"] = run.files.fetched.get(FileKind.KEYS, 0) / 1_000_000
                figures["texts_mb"] = run.files.fetched.get(FileKind.ANSWERS, 0) / 1_000_000
                stored = sum(found.size for found in run.files.bucket.list(FileKind.ANSWERS))
                figures["stored_mb"] = stored / 1_000_000
    return figures


@contextmanager
def _timed(figures: Figures, name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    figures[name] = time.perf_counter() - began


@contextmanager
def _opened(stages: Stages) -> Iterator[Stages]:
    try:
        yield stages
    finally:
        stages.close()
        stages.scratch.close()
