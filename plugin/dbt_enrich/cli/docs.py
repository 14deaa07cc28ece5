"""`dbt-enrich docs`: where the documentation is."""

from __future__ import annotations

import sys

import click

from dbt_enrich.errors import SITE


@click.command()
def docs() -> None:
    """Print the address of the documentation, and open it in a browser.

    Nothing is opened where the output is no terminal.
    """
    click.echo(SITE)
    if sys.stdout.isatty():
        click.launch(SITE)
