"""`dbt-enrich collect`: take in what the service has finished, and send nothing."""

from __future__ import annotations

import click

from dbt_enrich.cli.dbt import DbtOptions
from dbt_enrich.cli.doors import door_of, finished
from dbt_enrich.cli.exits import ERROR
from dbt_enrich.cli.project import Location, load_project, project_options
from dbt_enrich.cli.run import verdict
from dbt_enrich.cli.selection import dbt_selection
from dbt_enrich.task.options import Mode


@click.command()
@dbt_selection
@project_options
def collect(select: tuple[str, ...], location: Location) -> None:
    """Take in the answers that are ready, publish them, and send nothing.

    Exit code 0: every row is done or skipped; 1: an error; 3: rows are still pending; 4: rows
    failed for good.
    """
    step = finished(door_of(load_project(location), DbtOptions(location, select)), Mode.COLLECT)
    raise SystemExit(ERROR if step.code else verdict(step.published))
