"""The relay as a `BatchService`, and how its credentials reach it.

The relay runs in a process of its own, and holds no credential but in memory: its users hand one
over as they join, and of Microsoft Entra ID again and again, as tokens expire. So signing in is
done at one place, and a secret leaves this process on no command line, in no file and in no
environment.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from batch_server.http_client import httpx, loopback_client

from dbt_enrich.clock import MACHINE_CLOCK, Clock
from dbt_enrich.config.azure import AzureConfig, emulator_settings
from dbt_enrich.config.remote import RemoteConfig
from dbt_enrich.errors import EnrichmentError, TransientError
from dbt_enrich.services.base import RemoteBatch
from dbt_enrich.services.calls import sign_in_of
from dbt_enrich.services.emulator import EmulatorService

if TYPE_CHECKING:
    from batch_server.process import EmulatorMembership

logger = logging.getLogger(__name__)
# So often the relay is handed the token that is good now.
_FRESH_SECONDS: Final = 2.0
_CONTROL_SECONDS: Final = 10.0
_LEAVE_SECONDS: Final = 2.0
_UNREACHED: Final = (httpx.HTTPError, OSError)


class RelayService(EmulatorService):
    """The relay before a service, by the ids that the relay gives.

    A batch lives no longer than the one who created it: what has not ended as the relay is left
    is cancelled, and the next run takes in what came of it.

    Args:
        config: What the profile says of the service.
        say: Takes a line for the user before something that takes long, if anything does.
        cancelled: Set when the user interrupts, which ends every call.
        clock: The time, by which it pauses between tries.

    Raises:
        ConfigurationError: The emulator's extra is not installed, or a credential cannot work.
        ServiceError: The identity that the profile names cannot sign in.
        EnrichmentError: The relay does not start.
    """

    def __init__(
        self,
        config: RemoteConfig,
        *,
        say: Callable[[str], None] | None = None,
        cancelled: threading.Event | None = None,
        clock: Clock = MACHINE_CLOCK,
    ) -> None:
        self._config = config
        self._sign_in = sign_in_of(config)
        self._open: set[str] = set()
        self._leaving = threading.Event()
        settings = emulator_settings(config, "http://127.0.0.1", "", **_OWN_RULES)
        super().__init__(settings, say=say, cancelled=cancelled, clock=clock)
        if self._sign_in is not None:
            threading.Thread(target=self._keep_fresh, name="relay-token", daemon=True).start()

    @property
    def service_id(self) -> str:
        """The service that answers: its answers are the same, however they were asked for."""
        return self._config.service_id

    def create(self, *args: Any, **named: Any) -> RemoteBatch:
        """Create a batch, which is cancelled if this user leaves before it has ended."""
        batch = super().create(*args, **named)
        self._open.add(batch.id)
        return batch

    def batch(self, batch_id: str) -> RemoteBatch:
        """Return the batch as it stands now."""
        batch = super().batch(batch_id)
        if batch.status.is_terminal:
            self._open.discard(batch_id)
        return batch

    def discard(self, batch_id: str | None, file_id: str | None) -> None:
        """Have the relay forget a batch that has ended, with its files.

        Raises:
            TransientError: It could not be asked.
        """
        wish = {"batch_id": batch_id or "", "file_id": file_id or ""}
        self._tell("discard", wish)

    def close(self) -> None:
        """Leave the relay. May be called twice."""
        self._leaving.set()
        for batch_id in tuple(self._open):
            self._open.discard(batch_id)
            with suppress(*_UNREACHED):
                self._post(f"/openai/v1/batches/{batch_id}/cancel", {}, _LEAVE_SECONDS)
        super().close()
        if self._sign_in is not None:
            self._sign_in.close()

    def _joined(self) -> EmulatorMembership:
        from batch_server.process import join_emulator

        return join_emulator(
            self._config.relay_directory, spec=self._config.relay_spec, say=self._say
        )

    def _settings_at(self, membership: EmulatorMembership) -> AzureConfig:
        """Return the settings of the calls; the relay can ask from now on."""
        self._hand_over(membership)
        return emulator_settings(self._config, membership.url, membership.api_key, **_OWN_RULES)

    def _hand_over(self, membership: EmulatorMembership) -> None:
        """Give the relay what opens the service now, and another where that was refused.

        Raises:
            ServiceError: The identity cannot sign in, or the relay does not take it.
        """
        facts = self._config.facts
        if self._sign_in is None:
            self._give(membership, facts.key_header, f"{facts.key_prefix}{self._config.key}")
            return
        token = self._sign_in.token()
        if self._give(membership, "Authorization", f"Bearer {token}", renewable=True):
            self._sign_in.renew(token)
            fresh = self._sign_in.token()
            self._give(membership, "Authorization", f"Bearer {fresh}", renewable=True)

    def _give(
        self, membership: EmulatorMembership, header: str, value: str, *, renewable: bool = False
    ) -> bool:
        """Hand a header over; return whether the service has refused it before."""
        wish = {"header": header, "value": value, "renewable": renewable}
        try:
            said = _posted(membership, "/_control/credentials", wish, _CONTROL_SECONDS)
        except _UNREACHED as error:
            raise TransientError(f"the relay took no credential ({error})") from None
        return bool(said.get("refused"))

    def _keep_fresh(self) -> None:
        while not self._leaving.wait(_FRESH_SECONDS):
            membership = self._membership
            if membership is None:
                continue
            try:
                self._hand_over(membership)
            except EnrichmentError as error:
                # The relay says what the service makes of the one that it has.
                logger.debug("%s", error)

    def _tell(self, action: str, wish: Mapping[str, Any]) -> None:
        try:
            self._post(f"/_control/{action}", wish, _CONTROL_SECONDS)
        except _UNREACHED as error:
            raise TransientError(f"the relay could not be asked to {action} ({error})") from None

    def _post(self, path: str, wish: Mapping[str, Any], seconds: float) -> None:
        membership = self._membership
        if membership is not None:
            _posted(membership, path, wish, seconds)


# The relay takes any endpoint under its own path, and keeps no file longer than it is of use.
_OWN_RULES: Final[Mapping[str, Any]] = {
    "line_url": None,
    "batch_endpoint": None,
    "file_expiry_days": None,
}


def _posted(
    membership: EmulatorMembership, path: str, wish: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    with loopback_client(timeout=seconds) as client:
        reply = client.post(
            f"{membership.url}{path}", json=dict(wish), headers={"api-key": membership.api_key}
        )
    reply.raise_for_status()
    said: Any = reply.json()
    return said if isinstance(said, dict) else {}
