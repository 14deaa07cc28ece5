"""The command line: `dbt-enrich`."""

from __future__ import annotations

import click

from dbt_enrich import __version__
from dbt_enrich.cli.cancel import cancel
from dbt_enrich.cli.describe import describe
from dbt_enrich.cli.doctor import doctor
from dbt_enrich.cli.forget import forget
from dbt_enrich.cli.init import init
from dbt_enrich.cli.plan import plan
from dbt_enrich.cli.preview import preview
from dbt_enrich.cli.prices import prices
from dbt_enrich.cli.report import report
from dbt_enrich.cli.retry import retry
from dbt_enrich.cli.run import run
from dbt_enrich.cli.serve import serve
from dbt_enrich.cli.status import status
from dbt_enrich.cli.versions import versions
from dbt_enrich.cli.wait import wait
from dbt_enrich.errors import EnrichmentError


class _Group(click.Group):
    """A group that ends with the one sentence of an error of ours."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except EnrichmentError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dbt-enrich")
def main() -> None:
    """Enrich the rows of a DuckDB table with a language model, at batch price, from dbt run."""


main.add_command(cancel)
main.add_command(describe)
main.add_command(doctor)
main.add_command(init)
main.add_command(forget)
main.add_command(plan)
main.add_command(preview)
main.add_command(prices)
main.add_command(report)
main.add_command(retry)
main.add_command(run)
main.add_command(status)
main.add_command(versions)
main.add_command(wait)
main.add_command(serve)
