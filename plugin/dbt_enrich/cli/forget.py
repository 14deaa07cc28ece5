"""`dbt-enrich forget`: let a model's answers go, so that they are asked and paid for again."""

from __future__ import annotations

import click

from dbt_enrich.cli.project import Location, load_project, project_options
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.pipeline.planning.task_versions import refuse_shared, tasks_of, worth_of
from dbt_enrich.task.model_names import chosen, label
from dbt_enrich.wording import counted


@click.command()
@click.option(
    "--model",
    "models",
    required=True,
    multiple=True,
    help="Name of the dbt model; several that share their answers are named together.",
)
@click.option("--version", "version", help="Only this version of its task (default: all).")
@click.option("--yes", is_flag=True, help="Do not ask.")
@project_options
def forget(
    models: tuple[str, ...],
    version: str | None,
    yes: bool,
    location: Location,
) -> None:
    """Delete a model's answers, so that the next run asks and pays for them again.

    Says first what they cost. The enriched table keeps its rows until that run.
    """
    project = load_project(location)
    with project.opened_run() as run:
        ledger = run.ledger
        known = ledger.enrichments()
        wanted = chosen(models, known)
        name = " and ".join(sorted(label(enrichment, known) for enrichment in wanted))
        found = {task.task_key: task for one in wanted for task in tasks_of(ledger, one)}
        tasks = [task for key, task in found.items() if key.startswith(version or "")]
        if not tasks:
            raise ConfigurationError(
                f"{name} has no version {version}",
                fix=f"look for it with `dbt-enrich versions {models[0]}`",
            )
        refuse_shared(ledger, tasks, wanted)
        held = worth_of(run, tasks, project.config)
        click.echo(
            f"{name}: {counted(held.answers, 'answer')} that cost {held.worth.sentence()} at batch "
            "price; the "
            "next run that sends pays for them again"
        )
        if not yes:
            click.confirm("delete them?", abort=True)
        for task in tasks:
            run.answers.forget(task.task_key)
        click.echo("deleted")
