"""The command line: `dbt-enrich`."""

from __future__ import annotations

from importlib import import_module

import click

from dbt_enrich import __version__
from dbt_enrich.errors import SITE, EnrichmentError

# Each is the module of its name, which is imported when the command is called.
_COMMANDS = (
    "cancel",
    "collect",
    "describe",
    "docs",
    "doctor",
    "forget",
    "init",
    "plan",
    "preview",
    "prices",
    "report",
    "retry",
    "run",
    "serve",
    "state",
    "status",
    "submit",
    "versions",
    "wait",
)


class _Group(click.Group):
    """The commands, each with its page, and the one sentence of an error of ours at the end."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return _with_page(command, cmd_name) if isinstance(command, click.Command) else None

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except EnrichmentError as error:
            raise click.ClickException(error.with_page) from error


def _with_page(command: click.Command, name: str) -> click.Command:
    """Have the help of a command, and of those below it, end with its page."""
    command.epilog = f"\b\n{SITE}reference/commands.html#dbt-enrich-{name}"
    for inner, below in command.commands.items() if isinstance(command, click.Group) else ():
        _with_page(below, f"{name}-{inner}")
    return command


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"\b\n{SITE}",
)
@click.version_option(__version__, prog_name="dbt-enrich")
def main() -> None:
    """Enrich the rows of a table with a language model, at batch price, from dbt."""
