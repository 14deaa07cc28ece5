"""Relations: the ledger and the answer store as tables of the warehouse, for SQL to read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from dbt_enrich.config import PluginConfig
from dbt_enrich.pipeline.planning.budget import spending
from dbt_enrich.sql import literal
from dbt_enrich.state.answer_store import REASONING
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.run import Run
from dbt_enrich.state.shards import Shard
from dbt_enrich.state.tables.tasks import Task
from dbt_enrich.task.version import short_version
from dbt_enrich.workspace.database import Workspace

_COUNTED = {
    "requests": "bigint",
    "rows": "bigint",
    "completed": "bigint",
    "failed": "bigint",
    "prompt_tokens": "bigint",
    "cached_tokens": "bigint",
    "completion_tokens": "bigint",
    "reasoning_tokens": "bigint",
    "cost": "double",
    "saved": "double",
    "currency": "varchar",
}
BATCH_COLUMNS = {
    "batch_id": "varchar",
    "shard": "varchar",
    "enrichment": "varchar",
    "model": "varchar",
    "deployment": "varchar",
    "service": "varchar",
    "endpoint": "varchar",
    "task_key": "varchar",
    "enrichment_version": "varchar",
    "status": "varchar",
    "step": "varchar",
    "synchronous": "boolean",
    **_COUNTED,
    "created_at": "timestamp with time zone",
    "updated_at": "timestamp with time zone",
}
ATTEMPT_COLUMNS = {
    "enrichment": "varchar",
    "enrichment_key": "uuid",
    "attempt": "integer",
    "kind": "varchar",
    "message": "varchar",
    "enrichment_model": "varchar",
    "enrichment_batch_id": "varchar",
    "enrichment_version": "varchar",
    "prompt_tokens": "bigint",
    "cached_tokens": "bigint",
    "completion_tokens": "bigint",
    "reasoning_tokens": "bigint",
    "received_at": "timestamp with time zone",
}
USAGE_COLUMNS = {
    "day": "date",
    "enrichment": "varchar",
    "model": "varchar",
    "enrichment_version": "varchar",
    **_COUNTED,
}

RELATIONS: Final[Mapping[str, str]] = {
    "batches": "What was sent in each batch, what became of it and what it cost",
    "attempts": "Each time that a request was answered or failed",
    "usage": "Requests, tokens and cost by day, model and version of the task",
}
"""The relations of the schema `enrichment`, with what a row of each is."""

DESCRIPTIONS: Final[Mapping[str, str]] = {
    "batch_id": "The batch at the service; null where the requests were answered one by one",
    "shard": "The requests of one file, and what becomes of them",
    "enrichment": "The dbt model, as `project.model`",
    "model": "The logical model that the task names",
    "deployment": "The deployment that the batch was sent to",
    "service": "The provider and its host",
    "endpoint": "The endpoint that was asked: `chat` or `responses`",
    "task_key": "Identity of the task: what is asked of every row",
    "enrichment_version": "The first digits of the task's identity, as the enriched table has them",
    "status": "The batch's status, as the service says it",
    "step": "How far dbt-enrich is with it",
    "synchronous": "Whether the requests were answered one by one, at the synchronous price",
    "requests": "Requests that were sent",
    "rows": "Rows that were asked for: more than requests where these are packs",
    "completed": "Requests that were answered",
    "failed": "Requests that were not",
    "prompt_tokens": "Tokens of the prompts",
    "cached_tokens": "Those of them that were read from the service's cache",
    "completion_tokens": "Tokens of the answers, those of reasoning included",
    "reasoning_tokens": "Those of them that the language model thought with, as far as it says so",
    "cost": "What they cost by the project's prices; null where tokens or a price are unknown",
    "saved": "What the same would have cost more at the synchronous price",
    "currency": "What `cost` and `saved` are in",
    "created_at": "When the requests were claimed",
    "updated_at": "When it was last changed",
    "enrichment_key": "Identity of the request, as the enriched table has it",
    "attempt": "Which attempt at the row it was, from 1",
    "kind": "`done`, or the kind of the failure",
    "message": "What went wrong",
    "enrichment_model": "The model that answered, as the service names it",
    "enrichment_batch_id": "The batch that the answer came in",
    "received_at": "When the answer was received",
    "day": "The day (UTC) on which the requests were claimed",
}
"""What the columns of these relations hold; a column of several is the same in each."""


@dataclass(frozen=True)
class Relations:
    """The SELECTs of the relations.

    Attributes:
        batches: One row a batch, or a shard that was asked synchronously.
        attempts: One row for each time that a request was answered, or failed.
        usage: Requests, tokens and cost by day, model and version of the task.
        fingerprint: Changes whenever one of them does.
    """

    batches: str
    attempts: str
    usage: str
    fingerprint: str


def fingerprint(config: PluginConfig, ledger: Ledger) -> str:
    """Return a text that changes whenever the relations do."""
    table = config.price_table
    parts = (
        tuple(BATCH_COLUMNS),
        tuple(ATTEMPT_COLUMNS.items()),
        ledger.events.newest(),
        ledger.answers.count(),
        table.currency,
        sorted(
            (z, name, str(price))
            for z, models in table.zones.items()
            for name, price in models.items()
        ),
        sorted((name, str(price)) for name, price in table.own.items()),
        str(config.price_zone),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def relations(run: Run, config: PluginConfig) -> Relations:
    """Write what the relations hold into the run's scratch directory, and return their SELECTs."""
    batches = _write_batches(config, run.ledger.shards.all(), run.workspace)
    attempts = run.workspace.directory / "attempts.parquet"
    run.workspace.write_parquet(_attempts_sql(run, run.ledger.tasks.all()), attempts)
    usage = run.workspace.directory / "usage.parquet"
    run.workspace.write_parquet(_usage_sql(batches), usage)
    return Relations(
        batches=batches,
        attempts=f"select * from read_parquet({literal(attempts)})",
        usage=f"select * from read_parquet({literal(usage)})",
        fingerprint=fingerprint(config, run.ledger),
    )


