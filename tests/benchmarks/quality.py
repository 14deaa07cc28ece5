"""Quality: a small real model's categories for rows asked alone and in packs.

The movies project's own task, its worked examples included, through the whole engine, answered by
the packaged model on this machine. What it answers is held against the films' own genres.
"""

from __future__ import annotations

import time
from pathlib import Path

import duckdb
import yaml
from benchmarks.engine import publish_table
from benchmarks.evaluate_categories import BASELINE, CategoryScores, category_scores, split_genres
from benchmarks.measuring import REPOSITORY, Figures
from dbt_enrich.config import parse_config
from dbt_enrich.console.console import Console
from dbt_enrich.pipeline.engine import Engine
from dbt_enrich.pipeline.request import EnrichmentRequest
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.from_yaml import task_from_yaml
from dbt_enrich.task.options import EnrichmentOptions
from dbt_enrich.warehouse.relation import StagedRelation

# Rows of a request; the model reads 4,096 tokens.
PACKS = (1, 3, 10)
_MODEL = "movies_enriched"
NOTHING_READ = f'always "{BASELINE}"'


def name(rows_per_request: int) -> str:
    """Return the name of the contender that puts so many rows into a request."""
    return "one row a request" if rows_per_request == 1 else f"{rows_per_request} rows a request"


def baseline(warehouse: Path) -> Figures:
    """Score an answer that has read nothing: always the most frequent genre."""
    with duckdb.connect(str(warehouse), read_only=True) as database:
        genres = database.execute("select genres from movies").fetchall()
    return _scored(category_scores([([BASELINE], split_genres(true)) for (true,) in genres]))


def measure(warehouse: Path, state: Path, rows_per_request: int) -> Figures:
    """Enrich the films of a warehouse and score their categories.

    Args:
        warehouse: The DuckDB file with the table `movies`; the enriched table is put beside it.
        state: The state directory.
        rows_per_request: Rows of a request.

    Returns:
        `micro_f1`, `macro_f1` and `exact` of the rows that are done; `done` rows; `failed`
        attempts, of which rows of a pack are asked again alone; `requests` and tokens in all; and
        `seconds`.
    """
    began = time.perf_counter()
    config = parse_config({"provider": "local", "state_dir": str(state)}, duckdb_settings={})
    engine = Engine(config, project="bench", console=Console(_nothing))
    with duckdb.connect(str(warehouse)) as database:
        outcome = engine.enrich(
            EnrichmentRequest(
                relation=StagedRelation(
                    connection=database.cursor(),
                    name='"movies"',
                    unique_key=("movie_id",),
                    model=_MODEL,
                ),
                task=_task(),
                options=EnrichmentOptions(
                    rows_per_request=rows_per_request if rows_per_request > 1 else None
                ),
                enrichment=f"model.bench.{_MODEL}",
                # The previous contender's table, whose answers would be taken over.
                existing=None,
            )
        )
        publish_table(database, outcome.enriched_sql, outcome.errors_sql)
        engine.finish(outcome.run_id)
        pairs = database.execute(
            "select categories, genres from movies_enriched where enrichment_status = 'done'"
        ).fetchall()
        failed = len(database.execute("select 1 from movies_enriched__errors").fetchall())
    with Ledger(state / "ledger.sqlite") as ledger:
        shards = ledger.shards.all()
    scores = category_scores([(categories, split_genres(true)) for categories, true in pairs])
    return {
        **_scored(scores),
        "done": len(pairs),
        "failed": failed,
        "requests": sum(shard.requests for shard in shards),
        "input": sum(shard.prompt_tokens or 0 for shard in shards),
        "output": sum(shard.completion_tokens or 0 for shard in shards),
        "seconds": time.perf_counter() - began,
    }


def _task() -> EnrichmentTask:
    """Return the movies project's task, as its YAML has it."""
    path = REPOSITORY / "dbt_project" / "models" / "movies" / "enriched" / "_enriched.yml"
    models = {model["name"]: model for model in yaml.safe_load(path.read_text())["models"]}
    model = models[_MODEL]
    columns = {
        column["name"]: {**column, "meta": column.get("config", {}).get("meta", {})}
        for column in model["columns"]
    }
    return task_from_yaml(_MODEL, model["config"]["meta"]["enrichment"], columns)


def _scored(scores: CategoryScores) -> Figures:
    return {"micro_f1": scores.micro_f1, "macro_f1": scores.macro_f1, "exact": scores.exact}


def _nothing(_: str) -> None:
    """Take a line of the log."""
