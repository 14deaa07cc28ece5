"""The HTTP client library that the `openai` package brings along: `from … import httpx`.

The package moved from httpx to httpx2 in its third major version, and an installation has the one
that its `openai` was built on. Both have the names that are used here, so that dbt-enrich needs
no library of its own.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx2 as httpx
else:
    try:
        import httpx2 as httpx
    except ModuleNotFoundError:
        import httpx

__all__ = ["httpx", "loopback_client"]


def loopback_client(**options: Any) -> httpx.Client:
    """Return a client for plain HTTP on this machine: without proxies and without certificates.

    To load the certificates takes longer than the calls.

    Args:
        options: Those of `httpx.Client`.
    """
    trusts_none = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.Client(trust_env=False, verify=trusts_none, **options)
