"""`dbt-enrich doctor`: everything that a run needs, each line with its fix."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from dbt_enrich.cli.diagnosis import diagnose
from dbt_enrich.cli.exits import ERROR
from dbt_enrich.cli.findings import Finding
from dbt_enrich.cli.project import Location, project_options

_MARKS = {"ok": ("ok     ", "green"), "warning": ("warning", "yellow"), "wrong": ("wrong  ", "red")}


@click.command()
@click.option("--model", "-m", "models", multiple=True, help="Logical model to look at.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@project_options
def doctor(
    models: tuple[str, ...],
    as_json: bool,
    location: Location,
) -> None:
    """Look at versions, profile, state directory, service, key, deployments and quotas.

    Nothing is sent that costs. Exit code 0 if nothing is wrong, else 1.
    """
    findings = []
    for finding in diagnose(location, models):
        findings.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    if any(finding.verdict == "wrong" for finding in findings):
        raise SystemExit(ERROR)


def _show(finding: Finding) -> None:
    mark, color = _MARKS[finding.verdict]
    click.echo(f"{click.style(mark, fg=color)}  {finding.subject}: {finding.found}")
    if finding.fix:
        click.echo(f"         {finding.fix}")
