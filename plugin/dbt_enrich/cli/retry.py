"""`dbt-enrich retry`: have failed rows asked once more, whatever their rule says."""

from __future__ import annotations

import click

from dbt_enrich.cli.project import Location, load_project, project_options
from dbt_enrich.cli.selection import models_selection
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.state.tables.publications import Publication
from dbt_enrich.task.failures import FailureKind
from dbt_enrich.task.model_names import chosen, labels
from dbt_enrich.wording import counted


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
    """Have failed rows asked once more by the next run.

    Also those that are not asked again by themselves: refusals, filtered rows, and rows that were
    asked max_attempts times. A run that was stopped as too many failed alike may go on, too. Sends
    nothing itself; `dbt-enrich plan` says what it will cost.
    """
    project = load_project(location)
    with project.opened_ledger() as ledger:
        names = labels(ledger.enrichments())
        wanted = chosen(models, names)
        tables = {table.enrichment: table for table in ledger.publications.all()}
        asked = [name for name in sorted(names) if not wanted or name in wanted]
        if not asked:
            raise ConfigurationError(
                f"nothing of {', '.join(models) or 'this project'} was sent or published yet",
                fix="let a run end first",
            )
        for enrichment in asked:
            ledger.retries.add(enrichment, kinds or [kind.value for kind in FailureKind])
            lifted = ledger.stops.lift(enrichment=enrichment)
            text = _said(tables.get(enrichment), lifted, kinds)
            click.echo(f"{names[enrichment]}: {text}")


def _said(table: Publication | None, lifted: int, kinds: tuple[str, ...]) -> str:
    """Say what the next run of a model does."""
    if lifted:
        return "a run was stopped; the next run asks what failed alike, and goes on"
    failed = table.counts.get("failed", 0) if table else 0
    which = f"those with {', '.join(kinds)}" if kinds else "all"
    if not failed:
        return "no row failed"
    if failed == 1 and not kinds:
        return "the next run asks the failed row once more"
    return f"of {counted(failed, 'failed row')}, the next run asks {which} once more"
