"""`dbt-enrich report`: look at what came out of the runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

import click

from dbt_enrich.cli.hosts import open_remote_host
from dbt_enrich.cli.project import (
    Location,
    Project,
    load_databases,
    load_project,
    project_options,
)
from dbt_enrich.cli.selection import models_selection
from dbt_enrich.extras import REPORT, require
from dbt_enrich.report.collect import SETTINGS, collect
from dbt_enrich.report.documents import json_document, markdown_document
from dbt_enrich.state.open_files import made_directory
from dbt_enrich.warehouse.attached import Tables, attached_tables


@click.command()
@models_selection
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "markdown", "json"]),
    default="html",
    show_default=True,
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; - is standard output.  [default: report.html, else standard output]",
)
@project_options
def report(models: tuple[str, ...], form: str, output: Path | None, location: Location) -> None:
    """Show what came out: answers, failures, cost and batches of the enriched tables.

    Reads warehouse and ledger, changes neither, and asks nothing of the service. The HTML file
    needs no network when it is opened.
    """
    if output is None and form == "html":
        output = Path("report.html")
    if form == "html":
        require(
            REPORT,
            "the HTML report",
            otherwise="use --format markdown or --format json, which need nothing more",
        )
    target = None if output is None or str(output) == "-" else output.resolve()
    project = load_project(location)
    tables = _tables(project, location)
    found = collect(project.config, project=project.name, tables=tables, models=models)
    if form == "html":
        from dbt_enrich.report.page import html_page

        text = html_page(found)
    else:
        text = markdown_document(found) if form == "markdown" else json_document(found)
    if target is None:
        click.echo(text)
        return
    _write(target, text)
    for sentence in found.sentences:
        click.echo(sentence)
    click.echo(f"written: {target}")


def _tables(project: Project, location: Location) -> AbstractContextManager[Tables]:
    """Return what opens the tables of a project's target."""
    if project.adapter == "duckdb":
        return attached_tables(load_databases(location), SETTINGS)
    return _copied_tables(project, location)


@contextmanager
def _copied_tables(project: Project, location: Location) -> Iterator[Tables]:
    from dbt_enrich.warehouse.copied_tables import copied_tables

    lock = made_directory(project.config).begin_work()
    try:
        with (
            closing(open_remote_host(project, location)) as host,
            copied_tables(host, lock.path, SETTINGS) as tables,
        ):
            yield tables
    finally:
        lock.remove()


def _write(target: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = target.with_name(f".{target.name}.writing")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(target)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise click.ClickException(
            f"{target} cannot be written ({error.strerror or error}); name another file by --output"
        ) from None