def _write_batches(config: PluginConfig, shards: Iterable[Shard], workspace: Workspace) -> str:
    lines = workspace.directory / "batches.jsonl"
    with lines.open("w") as file:
        file.writelines(json.dumps(_batch_row(config, shard)) + "\n" for shard in shards)
    texts = ", ".join(f"{name}: 'varchar'" for name in BATCH_COLUMNS)
    columns = ", ".join(f"cast({name} as {kind}) as {name}" for name, kind in BATCH_COLUMNS.items())
    path = workspace.directory / "batches.parquet"
    workspace.write_parquet(
        f"select {columns} from read_json({literal(lines)}, format = 'newline_delimited', "
        f"columns = {{{texts}}}) order by created_at, shard",
        path,
    )
    lines.unlink()
    return f"select * from read_parquet({literal(path)})"


def _batch_row(config: PluginConfig, shard: Shard) -> dict[str, object]:
    counted = shard.prompt_tokens is not None
    spent = spending([shard], config)
    values: dict[str, object] = {
        name: getattr(shard, name) for name in BATCH_COLUMNS if hasattr(shard, name)
    }
    values |= {
        "step": shard.step.value,
        "rows": shard.row_count,
        # The relay's ids tell nobody anything.
        "batch_id": None if shard.synchronous else shard.batch_id,
        "enrichment_version": short_version(shard.task_key),
        "cost": spent.cost if counted else None,
        "saved": spent.saved if counted else None,
        "currency": spent.currency,
    }
    return {name: values[name] for name in BATCH_COLUMNS}


def _attempts_sql(run: Run, tasks: Iterable[Task]) -> str:
    values = {
        "enrichment_key": "request_key",
        "enrichment_model": "model",
        "enrichment_batch_id": "batch_id",
    }
    selects = []
    for task in tasks:
        if not run.ledger.answers.live(task.task_key):
            continue
        own = {
            **values,
            "enrichment": literal(task.enrichment),
            "enrichment_version": literal(short_version(task.task_key)),
        }
        if not run.answers.has_reasoning(task.task_key):
            own[REASONING] = "null"
        columns = ", ".join(
            f"cast({own.get(name, name)} as {kind}) as {name}"
            for name, kind in ATTEMPT_COLUMNS.items()
        )
        answers = run.answers.table(task.task_key)
        selects.append(f"select {columns} from {answers} as answers")
    empty = ", ".join(f"cast(null as {kind}) as {name}" for name, kind in ATTEMPT_COLUMNS.items())
    return " union all ".join([*selects, f"select {empty} where false"])


def _usage_sql(batches: str) -> str:
    sums = (
        "requests",
        "rows",
        "completed",
        "failed",
        "prompt_tokens",
        "cached_tokens",
        "completion_tokens",
        "reasoning_tokens",
    )
    values = {name: f"sum({name})" for name in (*sums, "cost", "saved")}
    values |= {
        "day": "cast(timezone('UTC', created_at) as date)",
        "currency": "any_value(currency)",
    }
    columns = ", ".join(
        f"cast({values.get(name, name)} as {kind}) as {name}"
        for name, kind in USAGE_COLUMNS.items()
    )
    return (
        f"select {columns} from ({batches}) as batches where step <> 'released' "
        "group by day, enrichment, model, enrichment_version "
        "order by day, enrichment, model, enrichment_version"
    )
