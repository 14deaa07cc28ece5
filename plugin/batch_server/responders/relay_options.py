"""Which service a relay stands before. Imports no HTTP client, and holds no key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final
from urllib.parse import urlsplit

from batch_server.loopback import is_loopback

# Of Azure's dated versions, what is asked under the deployment's own path.
_OF_DEPLOYMENTS: Final = ("/chat/completions", "/completions", "/embeddings")


@dataclass(frozen=True)
class RelayOptions:
    """A service that answers single requests.

    Attributes:
        base_url: Its address up to the paths of its endpoints, without a slash at its end: of
            Azure's dated versions up to `/openai`.
        api_version: What every call has as `api-version`, or None.
        by_deployment: Whether a deployment is part of the path, as in Azure's dated versions.
        request_id_header: The header that carries a request's id, or empty for none.
        timeout: Seconds that a connection may stay silent before a request is given up.
    """

    base_url: str
    api_version: str | None = None
    by_deployment: bool = False
    request_id_header: str = ""
    timeout: float = 300.0

    @property
    def host(self) -> str:
        """The service's host, with the port where one is given."""
        return urlsplit(self.base_url).netloc

    @property
    def trusts_environment(self) -> bool:
        """Whether a proxy that the environment names may be used: not to reach this machine."""
        return not is_loopback(urlsplit(self.base_url).hostname)

    def url(self, path: str, deployment: str) -> str:
        """Return the address that answers one request.

        Args:
            path: The endpoint's, such as `/chat/completions`.
            deployment: What is asked.
        """
        of_one = self.by_deployment and path in _OF_DEPLOYMENTS
        within = f"/deployments/{deployment}{path}" if of_one else path
        version = f"?api-version={self.api_version}" if self.api_version else ""
        return f"{self.base_url}{within}{version}"

    def arguments(self) -> Iterator[str]:
        """Yield the options as arguments of the emulator's command line."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                yield f"--relay-{field.name.replace('_', '-')}={value}"
