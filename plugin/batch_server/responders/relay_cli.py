"""The options of a relay on the emulator's command line, and back into values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from batch_server.responders.relay_options import RelayOptions

_PREFIX: Final = "relay_"
_Command = TypeVar("_Command", bound=Callable[..., Any])


def relay_command_options(command: _Command) -> _Command:
    """Give a command the options of a relay; they arrive as `relay_…`."""
    options = (
        click.option("--relay-base-url", hidden=True),
        click.option("--relay-api-version", hidden=True),
        click.option("--relay-by-deployment", type=bool, default=False, hidden=True),
        click.option("--relay-request-id-header", default="", hidden=True),
        click.option("--relay-timeout", type=float, default=RelayOptions.timeout, hidden=True),
    )
    for option in options:
        command = option(command)
    return command


def relay_from(values: dict[str, Any]) -> RelayOptions | None:
    """Return the service that a command's `relay_…` values describe, or None for none."""
    given = {name.removeprefix(_PREFIX): value for name, value in values.items()}
    return RelayOptions(**given) if given.get("base_url") else None
