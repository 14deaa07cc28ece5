"""`--select` as dbt reads it."""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner
from dbt_enrich.cli import main
from dbt_enrich.cli.selection import dbt_selection, models_selection


@click.command()
@dbt_selection
@click.option("--json", "as_json", is_flag=True)
def select_for_dbt(select: tuple[str, ...], as_json: bool) -> None:
    """A command that hands its selection on."""
    click.echo(json.dumps([*select, as_json]))


@click.command()
@models_selection
@click.option("--json", "as_json", is_flag=True)
def select_models(models: tuple[str, ...], as_json: bool) -> None:
    """A command that takes names of models."""
    click.echo(json.dumps([*models, as_json]))


@pytest.mark.parametrize("command", [select_for_dbt, select_models])
@pytest.mark.parametrize(
    ("typed", "selected"),
    [
        (["-s", "a"], ["a", False]),
        (["-s", "a", "b"], ["a", "b", False]),
        (["--select", "a", "b+", "--json"], ["a", "b+", True]),
        (["--json", "-s", "a b"], ["a", "b", True]),
        (["-s", "a", "-s", "b", "c"], ["a", "b", "c", False]),
        (["--select=a", "b"], ["a", "b", False]),
        (["--select", ""], ["", False]),
        ([], [False]),
    ],
)
def test_select_takes_what_dbt_takes(
    command: click.Command, typed: list[str], selected: list[object]
) -> None:
    """Several words, one text of them, repeated; an empty one is not everything."""
    done = CliRunner().invoke(command, typed)
    assert done.exit_code == 0, done.output
    assert json.loads(done.output) == selected


def test_every_select_reads_alike() -> None:
    """No command has an option of that name with another syntax."""
    context = click.Context(main)
    options = [
        option
        for name in main.list_commands(context)
        if (command := main.get_command(context, name))
        for option in command.params
        if "--select" in option.opts
    ]
    assert len(options) == 9
    assert len({type(option) for option in options}) == 1
