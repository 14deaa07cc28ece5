"""Signing in with Microsoft Entra ID through `azure-identity`, which is loaded only when used.

What was read in the sources of azure-identity 1.27, azure-core 1.41 and MSAL 1.39: the bearer
token provider keeps a token until 300 s before its end and then asks the credential, which has a
cache of its own that cannot be emptied; a connection that failed and a 5xx of the token endpoint
come as a `ClientAuthenticationError`, with the reason as its cause.
"""

from __future__ import annotations

import re
import ssl
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from dbt_enrich.config.credential import CredentialKind, EntraKeys
from dbt_enrich.config.remote import RemoteConfig
from dbt_enrich.errors import AuthenticationError, ConfigurationError, ServiceError, TransientError
from dbt_enrich.services.failures import Failures, Operation, causes

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

ROLE: Final = "Cognitive Services OpenAI Contributor"
"""The built-in role that may write files and batches; `Cognitive Services OpenAI User` reads."""

_CONNECT_SECONDS: Final = 15.0
_READ_SECONDS: Final = 60.0
# The `az` command takes longer than azure-identity's ten seconds on a busy machine.
_COMMAND_SECONDS: Final = 30
_REMEMBERED_TOKENS: Final = 8
_TOKEN_SHAPED: Final = re.compile(r"\beyJ[\w-]{8,}(\.[\w-]*)*")
# MSAL tells of a 5xx in words only, and a chain of credentials of any failure within it. The codes
# stand for trouble of Microsoft Entra ID's own.
_PASSING: Final = re.compile(
    r"HTTP Error: (429|5\d\d)|temporarily_unavailable|AADSTS(90024|90033)\b"
    r"|Failed to establish a new connection|Read timed out"
)
_LONGEST_REASON: Final = 300
_MENDS: Final[Mapping[CredentialKind, str]] = {
    CredentialKind.DEFAULT: (
        "run `az login`, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or run "
        "where there is a managed identity"
    ),
    CredentialKind.ENVIRONMENT: (
        "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or "
        "AZURE_CLIENT_CERTIFICATE_PATH in place of the secret, to those of an application"
    ),
    CredentialKind.MANAGED_IDENTITY: (
        "assign a managed identity to this machine, and name a user-assigned one by `client_id`"
    ),
    CredentialKind.WORKLOAD_IDENTITY: (
        "check the federated credential of the application, and that AZURE_TENANT_ID, "
        "AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE are set here"
    ),
    CredentialKind.AZURE_CLI: "run `az login` as the user that runs dbt",
    CredentialKind.SERVICE_PRINCIPAL: (
        "check `tenant_id`, `client_id` and `client_secret`: the secret may have expired"
    ),
}


