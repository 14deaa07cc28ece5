"""The files of batches in a container of the user's, which the service reads and writes as blobs.

Each upload has a name that nothing else ever writes to: a service that reads a blob fails its batch
if the blob changes. Such batches carry no metadata, so that the name says whose they are. Of what
a batch writes it always gives the names, also where it has written nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

from dbt_enrich.buckets.blob_address import BlobAddresses
from dbt_enrich.buckets.bucket import Bucket, BucketAwayError, ObjectGoneError
from dbt_enrich.config.bucket_address import BucketAddress
from dbt_enrich.endpoints.batch_marks import RemoteMark, batch_metadata, mark_of
from dbt_enrich.errors import ConfigurationError, LedgerError, NotFoundError, TransientError
from dbt_enrich.services.base import BatchStatus, FileStatus, RemoteBatch, RemoteFile
from dbt_enrich.services.calls import Calls
from dbt_enrich.services.download import PartialFile

_T = TypeVar("_T")

REQUESTS: Final = "requests"
"""The folder of what batches read."""
RESPONSES: Final = "responses"
"""The folder of what batches write."""


# What is larger goes in parts, each of which has a minute.
_WHOLE_BYTES = 8_388_608
# Folder, namespace, a random part that no other upload has, and the file's name.
_DEPTH = 4


@dataclass(frozen=True)
class _BlobName:
    """The name of a blob with requests of ours.

    Attributes:
        root: What comes before the folder of requests, with a slash at its end if anything does.
        mark: Whose it is.
    """

    root: str
    mark: RemoteMark

    @staticmethod
    def of(key: str) -> _BlobName | None:
        """Read a blob's key; None for one that is not ours."""
        parts = key.split("/")
        if len(parts) < _DEPTH:
            return None
        *root, folder, namespace, _, filename = parts
        mark = mark_of({}, filename)
        if mark is None or folder != REQUESTS or namespace != mark.namespace:
            return None
        return _BlobName("".join(f"{part}/" for part in root), mark)

    @property
    def responses(self) -> str:
        """The folder that a batch on it writes to."""
        return f"{self.root}{RESPONSES}/{self.mark.namespace}/{self.mark.shard}"


