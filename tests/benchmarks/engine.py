"""The engine as the benchmarks drive it: the one place that calls the pipeline.

Two ways: its stages one by one, without a service, and `Engine.enrich` as the materialization calls
it. Both publish into the warehouse in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import duckdb
from benchmarks.answers import answer
from benchmarks.measuring import Clock, size_mb
from benchmarks.movies import MODEL, PARAMETERS, SHAPES, SYSTEM, USUAL, Shape
from dbt_enrich.config import PluginConfig, parse_config
from dbt_enrich.config.file_limits import ServiceLimits
from dbt_enrich.config.state import StateKeys
from dbt_enrich.console.console import Console
from dbt_enrich.console.timings import Stage, Timings
from dbt_enrich.endpoints.base import Endpoint
from dbt_enrich.endpoints.chat_completions import CHAT_COMPLETIONS
from dbt_enrich.endpoints.packs import Packing
from dbt_enrich.endpoints.request_lines import request_body
from dbt_enrich.pipeline.engine import Engine
from dbt_enrich.pipeline.export.claim import Claim, claim
from dbt_enrich.pipeline.export.destination import Destination
from dbt_enrich.pipeline.export.new_requests import Selection, choose, find_undone
from dbt_enrich.pipeline.export.outgoing import Outgoing
from dbt_enrich.pipeline.export.request_file import write_file
from dbt_enrich.pipeline.load.load_shard import load
from dbt_enrich.pipeline.publish.results import Published, publish
from dbt_enrich.pipeline.request import EnrichmentRequest, Outcome
from dbt_enrich.pipeline.run.deployments import Spread
from dbt_enrich.pipeline.run.token_quota import TokenRoom
from dbt_enrich.pipeline.stage.staged_rows import StagedRows, stage
from dbt_enrich.sql import literal
from dbt_enrich.state.answer_store import ANSWER_COLUMNS
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.run import open_run
from dbt_enrich.state.shards import Shard
from dbt_enrich.task.enrichment_task import KEY_DIGITS, EnrichmentTask
from dbt_enrich.task.options import EnrichmentOptions, Mode
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.warehouse.enriched_table import ExistingTable
from dbt_enrich.warehouse.relation import StagedRelation
from dbt_enrich.workspace.database import ROW_GROUP

# What the warehouse may hold in memory, in the same process, and the private DuckDB beside it,
# where memory is scarce.
WAREHOUSE_MEMORY, PRIVATE_MEMORY = "100MB", "160MB"
# Nothing is ever sent there: what needs a service is measured against the emulator.
_NOWHERE = "http://127.0.0.1:9"


def task(shape: Shape = USUAL) -> EnrichmentTask:
    """Return the movies task."""
    kept: dict[str, dict[str, Any]] = {"categories": {"max_items": 4, "lower": True}}
    return EnrichmentTask(
        model=MODEL,
        system=SYSTEM,
        user="{overview}",
        outputs=tuple(
            OutputColumn(
                name=one.name,
                data_type=one.data_type,
                description=one.description,
                **kept.get(one.name, {}),
            )
            for one in shape.outputs
        ),
        parameters=PARAMETERS,
    )


def response_format(shape: Shape = USUAL) -> dict[str, Any]:
    """Return the form of answer that a request of the task asks for."""
    body = request_body(CHAT_COMPLETIONS, task(shape), MODEL, "")
    return dict(body["response_format"])


@contextmanager
def open_warehouse(
    path: Path, memory_limit: str | None = WAREHOUSE_MEMORY
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the warehouse, with DuckDB's own limit of memory where it is None."""
    with duckdb.connect(str(path)) as warehouse:
        if memory_limit:
            warehouse.execute(f"set memory_limit = '{memory_limit}'")
        yield warehouse


