"""The command line: `dbt-enrich`."""

from __future__ import annotations

from importlib import import_module

import click

from dbt_enrich import __version__
from dbt_enrich.errors import EnrichmentError

# Each is the module of its name, which is imported when the command is called.
_COMMANDS = (
    "cancel",
    "describe",
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
    "status",
    "versions",
    "wait",
)


class _Group(click.Group):
    """The commands, and the one sentence of an error of ours at the end."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return command if isinstance(command, click.Command) else None

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except EnrichmentError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dbt-enrich")
def main() -> None:
    """Enrich the rows of a DuckDB table with a language model, at batch price, from dbt run."""
