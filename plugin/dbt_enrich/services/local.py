"""The provider `local`: the package's own emulator, over real HTTP, on this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt_enrich.clock import MACHINE_CLOCK, Clock
from dbt_enrich.config.azure import AzureConfig
from dbt_enrich.config.local import LocalConfig
from dbt_enrich.errors import translated_errors
from dbt_enrich.services.emulator import EmulatorService

if TYPE_CHECKING:
    from batch_server.process import EmulatorMembership


class LocalService(EmulatorService):
    """`BatchService` for the provider `local`: the emulator that serves the directory.

    Args:
        config: The plugin's configuration.
        say: Takes a line for the user before a language model is loaded.
        cancelled: Set when the user interrupts, which ends every call.
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
        super().__init__(config, say=say, cancelled=cancelled, clock=clock)

    def check(self, deployment: str) -> None:
        """Check that the emulator answers and takes the deployment.

        A model server that is asked for the deployment by its name must have such a model.
        """
        self._calls.interruptible(lambda: self._check_upstream(deployment))
        super().check(deployment)

    @translated_errors()
    def _check_upstream(self, deployment: str) -> None:
        upstream = self._config.spec.upstream
        if upstream is None or upstream.model is not None:
            return
        from batch_server.responders.upstream_probe import check_upstream

        check_upstream(upstream, deployment)

    def _joined(self) -> EmulatorMembership:
        from batch_server.process import join_emulator

        config = self._config
        return join_emulator(config.emulator_directory, spec=config.spec, say=self._say)

    def _settings_at(self, membership: EmulatorMembership) -> AzureConfig:
        return self._config.at(membership.url, membership.api_key)
