"""`dbt-enrich state`: where the state is, and its way from one machine to several, or back."""

from __future__ import annotations

import click

from dbt_enrich.cli.project import Location, Project, load_project, project_options
from dbt_enrich.config.state import StateKeys
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.ledger import Ledger


@click.group()
def state() -> None:
    """Show where ledger and answers are, and move them."""


@state.command()
@project_options
def show(location: Location) -> None:
    """Say where the state is, how much it holds, and who works with it now."""
    from dbt_enrich.buckets.bucket import UNTRIED
    from dbt_enrich.state.moving import held_by
    from dbt_enrich.state.open_ledger import ledger_place

    project = load_project(location)
    config = project.config
    with project.opened_ledger() as ledger:
        click.echo(f"ledger: {ledger_place(config)}")
        click.echo(f"answers: {config.state.files if config.state else project.state.root}")
        if config.state and config.state.bucket.scheme in UNTRIED:
            click.echo(f"untried: {UNTRIED[config.state.bucket.scheme]}")
        click.echo(f"holds: {held_by(ledger).sentence()}")
        if config.state:
            running = ledger.running()
        else:
            with project.state.no_run_begins("") as is_alone:
                running = [] if is_alone else ["this machine"]
    click.echo(f"running: {', '.join(running) or 'no run'}")


@state.command()
@click.option(
    "--to",
    "to",
    type=click.Choice(["shared", "directory"]),
    required=True,
    help="`shared`: from `state_dir` to where `state` in the profile says; `directory`: back.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@project_options
def move(to: str, yes: bool, location: Location) -> None:
    """Move ledger and answers, while no run is under way; nothing is sent.

    What was moved away stays where it was, marked, so that no run goes on with it.
    """
    from dbt_enrich.state.moving import share, unshare

    project = load_project(location)
    keys = project.config.state
    if keys is None:
        raise ConfigurationError(
            f"{project.config.place.name} has no `state`",
            fix="write it there, and leave state_dir as it is",
        )
    if to == "shared":
        _say(project, keys)
        if not yes:
            click.confirm("move it?", abort=True)
        share(project.config, keys)
    else:
        click.echo(f"from {keys.files} to {StateDirectory(project.config.state_dir).root}")
        if not yes:
            click.confirm("move it?", abort=True)
        unshare(project.config, keys)
        click.echo(f"moved; take `state` out of {project.config.place.name}")
        return
    click.echo("moved")


def _say(project: Project, keys: StateKeys) -> None:
    from dbt_enrich.state.moving import held_by

    local = StateDirectory(project.config.state_dir)
    click.echo(f"from {local.root} to {keys.files}")
    if local.ledger.exists():
        with Ledger(local.ledger) as ledger:
            click.echo(held_by(ledger).sentence())