class BlobFiles:
    """`BatchFiles` in a container, by the addresses of blobs.

    Args:
        address: The container, with a prefix; None where none is configured.
        calls: Makes the calls, which the user may interrupt.

    Raises:
        ConfigurationError: There is none, or the environment does not name its account.
    """

    def __init__(self, address: BucketAddress | None, calls: Calls) -> None:
        if address is None:
            raise ConfigurationError(
                "a batch has its files in a container at Azure, and `state.files` names none",
                fix="write the container there again, until the batch is collected",
            )
        self._addresses = BlobAddresses(address)
        # Batches of a state that was lost may be below another prefix.
        self._bucket = Bucket(replace(address, prefix=""), whole_bytes=_WHOLE_BYTES)
        self._own = f"{address.prefix}/" if address.prefix else ""
        self._calls = calls

    def upload(self, path: Path, *, filename: str) -> RemoteFile:
        """Put a file under a new name, in parts if it is large; see `BatchFiles.upload`."""
        mark = mark_of({}, filename)
        if mark is None:
            raise LedgerError(f"the request file {filename} has not the name of one of ours")
        key = f"{self._own}{REQUESTS}/{mark.namespace}/{secrets.token_hex(8)}/{filename}"
        self._called(lambda: self._bucket.put(key, path))
        return _described(self._addresses.url(key), filename, path.stat().st_size)

    def file(self, file_id: str) -> RemoteFile:
        """Return what the container says of a blob; see `BatchFiles.file`."""
        key = self._key(file_id)
        found = self._called(lambda: self._bucket.find(key))
        if found is None:
            raise _gone(file_id)
        return _described(file_id, PurePosixPath(key).name, found.size)

    def files(self) -> Iterator[RemoteFile]:
        """Yield the blobs that were put there for batches; see `BatchFiles.files`."""
        for found in self._called(lambda: list(self._bucket.list(f"{self._own}{REQUESTS}"))):
            url = self._addresses.url(found.key)
            yield _described(url, PurePosixPath(found.key).name, found.size)

    def delete(self, file_id: str) -> None:
        """Delete a blob; see `BatchFiles.delete`. What cannot be deleted now may be later."""
        key = self._addresses.key(file_id)
        # What lies elsewhere is another state's.
        folders = tuple(f"{self._own}{kind}/" for kind in (REQUESTS, RESPONSES))
        if key is None or not key.startswith(folders):
            return
        try:
            self._called(lambda: self._bucket.delete([key]))
        except LedgerError as error:
            raise TransientError(error.problem, fix=error.fix) from error

    def create_body(self, file_id: str, metadata: Mapping[str, str]) -> dict[str, Any]:  # noqa: ARG002
        """Return what a batch reads, and where it writes; the service takes no metadata with it.

        The names are those of the REST API of 2025-04-01-preview
        (learn.microsoft.com/azure/ai-foundry/openai/how-to/batch-blob-storage).
        """
        name = _BlobName.of(self._key(file_id))
        if name is None:
            raise NotFoundError(f"the blob {file_id} has no requests of ours", status=404)
        return {
            "input_file_id": None,
            "input_blob": file_id,
            "output_folder": {"url": self._addresses.url(name.responses)},
        }

    def download(self, file_id: str, path: Path) -> int:
        """Write a blob's content to `path`, a range at a time; see `BatchFiles.download`."""
        key = self._key(file_id)

        def fetch() -> int:
            with PartialFile(path) as part:
                for chunk in self._bucket.chunks(key):
                    part.write(chunk)
                part.commit()
            return part.size

        return self._called(fetch)

    def placed(self, batch: RemoteBatch) -> RemoteBatch:
        """Return a batch with its mark, which its blob's name says, if the blob is one of ours."""
        key = self._addresses.key(batch.input_file_id or "")
        name = _BlobName.of(key) if key else None
        if not key or not name:
            return batch
        mark = name.mark
        return replace(
            batch,
            input_file_id=self._addresses.url(key),
            metadata=batch_metadata(mark.namespace, mark.task_key, mark.shard),
        )

    def seen(self, batch: RemoteBatch) -> RemoteBatch:
        """Return a batch that has ended with those of its files that are there, or must come."""
        if not batch.status.is_terminal:
            return batch
        named = [name for name in (batch.output_file_id, batch.error_file_id) if name]
        keys = [key for name in named if (key := self._addresses.key(name))]
        there = [key for key in keys if self._called(partial(self._bucket.find, key))]
        return self._with_files(batch, set(there))

    def listed(self, batches: Sequence[RemoteBatch]) -> Iterator[RemoteBatch]:
        """Yield batches of the service's list with those of their files that are there.

        Args:
            batches: All of them, as they were listed before.
        """
        placed = [self.placed(batch) if batch.is_on_blob else batch for batch in batches]
        ended = [b for b in placed if b.is_on_blob and b.metadata and b.status.is_terminal]
        names = [_BlobName.of(self._key(batch.input_file_id or "")) for batch in ended]
        there = self._below(name.root for name in names if name)
        over = {batch.id for batch in ended}
        for batch in placed:
            if batch.id not in over:
                yield batch
                continue
            files = (batch.input_file_id, batch.output_file_id, batch.error_file_id)
            is_cleared = not any(self._addresses.key(name or "") in there for name in files)
            yield replace(self._with_files(batch, there), is_cleared=is_cleared)

    def _below(self, roots: Iterable[str]) -> set[str]:
        """Return the keys of all requests and answers below some roots."""
        folders = sorted({f"{root}{kind}" for root in roots for kind in (REQUESTS, RESPONSES)})

        def keys() -> set[str]:
            return {found.key for folder in folders for found in self._bucket.list(folder)}

        return self._called(keys) if folders else set()

    def _with_files(self, batch: RemoteBatch, there: Collection[str]) -> RemoteBatch:
        """Return an ended batch with those of its files whose keys are there, or must come."""
        output, errors = (
            self._addresses.key(name or "") in there
            for name in (batch.output_file_id, batch.error_file_id)
        )
        return ended_with(batch, has_output=output, has_errors=errors)

    def _key(self, file_id: str) -> str:
        key = self._addresses.key(file_id)
        if key is None:
            raise ConfigurationError(
                f"the blob {file_id} is not below {self._addresses.base}, where `state.files` and "
                "the environment say that files of batches are",
                fix="write the container that it is in as `state.files`, and its account in the "
                "environment, until its batch is collected",
            )
        return key

    def _called(self, call: Callable[[], _T]) -> _T:
        """Make a call to the container, with its troubles as a service's."""
        try:
            return self._calls.interruptible(call)
        except ObjectGoneError as error:
            raise NotFoundError(error.problem, status=404) from error
        except BucketAwayError as error:
            raise TransientError(error.problem, fix=error.fix) from error


def ended_with(batch: RemoteBatch, *, has_output: bool, has_errors: bool) -> RemoteBatch:
    """Return an ended batch without the names of what it did not write.

    What it counts is looked for, however long it is not there. What it may have besides is waited
    for, as counts may be unknown; of a batch that failed as a whole nothing is to come.

    Args:
        batch: The batch, which names both blobs.
        has_output: Whether that of the answers is there.
        has_errors: Whether that of the errors is there.
    """
    counts = batch.counts
    may_have_output = counts.completed or not counts.total
    may_have_errors = counts.completed < counts.total or not counts.total
    lacks = (may_have_output and not has_output) or (may_have_errors and not has_errors)
    is_void = batch.status is BatchStatus.FAILED and not counts.completed
    return replace(
        batch,
        output_file_id=batch.output_file_id if has_output or counts.completed else None,
        error_file_id=batch.error_file_id if has_errors or counts.failed else None,
        awaits_files=bool(lacks) and not is_void,
    )


def _described(url: str, filename: str, size: int) -> RemoteFile:
    return RemoteFile(url, filename, FileStatus.PROCESSED, bytes=size)


def _gone(file_id: str) -> NotFoundError:
    return NotFoundError(f"the blob {file_id} is not there", status=404)
