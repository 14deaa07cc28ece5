"""The command line: `dbt-enrich`."""

from __future__ import annotations

import click

from dbt_enrich import __version__
from dbt_enrich.cli.serve import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dbt-enrich")
def main() -> None:
    """Enrich the rows of a DuckDB table with a language model, at batch price, from dbt run."""


main.add_command(serve)
