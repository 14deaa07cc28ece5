"""`dbt-enrich status`: what is in flight, and how the tables stand, from the ledger alone."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

import click

from dbt_enrich.cli.project import Location, Project, load_project, project_options
from dbt_enrich.cli.selection import models_selection
from dbt_enrich.cli.tables import plain_table
from dbt_enrich.config.local import EMULATOR_DIRECTORY
from dbt_enrich.config.profile import provider_of
from dbt_enrich.cost.money import money_text
from dbt_enrich.pipeline.planning.budget import Spending, shard_cost, shard_tokens, spending
from dbt_enrich.services.base import BatchStatus
from dbt_enrich.state.run import existing_ledger
from dbt_enrich.state.shards import Shard
from dbt_enrich.state.tables.publications import KEPT, Publication
from dbt_enrich.task.model_names import chosen, labels
from dbt_enrich.task.version import short_version
from dbt_enrich.wording import counted

_WATCH_SECONDS = 2.0
_AT_WORK = frozenset(status for status in BatchStatus if not status.is_terminal)
_STATUSES = ("done", "pending", "stale", "failed", "skipped")


@dataclass(frozen=True)
class BatchStatusRow:
    """A batch as the ledger knows it.

    Attributes:
        model: The dbt model's name.
        batch: The batch's id, or the shard's while it has none.
        status: The service's status, or how far the shard has come.
        age: Seconds since the shard was made.
        requests: Its requests.
        completed: How many the service has answered.
        failed: How many failed.
        tokens: Tokens of its prompts and answers: counted, else as estimated.
        cost: What they cost at batch price, or None if the price is unknown.
        waits: Whether nothing works on it, as no process runs the local service.
    """

    model: str
    batch: str
    status: str
    age: float
    requests: int
    completed: int
    failed: int
    tokens: int
    cost: float | None
    waits: bool = False


@click.command()
@models_selection
@click.option("--all", "everything", is_flag=True, help="Also batches that are home.")
@click.option("--watch", is_flag=True, help="Look again every two seconds until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@project_options
def status(
    models: tuple[str, ...],
    everything: bool,
    watch: bool,
    as_json: bool,
    location: Location,
) -> None:
    """Show the batches in flight and how the tables stand.

    Reads the ledger alone, so it works from another terminal while dbt waits, and asks nothing of
    the service.
    """
    project = load_project(location)

    def shown() -> str:
        return _shown(project, set(models), everything=everything, as_json=as_json)

    if not watch:
        click.echo(shown())
        return
    with suppress(KeyboardInterrupt):
        while True:
            text = shown()
            click.clear()
            click.echo(f"{datetime.now():%H:%M:%S}\n{text}")  # noqa: DTZ005 - the user's own clock
            time.sleep(_WATCH_SECONDS)


def _shown(project: Project, models: set[str], *, everything: bool, as_json: bool) -> str:
    ledger = existing_ledger(project.config)
    if ledger is None:
        empty = _document([], [], spending([], project.config))
        text = f"nothing was sent yet: there is no ledger at {project.state.ledger}"
        return empty if as_json else text
    with ledger:
        names = labels(ledger.enrichments())
        wanted = chosen(models, names)
        sent = [s for s in ledger.shards.all() if not wanted or s.enrichment in wanted]
        tables = [
            replace(table, name=names[table.enrichment])
            for table in ledger.publications.all()
            if not wanted or table.enrichment in wanted
        ]
    idle = _is_local_service_idle(project, sent)
    rows = [
        _row(shard, names, project, idle=idle)
        for shard in sent
        if everything or not shard.is_closed
    ]
    spent = spending(sent, project.config)
    if as_json:
        return _document(rows, tables, spent)
    elsewhere = [
        f"{table.name}: this is the table of the target {table.target}, which published last; "
        f"{project.target} may have none, or an older one"
        for table in tables
        if table.target not in (None, project.target)
    ]
    return "\n\n".join(
        [
            _batches(rows, spent.currency),
            "\n".join([_tables(tables), *elsewhere]),
            f"cost so far: {spent.sentence()}",
        ]
    )


def _document(
    rows: Sequence[BatchStatusRow], tables: Sequence[Publication], spent: Spending
) -> str:
    """Write it for machines."""
    document = {
        "batches": [asdict(row) for row in rows],
        "tables": [asdict(table) for table in tables],
        "cost": spent.cost,
        "saved": spent.saved,
        "currency": spent.currency,
    }
    return json.dumps(document, indent=2)


def _is_local_service_idle(project: Project, shards: Sequence[Shard]) -> bool:
    """Whether batches are with the local service, and no process runs it."""
    if not any(_is_at_local_service(shard) for shard in shards):
        return False
    from batch_server.process import is_used

    return not is_used(project.state.root / EMULATOR_DIRECTORY)


def _is_at_local_service(shard: Shard) -> bool:
    provider = provider_of(shard.service)
    is_local = provider is not None and provider.runs_here
    return is_local and not shard.is_closed and shard.status in _AT_WORK


def _row(shard: Shard, names: Mapping[str, str], project: Project, *, idle: bool) -> BatchStatusRow:
    made = datetime.fromisoformat(shard.created_at)
    return BatchStatusRow(
        model=names[shard.enrichment] if shard.enrichment else "?",
        batch=(not shard.synchronous and shard.batch_id) or shard.shard,
        status=(shard.status or shard.step.value) if not shard.is_closed else shard.step.value,
        age=round((datetime.now(UTC) - made).total_seconds(), 1),
        requests=shard.requests,
        completed=shard.completed,
        failed=shard.failed,
        tokens=sum(shard_tokens(shard)),
        cost=shard_cost(shard, project.config),
        waits=idle and _is_at_local_service(shard),
    )


def _batches(rows: list[BatchStatusRow], currency: str) -> str:
    if not rows:
        return "nothing is in flight"
    headers = ("model", "batch", "status", "age", "requests", "done", "failed", "tokens", "cost")
    table = plain_table(
        headers,
        [
            (r.model, r.batch, "waits" if r.waits else r.status, _age(r.age), r.requests,
             r.completed, r.failed, r.tokens, money_text(r.cost, currency))
            for r in rows
        ],
    )  # fmt: skip
    waiting = sum(row.waits for row in rows)
    if not waiting:
        return table
    wait = counted(waiting, "batch waits", "batches wait")
    return f"{table}\n{wait}: nothing runs the local service; `dbt-enrich wait` goes on"


def _tables(tables: list[Publication]) -> str:
    if not tables:
        return "no table was published yet"
    headers = ("table", *_STATUSES, KEPT, "version", "published")
    return plain_table(
        headers,
        [
            (
                table.name,
                *(table.counts.get(name, 0) for name in _STATUSES),
                table.counts.get(KEPT, 0),
                short_version(table.task_key),
                table.published_at[:19].replace("T", " "),
            )
            for table in tables
        ],
    )


def _age(seconds: float) -> str:
    minutes, hours = seconds // 60, seconds // 3600
    if hours:
        return f"{hours:.0f} h {minutes % 60:.0f} min"
    return f"{minutes:.0f} min" if minutes else f"{seconds:.0f} s"
