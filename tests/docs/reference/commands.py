"""The page of the commands."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator

import click
from dbt_enrich.cli import main
from dbt_enrich.cli.exits import DONE, ERROR, FAILED_ROWS, PENDING
from dbt_enrich.cli.project import project_options
from docs.reference.markdown import page, table


def leaf_commands() -> dict[str, click.Command]:
    """Return the commands of `dbt-enrich`, those of groups by both names."""
    return dict(_commands_of(main))


def _commands_of(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield before + name, command
        if isinstance(command, click.Group):
            yield from _commands_of(command, f"{before}{name} ")


def _project_parameters() -> list[click.Parameter]:
    """The options by which every command finds its project."""

    @click.command()
    @project_options
    def nothing(**_: object) -> None:
        pass

    return nothing.params


def _options(command: click.Command, parameters: Iterable[click.Parameter]) -> str:
    context = click.Context(command)
    rows = []
    for option in parameters:
        record = option.get_help_record(context) if isinstance(option, click.Option) else None
        if record:
            rows.append([f"`{record[0]}`", _cell(record[1])])
    return table(["option", "what it does"], rows) if rows else ""


def _cell(text: str) -> str:
    return re.sub(r"\s*\[(default: [^\]]*|required)[^\]]*\]$", r" (\1)", text).replace("|", "\\|")


def commands() -> str:
    """Write the page of the commands."""
    shared = _project_parameters()
    names = {option.name for option in shared}
    parts = []
    for name, command in leaf_commands().items():
        context = click.Context(command, info_name=f"dbt-enrich {name}")
        own = [option for option in command.params if option.name not in names]
        usage = command.get_usage(context).removeprefix("Usage: ")
        help_text = inspect.cleandoc(command.help or "").split("\f")[0]
        paragraphs = [" ".join(part.split()) for part in help_text.split("\n\n")]
        takes = {option.name for option in command.params} >= names
        parts += [
            f"## `dbt-enrich {name}`\n",
            "\n\n".join(paragraphs) + "\n",
            f"```text\n{' '.join(usage.split())}\n```\n",
            *filter(None, [_options(command, own)]),
            *(["With the [options of every project](#options-of-every-project).\n"] * takes),
        ]
    return page(
        "Commands",
        "Each command prints the same with `--help`. `dbt-enrich --version` prints the version.",
        *parts,
        "## Options of every project\n",
        _options(main, shared),
        "## Exit codes\n",
        table(
            ["code", "what it means"],
            [
                [f"`{DONE}`", "Everything that was asked is done."],
                [f"`{ERROR}`", "Something is wrong. The message says what."],
                ["`2`", "The command line is wrong."],
                [f"`{PENDING}`", "Batches are still at the service."],
                [f"`{FAILED_ROWS}`", "Rows failed for good."],
            ],
        ),
    )
