"""The provider `local`: the package's own emulator, over real HTTP, on this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from dbt_enrich.clock import MACHINE_CLOCK, Clock
from dbt_enrich.config.local import LocalConfig
from dbt_enrich.errors import translated_errors
from dbt_enrich.services.calls import Connection
from dbt_enrich.services.openai import OpenAIBatchService

if TYPE_CHECKING:
    from batch_server.process import EmulatorMembership


class LocalService(OpenAIBatchService):
    """`BatchService` for the provider `local`.

    Joins the emulator that serves the directory, or starts it, and calls it by Azure's v1 paths.
    The emulator lives until its last user has left it with `close`. One that died is started
    again; it goes on with what its directory holds.

    Args:
        config: The plugin's configuration.
        say: Takes a line for the user before a language model is loaded.
        cancelled: Set when the user interrupts, which ends every call but one that is paid for.
        clock: The time, by which it pauses between tries.

    Raises:
        ConfigurationError: What the emulator needs is not installed, or another one runs there.
        EnrichmentError: The emulator does not start.
    """

    def __init__(
        self,
        config: LocalConfig,
        *,
        say: Callable[[str], None] | None = None,
        cancelled: threading.Event | None = None,
        clock: Clock = MACHINE_CLOCK,
    ) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._closed = False
        self._membership: EmulatorMembership | None = None
        super().__init__(config, say=say, cancelled=cancelled, clock=clock)

    def check(self, deployment: str) -> None:
        """Check that the emulator answers and takes the deployment.

        A model server that is asked for the deployment by its name must have such a model.
        """
        self._calls.interruptible(lambda: self._check_upstream(deployment))
        super().check(deployment)

    def close(self) -> None:
        """Release the connections and this user's hold on the emulator. May be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            super().close()
            if self._membership is not None:
                self._membership.release()

    @translated_errors()
    def _check_upstream(self, deployment: str) -> None:
        upstream = self._config.spec.upstream
        if upstream is None or upstream.model is not None:
            return
        from batch_server.responders.upstream_probe import check_upstream

        check_upstream(upstream, deployment)

    def _connected(self, failed: Connection | None) -> Connection:
        """Return a way to the emulator that is not `failed`, unless this user has left it."""
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
        from batch_server.process import join_emulator

        config = self._config
        with ExitStack() as undo:
            with translated_errors():
                membership = join_emulator(
                    config.emulator_directory, spec=config.spec, say=self._say
                )
            undo.callback(membership.release)
            connection = Connection(config.at(membership.url, membership.api_key))
            undo.pop_all()
        self._membership = membership
        return connection
