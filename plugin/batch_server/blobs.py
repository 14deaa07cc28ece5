"""Blobs that a resource's identity reads and writes for batches, in an account that is there.

The credentials are what the environment has, by the chain of obstore: AZURE_STORAGE_ACCOUNT_NAME
with AZURE_STORAGE_ACCOUNT_KEY, and AZURE_STORAGE_ENDPOINT for Azurite.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from batch_server.extras import REMOTE

if TYPE_CHECKING:
    from obstore.store import AzureStore

_T = TypeVar("_T")
_CHUNK = 1_048_576
# A caller waits for its batch to be created meanwhile.
_PATIENCE: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=15)}


class BlobRefusedError(PermissionError):
    """A blob is not there, or the resource's identity may not read or write it."""


class Blobs:
    """The blobs of a storage account.

    Args:
        environment: Names the account and its address; the process's own by default.

    Attributes:
        may_read: Whether the resource's identity may read them.
        may_write: Whether it may write them.

    Raises:
        SetupError: obstore is not installed.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        REMOTE.require("a batch server that reads and writes blobs", besides=("psycopg",))
        account = environment.get("AZURE_STORAGE_ACCOUNT_NAME", "")
        usual = f"https://{account}.blob.core.windows.net"
        self._endpoint = environment.get("AZURE_STORAGE_ENDPOINT", usual).rstrip("/")
        self.may_read = self.may_write = True

    def version(self, url: str) -> str:
        """Return what tells the content of a blob from any other that it had.

        Raises:
            BlobRefusedError: It cannot be read.
        """
        import obstore

        store, key = self._found(url, may=self.may_read)
        return _refusing(lambda: str(obstore.head(store, key)["e_tag"]))

    def read(self, url: str, target: Path) -> str:
        """Copy a blob into a file; return its version.

        Raises:
            BlobRefusedError: It cannot be read.
        """
        import obstore

        store, key = self._found(url, may=self.may_read)

        def read() -> str:
            result = obstore.get(store, key)
            with target.open("wb") as file:
                for chunk in result.stream(min_chunk_size=_CHUNK):
                    file.write(chunk)
            return str(result.meta["e_tag"])

        return _refusing(read)

    def write(self, url: str, source: Path) -> None:
        """Copy a file into a blob.

        Raises:
            BlobRefusedError: It cannot be written.
        """
        import obstore

        store, key = self._found(url, may=self.may_write)
        _refusing(lambda: obstore.put(store, key, source))

    def _found(self, url: str, *, may: bool) -> tuple[AzureStore, str]:
        """Return the container of a blob, and its name there."""
        from obstore.store import AzureStore

        path = unquote(url.removeprefix(f"{self._endpoint}/"))
        container, _, key = path.partition("/")
        if not may or not key or not url.startswith(f"{self._endpoint}/"):
            raise BlobRefusedError(url)
        client: Any = {"allow_http": self._endpoint.startswith("http://")}
        return AzureStore(container, client_options=client, retry_config=_PATIENCE), key


def _refusing(call: Callable[[], _T]) -> _T:
    from obstore.exceptions import BaseError

    try:
        return call()
    except (BaseError, FileNotFoundError) as error:
        raise BlobRefusedError(str(error)) from error
