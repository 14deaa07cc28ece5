"""The relay: the project's own batch server before a service's synchronous endpoint.

What goes through it is a batch like any other, with files, ids and states of its own, which the
service knows nothing of. Started when it is first needed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt_enrich.clock import MACHINE_CLOCK, Clock
from dbt_enrich.config import PluginConfig
from dbt_enrich.config.remote import RemoteConfig
from dbt_enrich.errors import EnrichmentError

if TYPE_CHECKING:
    from dbt_enrich.services.relay_service import RelayService


class Relay:
    """The way to the relay of the service that a profile names. May be used from several threads.

    Args:
        config: The plugin's configuration.
        cancelled: Set when the user interrupts, which ends every call.
        clock: The time.
    """

    def __init__(
        self,
        config: PluginConfig,
        *,
        cancelled: threading.Event | None = None,
        clock: Clock = MACHINE_CLOCK,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._config = config
        self._cancelled = cancelled
        self._clock = clock
        self._say = say
        self._lock = threading.Lock()
        self._service: RelayService | None = None

    def open(self) -> RelayService:
        """Return the relay as a service; it is joined, or started, with the first call.

        Raises:
            ConfigurationError: The emulator's extra is not installed.
            EnrichmentError: It does not start, or the provider runs on this machine and has none.
        """
        from dbt_enrich.services.relay_service import RelayService

        with self._lock:
            if self._service is None:
                if not isinstance(self._config, RemoteConfig):
                    raise EnrichmentError(
                        f"the provider `{self._config.provider}` has no relay before it"
                    )
                self._service = RelayService(
                    self._config, say=self._say, cancelled=self._cancelled, clock=self._clock
                )
            return self._service

    def close(self) -> None:
        """Leave the relay, if it was joined. May be called twice."""
        with self._lock:
            service, self._service = self._service, None
        if service is not None:
            service.close()
