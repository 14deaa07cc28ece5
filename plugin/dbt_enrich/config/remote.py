"""The keys of a service that is reached by an address, with a key."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from batch_server.responders import RelayOptions, ResponderSpec
from pydantic import SecretStr

from dbt_enrich.config.address import VISIBLE_ASCII
from dbt_enrich.config.common import PluginConfig
from dbt_enrich.config.credential import EntraKeys
from dbt_enrich.errors import ConfigurationError

RELAY_DIRECTORY: Final = "relay"
"""Where the relays before the services keep their files, below the state directory."""

_NAME_DIGITS: Final = 12


class RemoteConfig(PluginConfig):
    """The keys of a service that is reached by an address, with a key.

    Attributes:
        api_key: The service's key. Never shown.
    """

    api_key: SecretStr | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The service's address without a trailing slash, as requests record it.

        Raises:
            ConfigurationError: It is missing or cannot be one.
        """

    @property
    def api_query(self) -> dict[str, object] | None:
        """What every call has in its query, if anything."""
        return None

    @property
    def sign_in(self) -> EntraKeys | None:
        """Who signs in, where a token is sent in place of a key."""
        return None

    @property
    def host(self) -> str:
        """The service's host, with the port where it is not the scheme's own."""
        parts = urlsplit(self.url)
        usual = 443 if parts.scheme == "https" else 80
        port = "" if parts.port in (None, usual) else f":{parts.port}"
        return f"{parts.hostname}{port}"

    @property
    def service_id(self) -> str:
        """Which service an id belongs to: the provider and its host."""
        return f"{self.provider}:{self.host}"

    @property
    def sent_to(self) -> str:
        """The service's address."""
        return self.url

    @property
    def relay_directory(self) -> Path:
        """Where the relay before this service keeps its files."""
        name = hashlib.sha256(self.service_id.encode()).hexdigest()[:_NAME_DIGITS]
        return self.state_dir.expanduser().resolve() / RELAY_DIRECTORY / name

    @property
    def relay_spec(self) -> ResponderSpec:
        """Who answers, for the relay."""
        dated = self.dated_version
        query = self.api_query or {}
        version = dated or query.get("api-version")
        return ResponderSpec(
            name="relay",
            relay=RelayOptions(
                base_url=f"{self.url}/openai" if dated else f"{self.url}{self._api_path}",
                api_version=str(version) if version else None,
                by_deployment=dated is not None,
                request_id_header=self.facts.request_id_header,
                timeout=self.timeout,
            ),
        )

    @property
    def _api_path(self) -> str:
        return self.facts.api_path.rstrip("/")

    @property
    def key(self) -> str:
        """The key itself, or an empty text."""
        return self.api_key.get_secret_value() if self.api_key else ""

    def _check_key(self, problem: str, *, fix: str) -> None:
        """Refuse a key that is missing, with problem and fix as given, or cannot be one."""
        if not self.key:
            raise ConfigurationError(problem, fix=fix)
        if not VISIBLE_ASCII.fullmatch(self.key):
            raise ConfigurationError(
                "`api_key` holds a space, a line break or a character that no key has",
                fix="copy the key again, alone and on one line",
            )