class SignIn:
    """Gives the token of one identity, fresh whenever it is asked for. Nothing else sees it.

    May be used from several threads.

    Args:
        settings: Who signs in, and where.
        timeout: Seconds that the token endpoint may stay silent, at most a minute.
        max_retries: How often azure-identity repeats a request to the token endpoint.

    Raises:
        ConfigurationError: azure-identity is not installed, or refuses the settings.
    """

    def __init__(
        self, settings: EntraKeys, *, timeout: float = _READ_SECONDS, max_retries: int = 3
    ) -> None:
        self._settings = settings
        self._options = {
            "connection_timeout": min(timeout, _CONNECT_SECONDS),
            "read_timeout": min(timeout, _READ_SECONDS),
        }
        self._retries = {"retry_total": max_retries}
        self._lock = threading.RLock()
        self._tokens: deque[str] = deque(maxlen=_REMEMBERED_TOKENS)
        self._current: str | None = None
        self._credential, self._provide = self._begin()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._settings.kind)!r})"

    @property
    def kind(self) -> CredentialKind:
        """The credential's name in the profile."""
        return self._settings.kind

    def token(self) -> str:
        """Return a token that is good now; asks Microsoft Entra ID only if there is none.

        Raises:
            AuthenticationError: The identity could not sign in.
            TransientError: Microsoft Entra ID could not be asked, and it may work later.
        """
        from azure.core.exceptions import AzureError

        with self._lock:
            try:
                token = self._provide()
            except (AzureError, ValueError, OSError) as error:
                failure = self._failure(error)
            else:
                if token != self._current:
                    self._tokens.append(token)
                self._current = token
                return token
        # Outside of the handler, as the error may hold the request with its secret.
        raise failure

    def renew(self, refused: str) -> None:
        """Forget the token that the service refused, so that the next one is another.

        Only a new credential has an empty cache. A token that is not the current one has been
        renewed by another thread already.

        Args:
            refused: The token.
        """
        with self._lock:
            if self._current != refused:
                return
            self._current = None
            _close(self._credential)
            self._credential, self._provide = self._begin()

    def redact(self, text: str) -> str:
        """Take the identity's secret, its last tokens and whatever looks like one out of a text."""
        secret = self._settings.client_secret
        hidden = [*tuple(self._tokens), secret.get_secret_value() if secret else ""]
        for item in filter(None, hidden):
            text = text.replace(item, "***").replace(quote(item, safe=""), "***")
        return _TOKEN_SHAPED.sub("***", text)

    def close(self) -> None:
        """Release the connections to Microsoft Entra ID. May be called twice."""
        with self._lock:
            _close(self._credential)

    def _begin(self) -> tuple[TokenCredential, Callable[[], str]]:
        self._settings.check_installed()
        import azure.identity as identity

        try:
            credential = self._build(identity)
            return credential, identity.get_bearer_token_provider(
                credential, self._settings.token_scope
            )
        except ValueError as error:
            reason = self._reason(error)
        raise ConfigurationError(
            f"Signing in with `credential: {self.kind}` cannot work ({reason})",
            fix=self._mend,
        )

    def _build(self, identity: Any) -> TokenCredential:
        given = self._settings
        options, host = {**self._options}, self._authority(identity)
        credential: TokenCredential
        match given.kind:
            case CredentialKind.DEFAULT:
                named = {"managed_identity_client_id": given.client_id} if given.client_id else {}
                credential = identity.DefaultAzureCredential(
                    process_timeout=_COMMAND_SECONDS, **named, **host, **options
                )
            case CredentialKind.ENVIRONMENT:
                credential = identity.EnvironmentCredential(**host, **options, **self._retries)
            case CredentialKind.MANAGED_IDENTITY:
                # With its own retries, which fit the endpoint of a machine that just started.
                credential = identity.ManagedIdentityCredential(
                    client_id=given.client_id, **options
                )
            case CredentialKind.WORKLOAD_IDENTITY:
                credential = identity.WorkloadIdentityCredential(
                    tenant_id=given.tenant_id,
                    client_id=given.client_id,
                    **host,
                    **options,
                    **self._retries,
                )
            case CredentialKind.AZURE_CLI:
                credential = identity.AzureCliCredential(
                    tenant_id=given.tenant_id or "", process_timeout=_COMMAND_SECONDS
                )
            case CredentialKind.SERVICE_PRINCIPAL:
                credential = identity.ClientSecretCredential(
                    given.tenant_id,
                    given.client_id,
                    given.client_secret.get_secret_value() if given.client_secret else "",
                    **host,
                    **options,
                    **self._retries,
                )
        return credential

    def _authority(self, identity: Any) -> dict[str, Any]:
        host = self._settings.authority
        if host is None:
            return {}
        hosts = identity.AzureAuthorityHosts
        known = {value for name, value in vars(hosts).items() if name.startswith("AZURE_")}
        # Whether a host that Microsoft does not run is genuine, Microsoft cannot tell.
        is_private = host.removeprefix("https://") not in known
        return {"authority": host} | ({"disable_instance_discovery": True} if is_private else {})

    @property
    def _mend(self) -> str:
        return _MENDS[self.kind]

    def _reason(self, error: BaseException) -> str:
        lines = str(error).strip().splitlines()
        reason = lines[0].removeprefix("Authentication failed: ") if lines else ""
        # Redacted before it is cut, as half a secret would not be found.
        return self.redact(reason)[:_LONGEST_REASON].rstrip(" .:") or type(error).__name__

    def _failure(self, error: Exception) -> ServiceError:
        what = f"Signing in with `credential: {self.kind}` failed ({self._reason(error)})"
        if any(_is_untrusted(link) for link in causes(error)):
            return AuthenticationError(
                f"{what}",
                fix="set REQUESTS_CA_BUNDLE to the certificates of your network",
            )
        if _is_passing(error):
            return TransientError(
                f"{what}",
                fix="check the network, then try again",
            )
        # What was there a moment ago comes back, and a user can sign in again during a wait.
        if self._tokens and _is_unavailable(error):
            return TransientError(
                f"{what}",
                fix=f"{self._mend}, then try again",
            )
        return AuthenticationError(
            f"{what}",
            fix=self._mend,
        )


class SignInFailures(Failures):
    """Names the failures of a service that is called with a token. Never shows one.

    Args:
        settings: The plugin's configuration.
        sign_in: Whose token it is.
    """

    def __init__(self, settings: RemoteConfig, sign_in: SignIn) -> None:
        super().__init__(settings)
        self._sign_in = sign_in

    def of(self, operation: Operation, error: Exception) -> ServiceError:
        """Return our error for what the client raised; a failed sign-in within it as it is."""
        for link in causes(error):
            if isinstance(link, ServiceError):
                return link
        return super().of(operation, error)

    def redact(self, text: str) -> str:
        """Take tokens and the identity's secret out of a text that the service wrote."""
        return super().redact(self._sign_in.redact(text))

    def _final_verdict(
        self, operation: Operation, status: int, code: str
    ) -> tuple[type[ServiceError], str]:
        # Azure answers 401, not 403, to an identity that lacks the role.
        if status == 403 or (status == 401 and code == "permissiondenied"):
            return AuthenticationError, (
                f"give the identity of `credential: {self._sign_in.kind}` the role {ROLE} on the "
                "resource, and check that access from this network is allowed there"
            )
        if status == 401:
            return AuthenticationError, (
                f"it refused a fresh token of `credential: {self._sign_in.kind}` as well: check "
                f"that the identity is of the resource's tenant and has the role {ROLE} there, "
                "and that `scope` fits the service"
            )
        return super()._final_verdict(operation, status, code)


def _close(credential: object) -> None:
    close = getattr(credential, "close", None)
    if close is not None:
        close()


def _is_passing(error: Exception) -> bool:
    """Whether the token endpoint could not be reached, or was in trouble of its own."""
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError

    links = list(causes(error))
    statuses = (getattr(link, "status_code", None) or 0 for link in links)
    return (
        any(isinstance(link, ServiceRequestError | ServiceResponseError) for link in links)
        or any(status >= 500 or status == 429 for status in statuses)
        or any(_PASSING.search(str(link)) for link in links)
    )


def _is_unavailable(error: Exception) -> bool:
    from azure.identity import CredentialUnavailableError

    return isinstance(error, CredentialUnavailableError)


def _is_untrusted(error: BaseException) -> bool:
    # requests and urllib3 keep the socket's error only in the text of theirs.
    return isinstance(error, ssl.SSLCertVerificationError) or (
        "CERTIFICATE_VERIFY_FAILED" in str(error)
    )
