"""Who signs in to Microsoft Entra ID, and where. Checked when built; loads no Azure package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from dbt_enrich.config.secret import Secret
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.extras import AZURE, require
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


# The keys that a kind reads, beside `scope`. A managed identity knows its own tenant and
# authority; the Azure CLI has its authority from `az cloud set`.
_TAKEN: Final[Mapping[CredentialKind, tuple[str, ...]]] = {
    CredentialKind.DEFAULT: ("client_id", "authority_host"),
    CredentialKind.ENVIRONMENT: ("authority_host",),
    CredentialKind.MANAGED_IDENTITY: ("client_id",),
    CredentialKind.WORKLOAD_IDENTITY: ("tenant_id", "client_id", "authority_host"),
    CredentialKind.AZURE_CLI: ("tenant_id",),
    CredentialKind.SERVICE_PRINCIPAL: (
        "tenant_id",
        "client_id",
        "client_secret",
        "authority_host",
    ),
}
_NEEDED: Final[Mapping[str, str]] = {
    "tenant_id": "AZURE_TENANT_ID",
    "client_id": "AZURE_CLIENT_ID",
    "client_secret": "AZURE_CLIENT_SECRET",
}


@dataclass(frozen=True)
class CredentialSettings:
    """How to get a token of Microsoft Entra ID. Refuses what cannot work when it is built.

    Attributes:
        kind: Which credential of `azure-identity` signs in.
        tenant_id: The directory's id or domain.
        client_id: The application's id; for a managed identity that of a user-assigned one.
        client_secret: The application's secret. Never shown.
        authority_host: The host that gives tokens, such as `login.microsoftonline.us`; None: the
            public cloud's, or what the environment variable AZURE_AUTHORITY_HOST names.
        scope: What the token is for.

    Raises:
        ConfigurationError: A value is missing, has no use or cannot work; the text names the key.
    """

    kind: CredentialKind
    tenant_id: str | None = None
    client_id: str | None = None
    client_secret: Secret | None = None
    authority_host: str | None = None
    scope: str = COGNITIVE_SERVICES_SCOPE

    def __post_init__(self) -> None:
        if self.kind not in tuple(CredentialKind):
            known = [str(kind) for kind in CredentialKind]
            meant = near_match(str(self.kind), known)
            raise ConfigurationError(
                f"The `credential` {str(self.kind)!r} is not known",
                fix=f"{f'{meant} Else ' if meant else ''}write one of {', '.join(known)} in the "
                "profile",
            )
        self._set("kind", CredentialKind(self.kind))
        self._normalise()
        self._refuse_idle_keys()
        if self.kind is CredentialKind.SERVICE_PRINCIPAL:
            self._demand_all()
        if self.authority_host is not None:
            self._set("authority_host", _checked_host(self.authority_host))
        if not self.scope.startswith("https://") or not self.scope.endswith("/.default"):
            raise ConfigurationError(
                f"The `scope` {self.scope!r} is not one that an identity can ask for as a whole",
                fix=f"write it like {COGNITIVE_SERVICES_SCOPE}, or leave it out",
            )

    def check_installed(self) -> None:
        """Refuse to sign in without the package that does; loads nothing of it.

        Raises:
            ConfigurationError: It is not installed.
        """
        require(AZURE, f"`credential: {self.kind}`")

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _normalise(self) -> None:
        """Take an empty text, which an unset environment variable leaves, for no value."""
        for name in ("tenant_id", "client_id", "authority_host"):
            value = getattr(self, name)
            self._set(name, (str(value).strip() or None) if value is not None else None)
        self._set("scope", (self.scope or "").strip() or COGNITIVE_SERVICES_SCOPE)
        if self.client_secret is not None:
            text = self.client_secret.reveal().strip()
            self._set("client_secret", Secret(text) if text else None)

    def _refuse_idle_keys(self) -> None:
        taken = _TAKEN[self.kind]
        for name in ("tenant_id", "client_id", "client_secret", "authority_host"):
            if getattr(self, name) is not None and name not in taken:
                raise ConfigurationError(
                    f"`{name}` is of no use to `credential: {self.kind}`, which takes "
                    f"{' and '.join(f'`{key}`' for key in taken)}",
                    fix="take it out of the profile, or change `credential`",
                )

    def _demand_all(self) -> None:
        for name, variable in _NEEDED.items():
            if getattr(self, name) is None:
                raise ConfigurationError(
                    f"`credential: {self.kind}` needs `{name}`, and it is missing or empty",
                    fix=f"write \"{{{{ env_var('{variable}') }}}}\" in the profile and set "
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
