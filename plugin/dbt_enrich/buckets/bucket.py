"""A bucket: objects by name, written once; its troubles waited for, and named with their fix.

Credentials are what the environment has (AZURE_STORAGE_*, AWS_*, GOOGLE_*) or what the machine may,
by the chain of obstore. None of them is ever in a message.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dbt_enrich.backoff import Backoff
from dbt_enrich.clock import MACHINE_CLOCK, Clock
from dbt_enrich.config.bucket_address import BucketAddress, BucketScheme
from dbt_enrich.errors import ConfigurationError, LedgerError
from dbt_enrich.files import sync, writing

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

_T = TypeVar("_T")

# How often a call is tried, with pauses that add up to 16 seconds, beside obstore's own tries.
_TRIES = 6
_PAUSES = (0.5, 8.0)
# What is larger is sent in parts, as a single call holds all of it in memory.
_WHOLE_BYTES = 67_108_864
# A call has a minute to bring so much, also on a slow line.
_RANGE_BYTES = 8_388_608
# Parts of a large file that are on their way at once, for the same reason.
_PARTS_AT_ONCE = 4
_CHUNK = 1_048_576
# Words in what a store replies where the bucket itself is not there.
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "bucket does not exist")
# Words where obstore finds nothing to sign with.
_NO_CREDENTIAL = ("credential", "token request", "169.254.169.254", "metadata", "unauthorized")
# What may follow an address in an error: signatures are there.
_QUERY = re.compile(r"\?[^\s\"')]*")

# Where the environment names another endpoint than the cloud's own.
_ENDPOINTS = (
    "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT",
    "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "GOOGLE_BASE_URL",
)  # fmt: skip

CREDENTIALS: Final = {
    BucketScheme.AZURE: "AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY, "
    "AZURE_STORAGE_SAS_TOKEN, a service principal (AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, "
    "AZURE_TENANT_ID) or the machine's managed identity",
    BucketScheme.S3: "AWS_REGION, and AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY or the "
    "machine's role",
    BucketScheme.GOOGLE: "GOOGLE_SERVICE_ACCOUNT (the path of its key file), or the machine's "
    "service account",
    BucketScheme.DIRECTORY: "the rights of the user that runs dbt",
}
"""Where the credentials for each scheme come from."""

RIGHTS: Final = {
    BucketScheme.AZURE: "the role Storage Blob Data Contributor on the container",
    BucketScheme.S3: "s3:GetObject, s3:PutObject and s3:DeleteObject on its objects, and "
    "s3:ListBucket on the bucket",
    BucketScheme.GOOGLE: "the role Storage Object User on the bucket",
    BucketScheme.DIRECTORY: "the right to read and write the directory",
}
"""What a runner needs for each scheme."""

UNTRIED: Final = {
    BucketScheme.GOOGLE: "no run of ours has been against Google Cloud Storage: its client's "
    "requests were tried against a server of S3",
}
"""What is to be known of a scheme that was never tried against a store of its kind."""


@dataclass(frozen=True)
class StoredObject:
    """An object of a bucket, as a listing has it.

    Attributes:
        key: Its name, below the prefix.
        size: Its bytes.
        modified: When it was written, by the bucket's own clock.
    """

    key: str
    size: int
    modified: datetime


class ObjectGoneError(LedgerError):
    """There is no object of a name."""


class BucketAwayError(LedgerError):
    """A bucket does not answer as it should, after all tries; it may later."""


class _TornError(Exception):
    """What came, or what was stored, is not what was sent."""


class Bucket:
    """The objects below an address. May be used from several threads.

    Args:
        address: Where they are.
        clock: The time, for the pauses between tries.
        whole_bytes: How large a file may be that is sent by one call.
        range_bytes: How much of a large object one call brings.

    Raises:
        ConfigurationError: The environment does not say whose bucket it is.
    """

    def __init__(
        self,
        address: BucketAddress,
        *,
        clock: Clock = MACHINE_CLOCK,
        whole_bytes: int = _WHOLE_BYTES,
        range_bytes: int = _RANGE_BYTES,
    ) -> None:
        self.address = address
        self._whole_bytes = whole_bytes
        self._range_bytes = range_bytes
        self._clock = clock
        self._stopped = threading.Event()
        self._store = _opened(address)

    def __repr__(self) -> str:
        return f"Bucket({self.address})"

    def put(self, key: str, path: Path, *, is_same: bool = True) -> None:
        """Write an object of a file, if there is none of its name.

        Args:
            key: Its name.
            path: The file.
            is_same: Whether one that is there can only be the same.

        Raises:
            LedgerError: It cannot be written.
        """
        self._tried(f"{key} cannot be written to", lambda: self._put(key, path, is_same=is_same))

    def put_new(self, key: str, content: bytes) -> bool:
        """Write a small object, and say whether there was none of its name.

        Raises:
            LedgerError: It cannot be written.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        def put() -> bool:
            try:
                obstore.put(self._store, key, content, mode="create")
            except AlreadyExistsError:
                return False
            return True

        return self._tried(f"{key} cannot be written to", put)

    def replace(self, key: str, content: bytes) -> None:
        """Write a small object in place of the one of its name.

        Raises:
            LedgerError: It cannot be written.
        """
        import obstore

        def put() -> None:
            obstore.put(self._store, key, content, mode="overwrite")

        self._tried(f"{key} cannot be written to", put)

    def get(self, key: str, target: Path, is_whole: Callable[[Path], bool]) -> int:
        """Read an object into a file, as often as it takes for all of it to come.

        Args:
            key: Its name.
            target: The file, which is replaced.
            is_whole: Says of the file whether it is what was written.

        Returns:
            Its bytes.

        Raises:
            ObjectGoneError: There is none of that name.
            LedgerError: It cannot be read.
        """
        return self._tried(f"{key} cannot be read from", lambda: self._get(key, target, is_whole))

    def content(self, key: str) -> bytes:
        """Return a small object.

        Raises:
            ObjectGoneError: There is none of that name.
            LedgerError: It cannot be read.
        """
        import obstore

        def get() -> bytes:
            return bytes(obstore.get(self._store, key).bytes())

        return self._tried(f"{key} cannot be read from", get)

    def chunks(self, key: str) -> Iterator[bytes]:
        """Yield an object of any size piece by piece, each brought by calls of its own.

        Raises:
            ObjectGoneError: There is none of that name.
            LedgerError: It cannot be read, or changes meanwhile.
        """
        import obstore
        from obstore.exceptions import PreconditionError

        problem = f"{key} cannot be read from"
        meta = self._tried(problem, lambda: obstore.head(self._store, key))
        version = meta["e_tag"]

        def piece(start: int, end: int) -> bytes:
            try:
                options: GetOptions = {"range": (start, end), "if_match": version}
                came = bytes(obstore.get(self._store, key, options=options).bytes())
            except PreconditionError as error:
                raise self._failed(problem, _TornError("it was changed while it came")) from error
            if len(came) != end - start:
                raise _TornError(f"{len(came):,} of {end - start:,} bytes came")
            return came

        for start in range(0, meta["size"], self._range_bytes):
            end = min(start + self._range_bytes, meta["size"])
            yield self._tried(problem, partial(piece, start, end))

    def find(self, key: str) -> StoredObject | None:
        """Return what a bucket says of an object, or None where there is none of that name.

        Raises:
            LedgerError: It cannot be asked.
        """
        import obstore

        def head() -> StoredObject:
            return _stored(obstore.head(self._store, key))

        with suppress(ObjectGoneError):
            return self._tried(f"{key} cannot be looked up in", head)
        return None

    def list(self, folder: str) -> Iterator[StoredObject]:
        """Yield the objects of a folder.

        Raises:
            LedgerError: They cannot be listed.
        """
        import obstore

        def listed() -> list[StoredObject]:
            chunks = obstore.list(self._store, prefix=folder)
            return [_stored(found) for chunk in chunks for found in chunk]

        yield from self._tried(f"the folder {folder} cannot be listed in", listed)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is gone already is none.

        Raises:
            LedgerError: One cannot be deleted.
        """
        import obstore

        for key in keys:
            with suppress(ObjectGoneError):
                self._tried(
                    f"{key} cannot be deleted from", partial(obstore.delete, self._store, key)
                )

    def _put(self, key: str, path: Path, *, is_same: bool) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        size = path.stat().st_size
        if size > self._whole_bytes and is_same:
            # What is named by its content may take the place of itself.
            obstore.put(self._store, key, path, use_multipart=True, max_concurrency=_PARTS_AT_ONCE)
        else:
            with suppress(AlreadyExistsError):
                obstore.put(self._store, key, path, mode="create")
        if is_same and obstore.head(self._store, key)["size"] != size:
            raise _TornError(f"it has not the {size:,} bytes that were sent")
        if self.address.scheme is BucketScheme.DIRECTORY:
            written = Path(self.address.prefix) / key
            sync(written)
            sync(written.parent)

    def _get(self, key: str, target: Path, is_whole: Callable[[Path], bool]) -> int:
        import obstore

        result = obstore.get(self._store, key)
        size = result.meta["size"]
        came = 0
        with writing(target), target.open("wb") as file:
            for chunk in result.stream(min_chunk_size=_CHUNK):
                came += file.write(chunk)
        if came != size:
            raise _TornError(f"{came:,} of its {size:,} bytes came")
        if not is_whole(target):
            raise _TornError(f"its {size:,} bytes are not those that were stored")
        return came

    def _tried(self, problem: str, call: Callable[[], _T]) -> _T:
        """Call until it succeeds, or until it is of no use.

        Args:
            problem: What it is that fails, as the beginning of a sentence that ends with the place.
            call: The call.
        """
        from obstore import exceptions as theirs

        pauses = Backoff(*_PAUSES)
        for left in range(_TRIES - 1, -1, -1):
            try:
                return call()
            except FileNotFoundError as error:
                raise self._not_found(problem, error) from error
            except (theirs.PermissionDeniedError, theirs.UnauthenticatedError) as error:
                raise self._refused(problem, error) from error
            except (theirs.BaseError, _TornError) as error:
                if isinstance(error, theirs.NotSupportedError) or not left:
                    raise self._failed(problem, error) from error
            self._clock.wait(self._stopped, pauses.pause())
        raise AssertionError("the last try raises or returns")

    def _not_found(self, problem: str, error: Exception) -> LedgerError:
        said = str(error)
        if any(word in said for word in _NO_BUCKET):
            return LedgerError(
                f"{problem} {self.address}: there is no such bucket or container",
                fix="make it, or correct the address `state.files`",
            )
        return ObjectGoneError(f"{problem} {self.address}: it is not there")

    def _refused(self, problem: str, error: Exception) -> LedgerError:
        scheme = self.address.scheme
        return LedgerError(
            f"{problem} {self.address}: it is refused ({_said(error)})",
            fix=f"give the runner {RIGHTS[scheme]}; its credentials are {CREDENTIALS[scheme]}",
        )

    def _failed(self, problem: str, error: Exception) -> LedgerError:
        said = _said(error)
        if isinstance(error, _TornError):
            return LedgerError(
                f"{problem} {self.address} whole: {said}",
                fix="bring the file back from an earlier version or a backup; if it was changed "
                "there by hand or by another program, keep that from it",
            )
        if any(word in said.lower() for word in _NO_CREDENTIAL):
            return self._refused(problem, error)
        return BucketAwayError(
            f"{problem} {self.address} ({said})",
            fix="see that the bucket can be reached from here, then run again: nothing is lost",
        )


def _stored(meta: Any) -> StoredObject:
    return StoredObject(meta["path"], meta["size"], meta["last_modified"])


def _said(error: Exception) -> str:
    """Return what a store said, in one line, without what may be a signature."""
    lines = str(error).strip().splitlines()
    return _QUERY.sub("?…", lines[0] if lines else type(error).__name__)[:300]


def _opened(address: BucketAddress) -> ObjectStore:
    """Open a bucket, which asks nothing of it."""
    from obstore import store
    from obstore.exceptions import BaseError

    client: ClientConfig = {"timeout": timedelta(seconds=60)}
    if _is_plain_http():
        client["allow_http"] = True
    # The pauses between tries are ours.
    retries: RetryConfig = {"max_retries": 1, "retry_timeout": timedelta(seconds=30)}
    prefix = address.prefix or None
    try:
        match address.scheme:
            case BucketScheme.AZURE:
                return store.AzureStore(
                    address.bucket, prefix=prefix, client_options=client, retry_config=retries
                )
            case BucketScheme.S3:
                return store.S3Store(
                    address.bucket, prefix=prefix, client_options=client, retry_config=retries
                )
            case BucketScheme.GOOGLE:
                return store.GCSStore(
                    address.bucket, prefix=prefix, client_options=client, retry_config=retries
                )
            case BucketScheme.DIRECTORY:
                with writing(Path(address.prefix)):
                    Path(address.prefix).mkdir(parents=True, exist_ok=True, mode=0o700)
                return store.LocalStore(address.prefix)
    except BaseError as error:
        raise ConfigurationError(
            f"the bucket {address} cannot be opened ({_said(error)})",
            fix=f"set in the environment {CREDENTIALS[address.scheme]}",
        ) from error


def _is_plain_http() -> bool:
    """Whether the environment names an endpoint without TLS, as emulators have it."""
    return any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
