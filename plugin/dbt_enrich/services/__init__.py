"""The Batch API of any provider: `create_service` gives the engine its one way to it.

Importing this package loads neither the `openai` package nor the emulator; `create_service` does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pkgutil import resolve_name

from dbt_enrich.clock import MACHINE_CLOCK, Clock
from dbt_enrich.config import PluginConfig
from dbt_enrich.services.base import BatchService
from dbt_enrich.services.relay import Relay

__all__ = ["BatchService", "Relay", "create_service"]


def create_service(
    config: PluginConfig,
    *,
    say: Callable[[str], None] | None = None,
    cancelled: threading.Event | None = None,
    clock: Clock = MACHINE_CLOCK,
) -> BatchService:
    """Return the service that the profile names. Sends nothing yet.

    Args:
        config: The plugin's configuration.
        say: Takes a line for the user before something that takes long, if anything does.
        cancelled: Set when the user interrupts: every call then raises a `CancelledError`, also
            while no reply comes.
        clock: The time, by which it pauses between tries.

    Returns:
        A service that may be used from several threads, until its `close`.

    Raises:
        ConfigurationError: A value is missing or cannot work, or the provider lacks an extra or
            what else it needs on this machine.
    """
    config.check()
    config.check_installed()
    service: BatchService = resolve_name(config.facts.service)(
        config, say=say, cancelled=cancelled, clock=clock
    )
    return service
