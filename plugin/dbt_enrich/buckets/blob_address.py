"""The addresses of blobs in a container at Azure, as other services are given them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlsplit

from batch_server.loopback import is_loopback

from dbt_enrich.config.bucket_address import BucketAddress
from dbt_enrich.errors import ConfigurationError

# What the environment may name an account and its address by, as obstore reads them.
_ACCOUNT = "AZURE_STORAGE_ACCOUNT_NAME"
_ENDPOINTS = ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")


def is_blob(file_id: str) -> bool:
    """Whether what names a batch's file is the address of a blob, and no id of the service's."""
    return file_id.startswith(("https://", "http://"))


class BlobAddresses:
    """The addresses of the blobs of a container.

    Args:
        address: The container; its prefix plays no part.
        environment: Names the account; the process's own by default.

    Raises:
        ConfigurationError: It does not, or by an address that no service can use.
    """

    def __init__(self, address: BucketAddress, environment: Mapping[str, str] = os.environ) -> None:
        self.base = f"{_account_url(environment)}/{quote(address.bucket)}"
        self._place = _place(self.base)

    def url(self, key: str) -> str:
        """Return the address of a blob by its key in the container."""
        return f"{self.base}/{quote(key)}"

    def key(self, url: str) -> str | None:
        """Return the key of a blob in the container, or None for one that is elsewhere."""
        host, path = _place(url)
        own_host, own_path = self._place
        if host != own_host or not path.startswith(f"{own_path}/"):
            return None
        return path.removeprefix(f"{own_path}/") or None


def _place(url: str) -> tuple[str, str]:
    """Return what of an address tells blobs apart, however it is spelled."""
    parts = urlsplit(url)
    return parts.netloc.lower().removesuffix(":443"), unquote(parts.path)


def _account_url(environment: Mapping[str, str]) -> str:
    endpoint = next((environment[name].strip() for name in _ENDPOINTS if environment.get(name)), "")
    if endpoint:
        parts = urlsplit(endpoint)
        if parts.scheme != "https" and not is_loopback(parts.hostname):
            raise ConfigurationError(
                "batch_input: blob has the service read blobs by https, and AZURE_STORAGE_ENDPOINT "
                "does not begin with https://",
                fix="correct it, or take it out of the environment for the account's usual address",
            )
        return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    account = environment.get(_ACCOUNT, "").strip()
    if not account:
        raise ConfigurationError(
            "batch_input: blob tells the service the addresses of blobs, and the environment does "
            "not name the storage account",
            fix="set AZURE_STORAGE_ACCOUNT_NAME",
        )
    return f"https://{account}.blob.core.windows.net"
