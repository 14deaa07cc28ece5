"""Writing a reply's body to a file: all of it under its final name, or nothing."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import logging
import mmap
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from dbt_enrich.backoff import Backoff
from dbt_enrich.errors import LedgerError, TransientError

logger = logging.getLogger(__name__)

_CONTENT_RANGE: Final = re.compile(r"bytes\s+(\d+)-\d*/(\d+|\*)", re.IGNORECASE)


_LONGEST_ASKED_PAUSE: Final = 120.0
# A download that got on by this much starts counting its tries anew.
_PROGRESS_BYTES: Final = 1_000_000


class StreamedReply(Protocol):
    """A reply whose body has not been read yet."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, found whatever their case."""
        ...

    def iter_bytes(self) -> Iterator[bytes]:
        """Yield the body, decoded."""
        ...


class RangeMismatchError(Exception):
    """A partial reply that begins elsewhere than was asked."""


class PartialFile:
    """A file beside its final place, readable by its owner only, that `commit` moves there.

    It is removed when the block ends without `commit`, whatever ends it; what a killed process
    left of the same file is removed by the next one.

    Raises:
        LedgerError: The directory cannot be written or is full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        with _naming(path):
            _sweep(path)
            self._file = os.fdopen(
                os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
            )
            # Held until the file is closed: a part without a holder is left over.
            fcntl.flock(self._file, fcntl.LOCK_EX)
        self.size = 0
        self.total: int | None = None
        self.resumable = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A full disk shows again on close, and would hide the error that says so.
        with contextlib.suppress(OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)

    def rewind(self, size: int) -> None:
        """Keep the first `size` bytes and go on after them."""
        with _naming(self._path):
            self._file.seek(size)
            self._file.truncate()
        self.size = size

    def write(self, chunk: bytes) -> None:
        """Append `chunk`."""
        with _naming(self._path):
            self._file.write(chunk)
        self.size += len(chunk)

    def contains(self, text: bytes) -> bool:
        """Whether what is there so far has `text` in it."""
        if not self.size:
            return False
        with _naming(self._path):
            self._file.flush()
            with (
                self._part.open("rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            ):
                return content.find(text) >= 0

    def commit(self) -> None:
        """Put the file, now safe on the disk, in its final place."""
        with _naming(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._part.replace(self._path)
            directory = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)


def complete(
    part: PartialFile,
    fetch: Callable[[], None],
    *,
    max_retries: int,
    pause: Callable[[float], None],
) -> None:
    """Call `fetch` until it has put all that is missing into `part`.

    Args:
        part: What is there so far.
        fetch: Adds to `part`, and raises a `TransientError` where something is still missing.
        max_retries: How often in a row it may fail without getting on.
        pause: Waits for a number of seconds.

    Raises:
        TransientError: It failed too often; the last failure.
    """
    tries, mark = 0, 0
    backoff = Backoff(first=0.5, longest=8.0)
    while True:
        try:
            fetch()
        except TransientError as error:
            if part.size >= mark + _PROGRESS_BYTES:
                tries, mark = 0, part.size
                backoff.reset()
            tries += 1
            if tries > max_retries:
                raise
            logger.info("%s; trying again", error)
            asked = error.retry_after or 0.0
            pause(backoff.pause(asked=asked if asked <= _LONGEST_ASKED_PAUSE else None))
        else:
            return


def receive(reply: StreamedReply, part: PartialFile) -> int | None:
    """Append the reply's body to `part`, or put it in place of what is there.

    Args:
        reply: The answer to a request for the bytes from `part.size` on, or for all bytes.
        part: What earlier replies left. Cut back where this reply begins earlier.

    Returns:
        How many bytes the whole file has by the reply's headers, or None if they do not say.
        Whether `part` has as many is for the caller to see.

    Raises:
        RangeMismatchError: The reply begins elsewhere than was asked, or is of another file than
            what is there.
    """
    headers = reply.headers
    encoded = headers.get("content-encoding", "identity").lower() != "identity"
    start, total = _range(reply, part.size) if reply.status_code == 206 else (0, None)
    length = headers.get("content-length", "")
    if total is None and length.isdecimal() and not encoded:
        total = start + int(length)
    if start and None not in (part.total, total) and part.total != total:
        raise RangeMismatchError
    part.rewind(start)
    part.total = total
    # Bytes of a compressed body do not count as the file's do.
    part.resumable = not encoded
    for chunk in reply.iter_bytes():
        part.write(chunk)
    if total is not None:
        return total
    # A compressed body has a checksum at its end, and the last chunk says that it is the last.
    chunked = "chunked" in headers.get("transfer-encoding", "").lower()
    return part.size if encoded or chunked else None


def _range(reply: StreamedReply, asked: int) -> tuple[int, int | None]:
    """Where a partial reply begins, and the whole file's bytes if it says."""
    match = _CONTENT_RANGE.match(reply.headers.get("content-range", ""))
    if match is None or int(match[1]) != asked:
        raise RangeMismatchError
    return asked, int(match[2]) if match[2] != "*" else None


def _sweep(path: Path) -> None:
    """Remove the parts of `path` whose process is dead."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError), part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise LedgerError(
            f"The downloaded file {path} could not be written ({reason})",
            fix="make room and see that the directory can be written, then run again",
        ) from error
