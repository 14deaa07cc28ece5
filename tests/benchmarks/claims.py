"""Two runners on one shared state that claim the same rows at the same moment."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

from benchmarks import movies
from benchmarks.engine import Stages, open_warehouse
from benchmarks.measuring import Figures
from dbt_enrich.config.state import StateKeys

RUNNERS = "two runners at once"
# If the other one failed before it could claim.
_PATIENCE = 600.0


def measure(rows: int, directory: Path, keys: StateKeys) -> Figures:
    """Have two processes claim all rows of one table, each as if it were alone.

    Args:
        rows: How many.
        directory: Where all of it is.
        keys: The shared state.

    Returns:
        `first_s` and `second_s`: the seconds of the runner that was done first, and of the other.

    Raises:
        RuntimeError: A row was claimed twice, or by none.
    """
    names = ("one", "two")
    for name in names:
        # A DuckDB file is one process's at a time.
        movies.make_warehouse(directory / f"{name}.duckdb", rows)
    spawned = multiprocessing.get_context("spawn")
    together = spawned.Barrier(2)
    state = {**keys.model_dump(), "ledger": keys.ledger.get_secret_value()}
    with spawned.Pool(2, _remember, (together,)) as pool:
        claimed = [
            pool.apply_async(_claim, (directory / f"{name}.duckdb", directory / name, state))
            for name in names
        ]
        found = sorted((seconds, requests) for requests, seconds in (c.get() for c in claimed))
    total = sum(requests for _, requests in found)
    if total != rows:
        raise RuntimeError(f"{total:,} requests of {rows:,} rows were claimed")
    return {"first_s": found[0][0], "second_s": found[1][0]}


_together: list[Barrier] = []


def _remember(together: Barrier) -> None:
    _together.append(together)


def _claim(path: Path, directory: Path, state: dict[str, str]) -> tuple[int, float]:
    """Claim a table's rows in this process; return how many requests, and in how many seconds."""
    with open_warehouse(path) as warehouse:
        stages = Stages(directory, warehouse, shared=StateKeys(**state))  # type: ignore[arg-type]
        try:
            staged = stages.stage()
            _together[0].wait(_PATIENCE)
            began = time.perf_counter()
            claimed = stages.claim(staged)
            seconds = time.perf_counter() - began
            # What a run that has ended did not send, the other one may claim.
            _together[0].wait(_PATIENCE)
            shards = stages.run.ledger.shards.named(claimed.shards)
            return sum(shard.requests for shard in shards), seconds
        finally:
            stages.close()
            stages.scratch.close()
