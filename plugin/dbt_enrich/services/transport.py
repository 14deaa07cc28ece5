"""The HTTP side of the `openai` package: its client, built so that a key goes to one host only.

The same holds for a token of Microsoft Entra ID. It is asked for where each request is sent, the
client's own repetitions included, so that it is fresh in all versions of the `openai` package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import openai
from batch_server.loopback import is_loopback

from dbt_enrich.config.remote import RemoteConfig
from dbt_enrich.services.entra import SignIn

_CONNECT_SECONDS: Final = 15.0
# The client wants a key before it sends anything; this one never leaves the process.
_NO_KEY: Final = "signed-in-with-a-token"
_PORTS: Final = {"http": 80, "https": 443}


def build_client(settings: RemoteConfig, sign_in: SignIn | None = None) -> openai.OpenAI:
    """Return the `openai` client for `settings`: Azure classic, Azure v1 or OpenAI.

    Args:
        settings: The plugin's configuration.
        sign_in: Gives the token that is sent in place of a key.
    """
    key = settings.key or _NO_KEY
    http_client = openai.DefaultHttpxClient(
        timeout=openai.Timeout(settings.timeout, connect=min(settings.timeout, _CONNECT_SECONDS)),
        event_hooks={"request": [_credentials(settings, key, sign_in)]},
        mounts=_without_proxy(settings.url),
    )
    common: dict[str, Any] = {
        "api_key": key,
        "timeout": http_client.timeout,
        "max_retries": settings.max_retries,
        "http_client": http_client,
    }
    if settings.dated_version:
        return openai.AzureOpenAI(
            azure_endpoint=settings.url, api_version=settings.dated_version, **common
        )
    return openai.OpenAI(
        base_url=f"{settings.url}{settings.facts.api_path}",
        default_query=settings.api_query,
        **common,
    )


def _credentials(settings: RemoteConfig, key: str, sign_in: SignIn | None) -> Callable[[Any], None]:
    """A hook that runs before each request, redirected ones included, and sets its credentials.

    A redirect may lead to another host (a download to a storage account); the client would
    take the header `api-key` there with it.
    """
    facts, parts = settings.facts, urlsplit(settings.url)
    home = (parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme))

    def credentials() -> tuple[str, str]:
        if sign_in is not None:
            return "Authorization", f"Bearer {sign_in.token()}"
        return facts.key_header, f"{facts.key_prefix}{key}"

    def authorise(request: Any) -> None:
        url = request.url
        for name in ("api-key", "Authorization"):
            request.headers.pop(name, None)
        if (url.scheme, url.host, url.port or _PORTS.get(url.scheme)) == home:
            header, value = credentials()
            request.headers[header] = value

    return authorise


def _without_proxy(url: str) -> dict[str, None] | None:
    """Keep requests to this machine away from a proxy that the environment names."""
    host = urlsplit(url).hostname
    if not is_loopback(host):
        return None
    return {f"all://[{host}]" if host and ":" in host else f"all://{host}": None}
