"""`dbt-enrich retry`: have failed rows asked once more, whatever their rule says."""

from __future__ import annotations

import click

from dbt_enrich.cli.project import Location, load_project, project_options
from dbt_enrich.cli.selection import models_selection
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.failures import FailureKind
from dbt_enrich.ledger import Ledger
from dbt_enrich.model_names import chosen, labels


@click.command()
@models_selection
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([kind.value for kind in FailureKind]),
    help="Only failures of this kind; may be given several times (default: all).",
)
@project_options
def retry(
    models: tuple[str, ...],
    kinds: tuple[str, ...],
    location: Location,
) -> None:
    """Have failed rows asked once more by the next dbt run.

    Also those that are not asked again by themselves: refusals, filtered rows, and rows that were
    asked max_attempts times. Sends nothing itself; `dbt-enrich plan` says what it will cost.
    """
    project = load_project(location)
    with Ledger(project.existing_ledger()) as ledger:
        names = labels(ledger.enrichments())
        wanted = chosen(models, names)
        tables = [t for t in ledger.publications() if not wanted or t.enrichment in wanted]
        if not tables:
            raise ConfigurationError(
                f"no table of {', '.join(models) or 'this project'} was published yet",
                fix="let a dbt run end first",
            )
        for table in tables:
            ledger.request_retry(table.enrichment, kinds or [kind.value for kind in FailureKind])
            name, failed = names[table.enrichment], table.counts.get("failed", 0)
            which = f"those with {', '.join(kinds)}" if kinds else "all"
            click.echo(
                f"{name}: of {failed:,} failed rows the next dbt run asks {which} once more"
                if failed
                else f"{name}: no row failed"
            )