def run(
    directory: Path, clock: Clock, shape: str = "usual", *, memory_is_scarce: bool = True
) -> None:
    """Stage, key, claim and write the rows; read, validate, store, type and publish the answers.

    The steps `export`, `load` and `table` are the whole of the way out, of the way in, and of the
    table; their parts are the engine's own timings, those that `--timings` prints.
    """
    state = directory / "state"
    timings = Timings(watches_memory=True)
    warehouse_memory = WAREHOUSE_MEMORY if memory_is_scarce else None
    private_memory = PRIVATE_MEMORY if memory_is_scarce else None
    with open_warehouse(directory / "movies.duckdb", warehouse_memory) as warehouse:
        stages = Stages(state, warehouse, shape=SHAPES[shape], memory_limit=private_memory)
        with clock.step("export"):
            with timings.span(Stage.STAGE):
                rows = stages.stage()
            with timings.span(Stage.CLAIM):
                claimed = stages.claim(rows)
            with timings.span(Stage.WRITE):
                shards = stages.write(rows, claimed)
        clock.figures["request_mb"] = (
            sum(stages.run.store.requests(shard.shard).stat().st_size for shard in shards)
            / 1_000_000
        )
        answer(
            (
                (
                    stages.run.store.requests(shard.shard),
                    stages.run.store.response(shard.shard, "output"),
                )
                for shard in shards
            ),
            shape,
        )
        clock.figures["response_mb"] = size_mb(state / "responses")
        with clock.step("load"):
            with timings.span(Stage.LOAD):
                for shard in shards:
                    stages.load(shard)
            with timings.span(Stage.PUBLISH):
                published = stages.publish(rows)
                stages.close()
        with clock.step("table"), timings.span(Stage.TABLE):
            publish_table(warehouse, published.enriched_sql, published.errors_sql)
            warehouse.execute("checkpoint")
        with clock.step("load"):
            stages.scratch.close()
    timings.close()
    for name, times in timings.stages().items():
        clock.figures[f"{name}_s"] = times.seconds
        clock.figures[f"{name}_peak_mb"] = times.peak_bytes / 1_000_000
    left = [state / name for name in ("requests", "responses", "runs")]
    clock.figures["files_left_mb"] = sum(map(size_mb, left))
    clock.figures["state_left_mb"] = size_mb(state)


class Stages:
    """The stages over the movies, with a state directory of their own."""

    def __init__(
        self,
        state: Path,
        warehouse: duckdb.DuckDBPyConnection,
        packing: Packing | None = None,
        endpoint: Endpoint = CHAT_COMPLETIONS,
        shape: Shape = USUAL,
        memory_limit: str | None = PRIVATE_MEMORY,
        asked: EnrichmentTask | None = None,
        shared: StateKeys | None = None,
        max_requests: int = 100_000,
    ) -> None:
        self.task = asked or task(shape)
        self.task_key = self.task.task_key(MODEL)
        self.scratch = ExitStack()
        self._opened = ExitStack()
        self.config = _config(state, memory_limit).model_copy(update={"state": shared})
        self.run = self._opened.enter_context(open_run(self.config, self.scratch))
        self.request = EnrichmentRequest(
            _relation(warehouse),
            self.task,
            EnrichmentOptions(),
            "model.bench.movies",
            is_ordered=False,
        )
        self.selection = Selection(
            self.task, self.task_key, max_attempts=3, packing=packing, endpoint=endpoint
        )
        self.destination = Destination(
            enrichment=self.request.enrichment,
            spread=Spread(
                (MODEL,), "bench", TokenRoom(self.run.ledger, lambda _: None), self.run.ledger
            ),
            service="bench",
            limits=ServiceLimits(max_requests=max_requests, max_bytes=196_000_000),
            line_url=endpoint.path,
            namespace="bench",
            owner=self.run.id,
        )

    def stage(self) -> StagedRows:
        """Check, render and key the movies."""
        return stage(self.request.relation, self.task, self.task_key, self.run.workspace)

    def claim(self, rows: StagedRows) -> Claim:
        """Claim what is new among them."""
        undone = find_undone(self.run, rows, self.selection.answer_keys)
        chosen = choose(self.run, undone, self.selection)
        return claim(
            Outgoing(
                self.run, rows, undone, chosen,
                self.request, self.selection, self.destination, None,
            )
        )  # fmt: skip

    def write(self, rows: StagedRows, claimed: Claim) -> list[Shard]:
        """Write the input files of what was claimed."""
        return [
            write_file(
                self.run, self.run.ledger.shards.get(name), source, rows,
                self.selection.lines(self.destination.line_url),
            )
            for name, source in claimed.new.items()
        ]  # fmt: skip

    def load(self, shard: Shard) -> None:
        """Take a shard's answers in."""
        load(
            self.run, shard, list(self.task.outputs),
            keep_files=False, mask="(?P<mark>sk-)x", endpoint=self.selection.endpoint,
        )  # fmt: skip

    def publish(self, rows: StagedRows) -> Published:
        """Write what the table is made of."""
        return publish(self.run, rows, self.request, self.selection)

    def close(self) -> None:
        """Close what a run closes before the materialization publishes."""
        self._opened.close()


