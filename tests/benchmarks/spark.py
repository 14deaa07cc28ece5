"""The engine inside the partitions of a Spark DataFrame, beside DuckDB on one machine.

Spark is Sail, in a process of its own with so many workers; the ledger is a Postgres and the bucket
a directory of this machine, for both. No service is asked: who answers is not measured.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import duckdb
from benchmarks import movies
from benchmarks.answers import answer
from benchmarks.engine import Stages, open_warehouse, publish_table, task
from benchmarks.measuring import Figures, UnavailableError
from dbt_enrich.config.profile import parse_config
from dbt_enrich.config.state import StateKeys
from dbt_enrich.console.console import Console
from dbt_enrich.console.timings import Timings
from dbt_enrich.pipeline.export.claim_files import claim_files
from dbt_enrich.pipeline.partitions.engine import PartedEngine, PartedModel, columns_of, request_of
from dbt_enrich.pipeline.partitions.exchange import Jobs, PartedExchange
from dbt_enrich.pipeline.run.alike_failures import Watch
from dbt_enrich.sql import literal
from dbt_enrich.state.run import open_run
from dbt_enrich.task.options import EnrichmentOptions
from dbt_enrich.warehouse.placement import place

DUCKDB = "DuckDB"
WORKERS = {"Sail, 1 worker": 1, "Sail, 2 workers": 2}
SECONDS = ("export_s", "load_s", "table_s")
_PARTS = 8
_SECONDS = 60.0


def measure_duckdb(rows: int, directory: Path, keys: StateKeys) -> Figures:
    """Send, take in and publish rows on one machine, with a shared state.

    Returns:
        The seconds of each of `SECONDS`.

    Raises:
        RuntimeError: The table is not what the rows must become.
    """
    figures: Figures = {}
    path = directory / "movies.duckdb"
    movies.make_warehouse(path, rows)
    with open_warehouse(path, None) as warehouse:
        stages = Stages(directory / "state", warehouse, memory_limit=None, shared=keys)
        with _timed(figures, "export_s"):
            staged = stages.stage()
            shards = stages.write(staged, stages.claim(staged))
        store = stages.run.store
        answer(
            (store.requests(shard.shard), store.response(shard.shard, "output")) for shard in shards
        )
        with _timed(figures, "load_s"):
            for shard in shards:
                stages.load(shard)
        with _timed(figures, "table_s"):
            published = stages.publish(staged)
            stages.close()
            publish_table(warehouse, published.enriched_sql, published.errors_sql)
        stages.scratch.close()
    _check(path)
    return figures


def measure_sail(rows: int, directory: Path, keys: StateKeys, workers: int) -> Figures:
    """Do the same inside partitions, over Sail with so many workers.

    Returns:
        The seconds of each of `SECONDS`, and `parts`, how many parts the rows have.

    Raises:
        RuntimeError: The table is not what the rows must become.
        UnavailableError: Sail is not installed.
    """
    figures: Figures = {"parts": _PARTS}
    path = directory / "movies.duckdb"
    movies.make_warehouse(path, rows)
    source = directory / "movies"
    source.mkdir()
    with duckdb.connect(str(path)) as warehouse:
        # A file for each worker to read.
        for part in range(_PARTS):
            warehouse.execute(
                f"copy (select * from movies where movie_id % {_PARTS} = {part}) "
                f"to {literal(source / f'{part}.parquet')} (format parquet)"
            )
    with ExitStack() as opened:
        spark = opened.enter_context(_sail(directory / "sail.log", workers))
        # Here, so that the module is read where Spark is missing.
        from dbt_enrich.warehouse.spark_partitions import SparkRows

        parted = SparkRows(spark.read.parquet(str(source)), parts=_PARTS)
        values = {
            "provider": "azure",
            "endpoint": "http://127.0.0.1:9",
            "api_key": "unused",
            "state_dir": str(directory / "state"),
        }
        config = parse_config(values, duckdb_settings={}).model_copy(update={"state": keys})
        engine = PartedEngine(config, project="bench", console=Console(_nothing))
        model = PartedModel(
            "movies", "model.bench.movies", ("movie_id",), task(), EnrichmentOptions()
        )
        request = request_of(model, parted.columns)
        placed, _ = place(request.placement, request.relation, request.task.outputs)
        run = opened.enter_context(open_run(config))
        session = engine.session(run, request, Console(_nothing), Timings())
        engine.record_task(session)
        service, relay = opened.enter_context(engine.service.use())
        jobs = Jobs(session, parted, placed, service)
        watch = Watch(
            "movies", "model.bench.movies", session.task_key, session.tolerance, run, None
        )
        exchange = PartedExchange(session, jobs, _PARTS, service, relay, watch)
        with _timed(figures, "export_s"):
            selection = session.select()
            written = jobs.write(selection)
            claimed = claim_files(
                run, written.shards, written.seen, selection,
                session.destination(selection, service),
            )  # fmt: skip
            shards = exchange.fetched(written, claimed.shards)
        answer(
            (run.store.requests(shard.shard), run.store.response(shard.shard, "output"))
            for shard in shards
        )
        with _timed(figures, "load_s"):
            exchange.read(shards)
        columns, _ = columns_of(request, placed, parted)
        made = directory / "enriched"
        with _timed(figures, "table_s"):
            jobs.publish(columns).write.parquet(str(made))
    with duckdb.connect(str(path)) as warehouse:
        warehouse.execute(
            f"create table movies_enriched as from read_parquet({literal(made / '*.parquet')})"
        )
    _check(path)
    return figures


def simulated(result: Any, machines: Sequence[int]) -> dict[int, float]:
    """Return how many times longer DuckDB takes than a cluster would, by its machines of one core.

    A simulation, and no measurement: what one worker took for all parts is divided among machines,
    as many parts at once as there are machines; nothing is taken to be lost by a network.

    Args:
        result: The `Result` of a number of rows.
        machines: How many machines.
    """
    one = next(iter(WORKERS))
    seconds, parts = result.median(one, *SECONDS), result.median(one, "parts")
    alone = result.median(DUCKDB, *SECONDS)
    if seconds is None or parts is None or alone is None:
        return {}
    return {n: alone / (seconds * -(-parts // n) / parts) for n in machines}


@contextmanager
def _sail(log: Path, workers: int) -> Iterator[Any]:
    """Run a server of Sail as a cluster of so many workers; yield a session."""
    program = Path(sys.executable).with_name("sail")
    if not program.exists():
        raise UnavailableError("Sail is not installed: pip install pysail pyspark-client")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "SAIL_MODE": "local-cluster",
        "SAIL_CLUSTER__WORKER_INITIAL_COUNT": str(workers),
        "SAIL_CLUSTER__WORKER_MAX_COUNT": str(workers),
        # All parts are under way at once in a cluster of Sail.
        "SAIL_CLUSTER__WORKER_TASK_SLOTS": str(_PARTS // workers),
    }
    with log.open("wb") as output:
        server = subprocess.Popen(
            [program, "spark", "server", "--port", str(port)],
            env=environment, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        _await(port)
        from pyspark.sql.connect.session import SparkSession

        session = SparkSession.builder.remote(f"sc://127.0.0.1:{port}").create()
        try:
            yield session
        finally:
            session.stop()
    finally:
        server.terminate()
        server.wait()


def _await(port: int) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"Sail did not open port {port}")


def _check(path: Path) -> None:
    if movies.outcome(path) != movies.expected(path):
        raise RuntimeError("the table is not what the rows must become")


@contextmanager
def _timed(figures: Figures, name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    figures[name] = time.perf_counter() - began


def _nothing(_: str) -> None:
    """Take a line of the log."""
