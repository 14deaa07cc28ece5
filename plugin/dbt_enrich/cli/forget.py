"""`dbt-enrich forget`: let a model's answers go, so that they are asked and paid for again."""

from __future__ import annotations

import click

from dbt_enrich.cli.project import Location, load_project, project_options
from dbt_enrich.cli.versions import tasks_of
from dbt_enrich.ledger import Ledger
from dbt_enrich.pipeline.versions import forget as forget_answers
from dbt_enrich.pipeline.versions import worth_of


@click.command()
@click.option("--model", required=True, help="Name of the dbt model.")
@click.option("--version", "version", help="Only this version of its task (default: all).")
@click.option("--yes", is_flag=True, help="Do not ask.")
@project_options
def forget(
    model: str,
    version: str | None,
    yes: bool,
    location: Location,
) -> None:
    """Delete a model's answers, so that the next dbt run asks and pays for them again.

    Says first what they cost. The enriched table keeps its rows until that run.
    """
    project = load_project(location)
    path = project.config.state_dir.expanduser() / "ledger.sqlite"
    if not path.exists():
        raise click.ClickException(f"nothing was sent yet: there is no ledger at {path}")
    with Ledger(path) as ledger:
        tasks = tasks_of(ledger, model)
        if version:
            tasks = [task for task in tasks if task.task_key.startswith(version)]
        if not tasks:
            raise click.ClickException(f"{model} has no version {version}")
        held = worth_of(project.config, ledger, tasks)
        click.echo(
            f"{model}: {held.answers:,} answers that cost {held.worth.said()} at batch price; the "
            "next dbt run that sends pays for them again"
        )
        if not yes:
            click.confirm("delete them?", abort=True)
        forget_answers(project.config, ledger, tasks)
        click.echo("deleted")
