"""`dbt-enrich cancel`: end the batches in flight, and keep what they have finished."""

from __future__ import annotations

import click

from dbt_enrich.cli.project import Location, load_project, project_options
from dbt_enrich.cli.selection import models_selection
from dbt_enrich.console.console import Console
from dbt_enrich.wording import counted

_TEN_MINUTES = 600.0


@click.command()
@models_selection
@click.option(
    "--wait",
    default=_TEN_MINUTES,
    show_default=True,
    help="Seconds to wait for the service to end them.",
)
@project_options
def cancel(
    models: tuple[str, ...],
    wait: float,
    location: Location,
) -> None:
    """Cancel batches in flight, and keep what they have finished.

    Finished answers are paid for and go to the answer store; the next run publishes them. Rows that
    were cut off are asked again by the next run that sends.
    """
    from dbt_enrich.pipeline.cancel import cancel as cancel_batches

    project = load_project(location)
    result = cancel_batches(
        project.config,
        project.namespace,
        models=set(models),
        wait=wait,
        console=Console(click.echo),
    )
    if not result.batches:
        click.echo("nothing is in flight")
        return
    click.echo(
        f"asked the service to end {counted(result.batches, 'batch', 'batches')} of "
        f"{counted(result.requests, 'request')}; "
        f"{counted(result.kept, 'finished answer is', 'finished answers are')} kept"
    )
    if result.waiting:
        click.echo(
            f"{counted(result.waiting, 'batch is', 'batches are')} collected by the run that "
            f"waits for {'it' if result.waiting == 1 else 'them'}"
        )
    if result.open:
        click.echo(
            f"{counted(result.open, 'batch', 'batches')} had not ended after {wait:g} seconds; the "
            "next run collects what is left, and so does dbt-enrich collect, which sends nothing"
        )