def publish_table(warehouse: duckdb.DuckDBPyConnection, enriched_sql: str, errors_sql: str) -> None:
    """Replace the enriched table and its errors in one transaction, as the materialization does."""
    warehouse.execute("begin")
    warehouse.execute(f"create table movies_new as {enriched_sql}")
    warehouse.execute(f"create or replace table movies_enriched__errors as {errors_sql}")
    warehouse.execute("drop table if exists movies_enriched")
    warehouse.execute("alter table movies_new rename to movies_enriched")
    warehouse.execute("commit")


def enrich(
    state: Path,
    warehouse: duckdb.DuckDBPyConnection,
    mode: str,
    memory_limit: str = PRIVATE_MEMORY,
) -> None:
    """Run the whole engine over the movies, with the answers that its store holds.

    Args:
        state: The state directory.
        warehouse: Holds `movies`, and `movies_enriched` where it was built before.
        mode: `plan`, or `run`, which publishes.
        memory_limit: That of the private DuckDB.
    """
    engine = Engine(_config(state, memory_limit), project="bench", console=Console(_nothing))
    outcome: Outcome = engine.enrich(
        EnrichmentRequest(
            relation=_relation(warehouse.cursor()),
            task=task(),
            options=EnrichmentOptions(mode=Mode(mode)),
            enrichment="model.bench.movies",
            existing=_existing(warehouse),
            target='"movies_enriched"',
        )
    )
    if outcome.replaces:
        publish_table(warehouse, outcome.enriched_sql, outcome.errors_sql)
    engine.finish(outcome.run_id)


def make_answers(state: Path, movies: Path, rows: int, answers: int, files: int) -> None:
    """Fill an answer store: answers to the movies 0 to `rows` and to others that are gone.

    They are written by SQL as `load` would have written them, each file with its share of both.
    """
    store = StateDirectory(state).made()
    asked = task()
    task_key = asked.task_key(MODEL)
    key = f"sha256({literal(task_key)} || overview)"
    made = {
        "request_key": f"cast(left({key}, {KEY_DIGITS}) as uuid)",
        "attempt": "1",
        "kind": "'done'",
        "content": USUAL.content_sql("overview"),
        "finish_reason": "'stop'",
        "status_code": "200",
        "model": literal(MODEL),
        "prompt_tokens": "140",
        "cached_tokens": "0",
        "completion_tokens": "60",
        "batch_id": "'batch_' || name",
        "shard": "name",
        "received_at": "now()",
    }
    columns = ", ".join(
        f"cast({made.get(name, 'null')} as {kind}) as {name}"
        for name, kind in ANSWER_COLUMNS.items()
    )
    with duckdb.connect() as database, Ledger(store.ledger) as ledger:
        database.execute(f"attach {literal(movies)} as warehouse (read_only)")
        for number in range(files):
            name = f"{task_key[:8]}-{number:016x}"
            # A movie that is gone is one that is there, under another number.
            database.execute(
                f"""
                copy (
                    with chosen as (
                        select
                            if(n < {rows}, overview, n || ' gone ' || overview) as overview,
                            {literal(name)} as name
                        from range({number}, {answers}, {files}) as numbers(n)
                        join warehouse.movies on movie_id = n % {rows}
                    )
                    select {columns} from chosen
                ) to {literal(store.root / "answers" / f"{name}.parquet")}
                (format parquet, compression zstd, row_group_size {ROW_GROUP})
                """
            )
            count = len(range(number, answers, files))
            ledger.answers.add(name, task_key=task_key, answers=count)


def _config(state: Path, memory_limit: str | None) -> PluginConfig:
    values = {
        "provider": "azure",
        "endpoint": _NOWHERE,
        "api_key": "unused",
        "state_dir": str(state),
        **({"memory_limit": memory_limit} if memory_limit else {}),
    }
    return parse_config(values, duckdb_settings={})


def _relation(connection: duckdb.DuckDBPyConnection) -> StagedRelation:
    return StagedRelation(
        connection=connection, name='"movies"', unique_key=("movie_id",), model="movies"
    )


def _existing(warehouse: duckdb.DuckDBPyConnection) -> ExistingTable | None:
    tables = {row[0] for row in warehouse.execute("show tables").fetchall()}
    if "movies_enriched" not in tables:
        return None
    described = warehouse.execute("describe movies_enriched").fetchall()
    return ExistingTable(
        name='"movies_enriched"',
        columns={row[0]: row[1] for row in described},
        errors='"movies_enriched__errors"',
    )


def _nothing(_: str) -> None:
    """Take a line of the log."""
