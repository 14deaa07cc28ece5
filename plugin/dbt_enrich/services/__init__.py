"""The Batch API, whoever offers it: `create_service` gives the engine its one way to it.

Importing this package loads neither the `openai` package nor the emulator; `create_service` does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from dbt_enrich.config.service import Provider, Secret, ServiceSettings
from dbt_enrich.services.base import BatchService

__all__ = ["BatchService", "Provider", "Secret", "ServiceSettings", "create_service"]


def create_service(
    settings: ServiceSettings,
    *,
    say: Callable[[str], None] | None = None,
    cancelled: threading.Event | None = None,
) -> BatchService:
    """Return the service that `settings` describe. Sends nothing yet.

    Args:
        settings: Checked settings.
        say: Takes a line for the user before something that takes long, if anything does.
        cancelled: Set when the user interrupts: every call then raises a `CancelledError`, also
            while no reply comes, but for one synchronous request, whose reply is paid for.

    Returns:
        A service that may be used from several threads, until its `close`.

    Raises:
        ConfigurationError: The provider lacks an extra, or what it needs on this machine.
    """
    settings.check_installed()
    if settings.provider is Provider.LOCAL:
        from dbt_enrich.services.local import LocalService

        return LocalService(settings, say=say, cancelled=cancelled)
    from dbt_enrich.services.openai import OpenAIBatchService

    return OpenAIBatchService(settings, cancelled=cancelled)
