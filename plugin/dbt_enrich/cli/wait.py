"""`dbt-enrich wait`: bring the batches in flight home, without holding the warehouse."""

from __future__ import annotations

import threading

import click

from dbt_enrich.cli.exits import PENDING
from dbt_enrich.cli.project import Location, load_project, project_options
from dbt_enrich.cli.selection import models_selection
from dbt_enrich.console.console import Console
from dbt_enrich.wording import counted


@click.command()
@models_selection
@click.option("--timeout", type=float, help="Seconds after which waiting ends (default: none).")
@project_options
def wait(
    models: tuple[str, ...],
    timeout: float | None,
    location: Location,
) -> None:
    """Wait for the batches in flight and store their answers. Sends nothing.

    The warehouse is not opened; the next run publishes the answers. Exit code 0 when everything
    is home, 3 when batches are still in flight.
    """
    from dbt_enrich.pipeline.wait import wait_for_batches

    project = load_project(location)
    waited = wait_for_batches(
        project.config,
        project.namespace,
        models=set(models),
        timeout=timeout,
        console=Console(click.echo),
        cancelled=threading.Event(),
    )
    if not waited.batches:
        click.echo("nothing is in flight")
        return
    click.echo(
        f"{counted(waited.batches, 'batch', 'batches')}, {counted(waited.stored, 'answer')} stored"
    )
    if waited.open:
        click.echo(f"{counted(waited.open, 'batch is', 'batches are')} still in flight")
        raise SystemExit(PENDING)
