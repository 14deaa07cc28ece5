"""`dbt-enrich preview`: the first rows of a model through the synchronous endpoint."""

from __future__ import annotations

import json

import click

from dbt_enrich.cli.dbt import DbtOptions
from dbt_enrich.cli.doors import door_of
from dbt_enrich.cli.project import Location, load_project, project_options
from dbt_enrich.environment import PREVIEW_MODEL_VARIABLE, PREVIEW_ROWS_VARIABLE
from dbt_enrich.task.options import Mode


@click.command()
@click.argument("model")
@click.option(
    "--rows",
    "-n",
    type=click.IntRange(1, 100),
    default=5,
    show_default=True,
    help="How many rows are asked.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@project_options
def preview(
    model: str,
    rows: int,
    as_json: bool,
    location: Location,
) -> None:
    """Ask the first rows of MODEL now, at the synchronous price, and show the answers.

    They are validated as a batch's would be, and stored nowhere. A batch deployment answers no
    single requests: name one that does as `preview_model` in the model's meta.enrichment.
    """
    options = DbtOptions(location, (model,))
    given = {PREVIEW_MODEL_VARIABLE: model, PREVIEW_ROWS_VARIABLE: str(rows)}
    reports = door_of(load_project(location), options).reports(Mode.PREVIEW, given)
    found = [report["preview"] for report in reports if "preview" in report]
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    if not found:
        raise click.ClickException(
            f"no model called {model} has materialized = 'enrichment'; to preview a "
            "Python model, give it mode: preview and run it"
        )
    for shown in found:
        for row in shown["rows"]:
            click.secho(row["row"], bold=True)
            click.echo(f"  asked:    {row['user_message']}")
            click.echo(f"  answered: {row['answer']}")
            if row["problem"]:
                click.secho(f"  would fail: {row['problem']}", fg="red")
            click.echo(
                f"  {row['seconds']:.1f} s, {row['prompt_tokens']:,} + "
                f"{row['completion_tokens']:,} tokens"
            )
        click.echo(shown["sentence"])
