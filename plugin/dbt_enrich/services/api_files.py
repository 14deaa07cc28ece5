"""The files of batches at the service: uploaded to it, and downloaded from it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import openai

from dbt_enrich.errors import LedgerError, NotFoundError, ServiceError
from dbt_enrich.services.base import RemoteFile
from dbt_enrich.services.calls import Calls, Send
from dbt_enrich.services.download import PartialFile, RangeMismatchError, complete, receive
from dbt_enrich.services.failures import Operation
from dbt_enrich.services.parse import parse_file

logger = logging.getLogger(__name__)

# Every line of a batch's files, requests, answers and errors alike, has this key.
_MARK_OF_LINES: Final = b'"custom_id"'
_SECONDS_PER_DAY: Final = 86_400


class ServiceFiles:
    """`BatchFiles` at the service, by the ids that it gives them.

    Args:
        calls: How the service is called.
        max_retries: How often a download may fail in a row without getting on.
    """

    def __init__(self, calls: Calls, *, max_retries: int) -> None:
        self._calls = calls
        self._max_retries = max_retries

    def upload(self, path: Path, *, filename: str) -> RemoteFile:
        """Upload `path`, read from the disk as it is sent, as a batch input file.

        Args:
            path: The file.
            filename: The name that it has at the service.

        Returns:
            The file as it stands; it may still have to be processed.

        Raises:
            QuotaError: The service holds as many files as it may.
            LedgerError: `path` cannot be read.
            ServiceError: The service refused it, or could not be reached.
        """
        operation = Operation(f"upload {filename}")
        extra = {}
        if self._calls.connection.settings.sends_expiry:
            seconds = (self._calls.connection.settings.file_expiry_days or 0) * _SECONDS_PER_DAY
            # In the extra body, as the first versions of the client do not know it.
            extra = {"expires_after": {"anchor": "created_at", "seconds": seconds}}
        try:
            with path.open("rb") as content:
                return self._calls.reply(
                    operation,
                    lambda client: client.files.with_raw_response.create(
                        file=(filename, content, "application/octet-stream"),
                        purpose="batch",
                        extra_body=extra,
                    ),
                    lambda data, _: parse_file(data),
                )
        except OSError as error:
            raise LedgerError(
                f"The request file {path} could not be read ({error.strerror or error})",
                fix="see that the directory is there and can be read, then run again",
            ) from error

    def file(self, file_id: str) -> RemoteFile:
        """Return the file as it stands now.

        Raises:
            NotFoundError: The file is not there.
            ServiceError: The service could not say.
        """
        return self._calls.reply(
            Operation(f"describe the file {file_id}"),
            lambda client: client.files.with_raw_response.retrieve(file_id),
            lambda data, _: parse_file(data, file_id=file_id),
        )

    def files(self) -> Iterator[RemoteFile]:
        """Yield the batch input files of the resource, in the service's order.

        Raises:
            ServiceError: The service could not list them all.
        """

        def page(after: Mapping[str, str]) -> Send:
            return lambda client: client.files.with_raw_response.list(
                purpose="batch", extra_query=after
            )

        for item in self._calls.items(Operation("list its files"), page):
            if item.get("purpose") in (None, "batch"):
                yield parse_file(item)

    def delete(self, file_id: str) -> None:
        """Delete a file; a file that is not there counts as deleted.

        Raises:
            ServiceError: The service did not delete it.
        """
        operation = Operation(f"delete the file {file_id}")
        try:
            self._calls.send(
                operation, lambda client: client.files.with_raw_response.delete(file_id)
            )
        except NotFoundError:
            logger.debug("The file %s was already gone", file_id)

    def download(self, file_id: str, path: Path) -> int:
        """Write the file's content to `path`, all of it or not at all.

        A download that breaks off goes on from where it was, if the service can do that.

        Args:
            file_id: The file.
            path: Where it goes; its directory exists.

        Returns:
            How many bytes it has.

        Raises:
            NotFoundError: The file is not there.
            LedgerError: `path` cannot be written.
            ServiceError: The service did not deliver it.
        """
        operation = Operation(f"download the file {file_id}", once=True)
        with PartialFile(path) as part:
            complete(
                part,
                lambda: self._fetch(operation, file_id, part),
                max_retries=self._max_retries,
                pause=self._calls.pause,
            )
            part.commit()
        return part.size

    def create_body(self, file_id: str, metadata: Mapping[str, str]) -> dict[str, Any]:
        """Return what a batch on a file is created with; see `BatchFiles.create_body`."""
        return {"input_file_id": file_id, "metadata": dict(metadata)}

    def _fetch(self, operation: Operation, file_id: str, part: PartialFile) -> None:
        """Fetch what `part` lacks, once, and see that it is the file and no proxy's page."""
        self._receive(operation, file_id, part)
        if part.contains(_MARK_OF_LINES):
            return
        size = part.size
        # Whatever stands in the way of asking, the next try must not go on from here.
        part.resumable = False
        if size == (self.file(file_id).bytes or 0):
            return
        why = f"{size} bytes came that hold no line of a batch"
        raise self._calls.connection.failures.unreadable(operation, why)

    def _receive(self, operation: Operation, file_id: str, part: PartialFile) -> None:
        """Fetch what `part` lacks, once."""
        failures = self._calls.connection.failures
        if not part.resumable:
            part.rewind(0)
        headers = {"Accept-Encoding": "identity"}
        if part.size:
            headers["Range"] = f"bytes={part.size}-"

        def stream(client: openai.OpenAI) -> int | None:
            content = client.files.with_streaming_response.content
            with content(file_id, extra_headers=headers) as reply:
                return receive(reply, part)

        try:
            expected = self._calls.send(operation, stream)
        except RangeMismatchError:
            part.rewind(0)
            raise failures.interrupted(operation, "it went on at a wrong place") from None
        except ServiceError as error:
            if error.status == 416:
                part.rewind(0)
                raise failures.interrupted(operation, str(error)) from None
            raise
        if expected is None:
            expected = self.file(file_id).bytes
        if expected is not None and part.size != expected:
            short = f"{part.size} of {expected} bytes came"
            if part.size > expected:
                part.rewind(0)
            raise failures.interrupted(operation, short)
