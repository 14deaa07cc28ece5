"""A batch server of this project's own as a service: joined, called by Azure's v1 paths, left."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from dbt_enrich.clock import MACHINE_CLOCK, Clock
from dbt_enrich.config import PluginConfig
from dbt_enrich.config.azure import AzureConfig
from dbt_enrich.errors import translated_errors
from dbt_enrich.services.calls import Connection
from dbt_enrich.services.openai import OpenAIBatchService

if TYPE_CHECKING:
    from batch_server.process import EmulatorMembership


class EmulatorService(OpenAIBatchService):
    """`BatchService` of a batch server on this machine.

    It lives until its last user has left it with `close`. One that died is started again; it goes
    on with what its directory holds.

    Args:
        settings: What the profile says of the service.
        say: Takes a line for the user before something that takes long, if anything does.
        cancelled: Set when the user interrupts, which ends every call.
        clock: The time, by which it pauses between tries.

    Raises:
        ConfigurationError: What it needs is not installed, or another one runs there.
        EnrichmentError: It does not start.
    """

    def __init__(
        self,
        settings: PluginConfig,
        *,
        say: Callable[[str], None] | None = None,
        cancelled: threading.Event | None = None,
        clock: Clock = MACHINE_CLOCK,
    ) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._membership: EmulatorMembership | None = None
        super().__init__(settings, say=say, cancelled=cancelled, clock=clock)

    def close(self) -> None:
        """Release the connections and this user's hold on it. May be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            super().close()
            if self._membership is not None:
                self._membership.release()

    @abstractmethod
    def _joined(self) -> EmulatorMembership:
        """Join the batch server, or start it."""

    @abstractmethod
    def _settings_at(self, membership: EmulatorMembership) -> AzureConfig:
        """Return the settings by which it is called where it is now."""

    def _connected(self, failed: Connection | None) -> Connection:
        """Return a way to it that is not `failed`, unless this user has left it."""
        with self._lock:
            if failed is None:
                return self._join()
            if self._calls.connection is failed and not self._closed:
                # Threads may still be calling by the previous one: it is not closed here.
                previous = self._membership
                self._calls.connection = self._join()
                if previous is not None:
                    previous.release()
            return self._calls.connection

    def _join(self) -> Connection:
        with ExitStack() as undo:
            with translated_errors():
                membership = self._joined()
            undo.callback(membership.release)
            connection = Connection(self._settings_at(membership))
            undo.pop_all()
        self._membership = membership
        return connection
