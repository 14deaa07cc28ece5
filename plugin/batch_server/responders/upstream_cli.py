"""The options of a model server on the command lines of the emulator, and back into values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from batch_server.problems import SetupError
from batch_server.responders.upstream_options import UpstreamOptions

_PREFIX: Final = "upstream_"
_Command = TypeVar("_Command", bound=Callable[..., Any])
_OPTIONS: Final = (
    click.option(
        "--upstream-base-url",
        help="Address of an OpenAI-compatible server for upstream, such as "
        "http://localhost:11434/v1.",
    ),
    click.option(
        "--upstream-model", help="The model that it is asked for, in place of the requests' own."
    ),
    click.option(
        "--upstream-api-key-env", help="The environment variable that holds the server's key."
    ),
    click.option(
        "--upstream-concurrency",
        type=int,
        default=UpstreamOptions.concurrency,
        show_default=True,
        help="Requests in flight at once.",
    ),
    click.option(
        "--upstream-timeout",
        type=float,
        default=UpstreamOptions.timeout,
        show_default=True,
        help="Seconds that one try of a request may take.",
    ),
    click.option(
        "--upstream-retries",
        type=int,
        default=UpstreamOptions.retries,
        show_default=True,
        help="How often a request is repeated that found no answer, or a 408, 409, 429 or 5xx.",
    ),
)


def upstream_command_options(command: _Command) -> _Command:
    """Give a command the options of a model server; they arrive as `upstream_…`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def upstream_from(responder: str, values: dict[str, Any]) -> UpstreamOptions | None:
    """Return the model server that a command's `upstream_…` values describe.

    Args:
        responder: The responder that is to answer.
        values: The values by the options' names.

    Returns:
        None if the responder is another one.

    Raises:
        SetupError: The address is missing, or a value cannot work.
    """
    if responder != "upstream":
        return None
    given = {name.removeprefix(_PREFIX): value for name, value in values.items()}
    if not given["base_url"]:
        raise SetupError(
            "the responder upstream needs the address of a model server",
            fix="give --upstream-base-url, such as http://localhost:11434/v1",
        )
    return UpstreamOptions(**given).checked()
