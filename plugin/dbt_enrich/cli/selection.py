"""`--select` as dbt reads it: several names after one option, in one text, or repeated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _SelectOption(click.Option):
    """An option that takes every word up to the next option."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        super().add_to_parser(parser, ctx)
        # click has no public way to it.
        option = parser._long_opt["--select"]  # noqa: SLF001
        take_one = option.process

        def take_all(value: str, state: Any) -> None:
            words = value.split()
            while state.rargs and not state.rargs[0].startswith("-"):
                words += state.rargs.pop(0).split()
            # An empty selection, such as an unset variable of the shell's, is not everything.
            for word in words or [""]:
                take_one(word, state)

        option.process = take_all


def dbt_selection(command: _Command) -> _Command:
    """Give a command `--select` with dbt's own syntax, as its argument `select`."""
    return click.option(
        "--select",
        "-s",
        multiple=True,
        cls=_SelectOption,
        help="dbt selection: names, tags, paths, graph operators (default: every enrichment).",
    )(command)


def models_selection(command: _Command) -> _Command:
    """Give a command `--select` that takes names of dbt models, as its argument `models`."""
    return click.option(
        "--select",
        "-s",
        "models",
        multiple=True,
        cls=_SelectOption,
        metavar="MODEL",
        help="Only these models.",
    )(command)
