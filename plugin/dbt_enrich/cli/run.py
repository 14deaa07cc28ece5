"""`dbt-enrich run`: submit, wait without the warehouse, collect, until nothing is left to ask."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime, timedelta

import click

from dbt_enrich.cli.dbt import DbtOptions
from dbt_enrich.cli.doors import door_of
from dbt_enrich.cli.exits import DONE, ERROR, FAILED_ROWS, PENDING
from dbt_enrich.cli.project import Location, Project, load_project, project_options
from dbt_enrich.cli.selection import dbt_selection
from dbt_enrich.console.console import Console
from dbt_enrich.environment import TIMINGS_VARIABLE
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.state.tables.publications import Publication
from dbt_enrich.task.options import Mode
from dbt_enrich.wording import counted

_ROOM_SECONDS = 60.0


@click.command()
@dbt_selection
@click.option("--timeout", type=float, help="Seconds after which it gives up (default: none).")
@click.option(
    "--timings", is_flag=True, help="Print each stage's rows, bytes, seconds and peak memory."
)
@project_options
def run(
    select: tuple[str, ...],
    timeout: float | None,
    timings: bool,
    location: Location,
) -> None:
    """Enrich, and leave the warehouse free while the service works.

    dbt submits and ends; the waiting is done on the ledger and the service alone; dbt then
    publishes, and submits what is to be asked again. It may be killed and started again at any
    time. Exit code 0: every row is done or skipped; 1: an error; 3: batches are still in flight
    after the timeout; 4: rows failed for good.
    """
    from dbt_enrich.pipeline.wait import wait_for_batches

    if timings:
        os.environ[TIMINGS_VARIABLE] = "1"
    project = load_project(location)
    door = door_of(project, DbtOptions(location, select))
    began = time.monotonic()
    started = None
    while True:
        step_began = datetime.now(UTC)
        step = door.step(Mode.SUBMIT)
        if step.code:
            raise SystemExit(ERROR)
        # Not of the ledger, where others that share it may have published theirs meanwhile.
        tables = step.published
        started = started or {table.enrichment for table in tables}
        tables = [table for table in tables if table.enrichment in started]
        if step.goes_on:
            continue
        if not tables:
            click.echo("no enrichment was run")
            raise SystemExit(DONE)
        waiting = _open_shards(project, tables)
        if not waiting:
            if _has_unpublished_answers(project, tables, step_began):
                continue
            raise SystemExit(verdict(tables))
        left = None if timeout is None else timeout - (time.monotonic() - began)
        if left is not None and left <= 0:
            click.echo(
                f"{counted(len(waiting), 'batch is', 'batches are')} still in flight after "
                f"{timeout:g} seconds"
            )
            raise SystemExit(PENDING)
        if not any(shard.step.is_at_service for shard in waiting):
            # All of it waits for room in the quota, which others hold.
            time.sleep(_ROOM_SECONDS if left is None else min(_ROOM_SECONDS, left))
            continue
        wait_for_batches(
            project.config,
            project.namespace,
            models=started,
            timeout=left,
            console=Console(click.echo),
            cancelled=threading.Event(),
        )


def _open_shards(project: Project, tables: list[Publication]) -> list[Shard]:
    """Return what the tables still wait for, adopted batches of their tasks among it."""
    if not tables:
        return []
    models = {table.enrichment for table in tables}
    tasks = {table.task_key for table in tables}
    with project.opened_ledger() as ledger:
        return [
            shard
            for shard in ledger.shards.open()
            if shard.enrichment in models or (shard.enrichment is None and shard.task_key in tasks)
        ]


def _has_unpublished_answers(project: Project, tables: list[Publication], since: datetime) -> bool:
    """Whether another command may have stored what the tables wait for after dbt had read them."""
    pending = {table.task_key for table in tables if _pending(table)}
    if not pending:
        return False
    with project.opened_ledger() as ledger:
        since += timedelta(seconds=ledger.seconds_ahead())
        return any(
            shard.step == Step.STORED
            and shard.task_key in pending
            and datetime.fromisoformat(shard.updated_at) >= since
            for shard in ledger.shards.all()
        )


def _pending(table: Publication) -> int:
    return table.counts.get("pending", 0) + table.counts.get("stale", 0)


def verdict(tables: list[Publication]) -> int:
    """Return the exit code that says how tables stand, and print what is left to do."""
    failed = sum(table.counts.get("failed", 0) for table in tables)
    pending = sum(map(_pending, tables))
    if pending:
        click.echo(f"{counted(pending, 'row is', 'rows are')} pending; run again to go on")
        return PENDING
    if failed:
        click.echo(
            f"{counted(failed, 'row')} failed; the table <model>__errors says why, and in "
            "retry_with which command has them asked again"
        )
        return FAILED_ROWS
    return DONE
