"""`dbt-enrich submit`: send what is new, and leave the rest to the service."""

from __future__ import annotations

import click

from dbt_enrich.cli.dbt import DbtOptions
from dbt_enrich.cli.doors import door_of, finished
from dbt_enrich.cli.exits import ERROR
from dbt_enrich.cli.project import Location, load_project, project_options
from dbt_enrich.cli.selection import dbt_selection
from dbt_enrich.task.options import Mode


@click.command()
@dbt_selection
@project_options
def submit(select: tuple[str, ...], location: Location) -> None:
    """Send what is new and return, without waiting for the answers.

    What has finished meanwhile is taken in, and the tables show it; rows that wait are pending.
    `dbt-enrich collect` takes in the rest later, `dbt-enrich run` goes on to the end.
    """
    step = finished(door_of(load_project(location), DbtOptions(location, select)), Mode.SUBMIT)
    if step.code:
        raise SystemExit(ERROR)
