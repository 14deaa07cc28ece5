"""The profile's keys of Microsoft Entra ID: who signs in, and where. Loads no Azure package."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from dbt_enrich.config.keys import Keys
from dbt_enrich.config.place import PROFILE, Place
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.extras import AZURE, Extra, require
from dbt_enrich.wording import near_match

COGNITIVE_SERVICES_SCOPE: Final = "https://cognitiveservices.azure.com/.default"
"""What a token is asked for, in Azure's public cloud."""


class CredentialKind(StrEnum):
    """The ways of signing in that can be named, each a credential of `azure-identity`."""

    DEFAULT = "default"
    ENVIRONMENT = "environment"
    MANAGED_IDENTITY = "managed_identity"
    WORKLOAD_IDENTITY = "workload_identity"
    AZURE_CLI = "azure_cli"
    SERVICE_PRINCIPAL = "service_principal"


_NEEDED: Final[Mapping[str, str]] = {
    "tenant_id": "AZURE_TENANT_ID",
    "client_id": "AZURE_CLIENT_ID",
    "client_secret": "AZURE_CLIENT_SECRET",
}
# The keys that a kind reads, beside `scope`. A managed identity knows its own tenant and
# authority; the Azure CLI has its authority from `az cloud set`.
_TAKEN: Final[Mapping[CredentialKind, tuple[str, ...]]] = {
    CredentialKind.DEFAULT: ("client_id", "authority_host"),
    CredentialKind.ENVIRONMENT: ("authority_host",),
    CredentialKind.MANAGED_IDENTITY: ("client_id",),
    CredentialKind.WORKLOAD_IDENTITY: ("tenant_id", "client_id", "authority_host"),
    CredentialKind.AZURE_CLI: ("tenant_id",),
    CredentialKind.SERVICE_PRINCIPAL: (*_NEEDED, "authority_host"),
}


class EntraKeys(Keys):
    """How to get a token of Microsoft Entra ID.

    Attributes:
        credential: Which credential of `azure-identity` signs in, in place of `api_key`; one of
            `CredentialKind`.
        tenant_id: The directory in which it signs in, by its id or domain.
        client_id: The application, or the user-assigned managed identity, that signs in.
        client_secret: `service_principal`: the application's secret.
        authority_host: The host that gives tokens, such as `login.microsoftonline.us`; by default
            the public cloud's, or what the environment variable AZURE_AUTHORITY_HOST names.
        scope: What the token is for (default: Azure's public cloud's Cognitive Services).
        place: Where these keys are written.
    """

    credential: str | None = None
    tenant_id: str | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    authority_host: str | None = None
    scope: str | None = None
    place: Place = PROFILE

    @property
    def kind(self) -> CredentialKind:
        """Which credential of `azure-identity` signs in.

        Raises:
            ConfigurationError: There is none of that name.
        """
        known = [str(kind) for kind in CredentialKind]
        if self.credential in known:
            return CredentialKind(self.credential)
        meant = near_match(str(self.credential), known)
        raise ConfigurationError(
            f"The `credential` {str(self.credential)!r} is not known",
            fix=f"{f'{meant} Else ' if meant else ''}write one of {', '.join(known)} in "
            f"{self.place.name}",
        )

    @property
    def authority(self) -> str | None:
        """The address of the host that gives tokens, or None for the usual one.

        Raises:
            ConfigurationError: It is no host.
        """
        return _checked_host(self.authority_host) if self.authority_host else None

    @property
    def token_scope(self) -> str:
        """What a token is asked for."""
        return self.scope or COGNITIVE_SERVICES_SCOPE

    def check_credential(self) -> None:
        """Refuse a credential that cannot work.

        Raises:
            ConfigurationError: A value is missing, has no use or cannot work.
        """
        if self.credential is None:
            self._refuse_keys_alone()
            return
        self._refuse_idle_keys()
        if self.kind is CredentialKind.SERVICE_PRINCIPAL:
            self._demand_all()
        _ = self.authority
        scope = self.token_scope
        if not scope.startswith("https://") or not scope.endswith("/.default"):
            raise ConfigurationError(
                f"The `scope` {scope!r} is not one that an identity can ask for as a whole",
                fix=f"write it like {COGNITIVE_SERVICES_SCOPE}, or leave it out",
            )

    @property
    def extra(self) -> Extra | None:
        """The extra of this package that signs in, or None."""
        return AZURE if self.credential else None

    def check_installed(self) -> None:
        """Refuse to sign in without the package that does; loads nothing of it.

        Raises:
            ConfigurationError: It is not installed.
        """
        if self.extra:
            require(self.extra, f"`credential: {self.kind}`")

    def _refuse_keys_alone(self) -> None:
        for key in EntraKeys.model_fields:
            if key != "place" and getattr(self, key) is not None:
                raise ConfigurationError(
                    f"`{key}` is of no use without `credential`",
                    fix="write `credential: service_principal`, or another way to sign in with "
                    f"Microsoft Entra ID, in {self.place.name}, or take it out",
                )

    def _refuse_idle_keys(self) -> None:
        taken = _TAKEN[self.kind]
        for name in ("tenant_id", "client_id", "client_secret", "authority_host"):
            if getattr(self, name) is not None and name not in taken:
                raise ConfigurationError(
                    f"`{name}` is of no use to `credential: {self.kind}`, which takes "
                    f"{' and '.join(f'`{key}`' for key in taken)}",
                    fix=f"take it out of {self.place.name}, or change `credential`",
                )

    def _demand_all(self) -> None:
        for name, variable in _NEEDED.items():
            if getattr(self, name) is None:
                raise ConfigurationError(
                    f"`credential: {self.kind}` needs `{name}`, and it is missing or empty",
                    fix=f"write {self.place.variable(variable)} in {self.place.name} and set "
                    f"{variable}",
                )


def _checked_host(text: str) -> str:
    """The authority as an address without a path. Never quoted: it may hold a password."""
    url = text if "://" in text else f"https://{text}"
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        parts, port = urlsplit(""), ""
    plain = parts.path in ("", "/") and not parts.query and not parts.fragment
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc or not plain:
        raise ConfigurationError(
            "`authority_host` is not a host that gives tokens",
            fix="write its name alone, such as login.microsoftonline.us, and the tenant as "
            "`tenant_id`",
        )
    return f"https://{parts.hostname}{port}"
