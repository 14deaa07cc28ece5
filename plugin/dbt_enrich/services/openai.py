"""The Batch API of Azure OpenAI and OpenAI, through the official `openai` package."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import openai

from dbt_enrich.clock import MACHINE_CLOCK, Clock
from dbt_enrich.config import PluginConfig
from dbt_enrich.config.file_limits import ServiceLimits
from dbt_enrich.config.remote import RemoteConfig
from dbt_enrich.errors import AuthenticationError, LedgerError, NotFoundError, ServiceError
from dbt_enrich.services.base import BatchStatus, RemoteBatch, RemoteFile
from dbt_enrich.services.calls import Calls, Connection, Send
from dbt_enrich.services.download import PartialFile, RangeMismatchError, complete, receive
from dbt_enrich.services.failures import Operation
from dbt_enrich.services.parse import parse_batch, parse_file, parse_object, parse_page
from dbt_enrich.services.probe import Getter, check_deployment, check_single, no_batch_api

logger = logging.getLogger(__name__)

_PAGE_SIZE: Final = 100
_CHECK_SECONDS: Final = 30.0
# Every line of a batch's files, requests, answers and errors alike, has this key.
_MARK_OF_LINES: Final = b'"custom_id"'
_SECONDS_PER_DAY: Final = 86_400


class OpenAIBatchService:
    """`BatchService` for the providers `azure` (classic and v1 paths) and `openai`.

    May be used from several threads. Calls that read, upload or delete are repeated by the
    `openai` client, with growing pauses and as the service's `Retry-After` asks; `create` is
    sent once. The client's models are not used: they expect the documented shapes.

    Args:
        settings: What the profile says of the service.
        say: Takes a line for the user before something that takes long, if anything does.
        cancelled: Set when the user interrupts, which ends every call.
        clock: The time, by which it pauses between the tries of a download.

    Raises:
        ConfigurationError: The settings name a credential, and azure-identity is not installed or
            refuses it.
    """

    def __init__(
        self,
        settings: PluginConfig,
        *,
        say: Callable[[str], None] | None = None,
        cancelled: threading.Event | None = None,
        clock: Clock = MACHINE_CLOCK,
    ) -> None:
        self._settings = settings
        self._say = say
        self._calls = Calls(self._connected, cancelled, clock)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.service_id!r})"

    @property
    def service_id(self) -> str:
        """Which service the ids belong to, such as `azure:res.openai.azure.com`."""
        return self._settings.service_id

    @property
    def limits(self) -> ServiceLimits:
        """What one input file may hold."""
        return self._settings.limits

    def check(self, deployment: str) -> None:
        """Check endpoint, key and, where the service can tell, the deployment.

        Args:
            deployment: The name that the lines of an input file would carry as `model`.

        Raises:
            ConfigurationError: There is no Batch API at the address, or the deployment is not
                one for batches.
            NotFoundError: The deployment is not there.
            ServiceError: The service cannot be reached, or does not accept the key.
        """
        settings = self._remote
        try:
            self._calls.reply(
                Operation("list its batches"),
                lambda client: self._impatient(client).batches.with_raw_response.list(limit=1),
                lambda data, _: parse_page(data),
            )
        except NotFoundError as error:
            raise no_batch_api(settings, error) from None
        check_deployment(settings, deployment, self._getter)

    def check_single(self, deployment: str) -> None:
        """Check address, key and, where the service can tell, the deployment, for single requests.

        Args:
            deployment: What a request names as its `model`.

        Raises:
            ConfigurationError: The deployment is one for batches.
            NotFoundError: The deployment is not there.
            ServiceError: The service cannot be reached, or does not accept the key.
        """
        check_single(self._remote, deployment, self._getter)

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
        if self._remote.sends_expiry:
            seconds = (self._remote.file_expiry_days or 0) * _SECONDS_PER_DAY
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

    def delete_file(self, file_id: str) -> None:
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

    def create(
        self,
        input_file_id: str,
        metadata: Mapping[str, str],
        path: str,
        *,
        before_sending: Callable[[], None] = lambda: None,
    ) -> RemoteBatch:
        """Create a batch on an uploaded, processed file. Sent once, whatever happens.

        Args:
            input_file_id: The file's id.
            metadata: At most 16 pairs, keys up to 64 and values up to 512 characters.
            path: The path of the endpoint that the file's lines ask.
            before_sending: Called at the last moment; what it raises leaves the call unsent.

        Returns:
            The batch as it stands after its creation.

        Raises:
            QuotaError: The deployment's enqueued tokens are used up; nothing was created.
            TransientError: Nothing was created, and it may work later.
            UnknownOutcomeError: It may or may not have been created.
            ServiceError: The service refused it; nothing was created.
        """
        operation = Operation(
            f"create a batch on the file {input_file_id}",
            acts=True,
            missing="the file may have expired or been deleted: upload it again",
        )

        def send(client: openai.OpenAI) -> Any:
            before_sending()
            return client.batches.with_raw_response.create(
                input_file_id=input_file_id,
                # Azure takes paths that the client's types do not know.
                endpoint=cast("Any", self._settings.batch_endpoint_of(path)),
                completion_window=cast("Any", self._settings.completion_window),
                metadata=dict(metadata),
            )

        return self._calls.reply(
            operation,
            send,
            lambda data, headers: parse_batch(data, headers, masked=self.masked),
        )

    def batch(self, batch_id: str) -> RemoteBatch:
        """Return the batch as it stands now.

        Raises:
            NotFoundError: The batch is not there.
            ServiceError: The service could not say.
        """
        return self._calls.reply(
            Operation(f"describe the batch {batch_id}"),
            lambda client: client.batches.with_raw_response.retrieve(batch_id),
            lambda data, headers: parse_batch(data, headers, batch_id=batch_id, masked=self.masked),
        )

    def batches(self) -> Iterator[RemoteBatch]:
        """Yield all batches of the resource, following the pages.

        Raises:
            ServiceError: The service could not list them all.
        """

        def page(after: Mapping[str, str]) -> Send:
            return lambda client: client.batches.with_raw_response.list(
                limit=_PAGE_SIZE, extra_query=after
            )

        for item in self._calls.items(Operation("list its batches"), page):
            yield parse_batch(item, masked=self.masked)

    def cancel(self, batch_id: str) -> RemoteBatch:
        """Ask the service to cancel the batch; one that has ended already is returned as it is.

        Raises:
            NotFoundError: The batch is not there.
            ServiceError: The service did not cancel it.
        """
        operation = Operation(f"cancel the batch {batch_id}")
        try:
            return self._cancel(replace(operation, once=True), batch_id)
        except (AuthenticationError, NotFoundError):
            raise
        except ServiceError as error:
            logger.debug("First try failed: %s", error)
        batch = self.batch(batch_id)
        if batch.status.is_terminal or batch.status is BatchStatus.CANCELLING:
            return batch
        return self._cancel(operation, batch_id)

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
                max_retries=self._settings.max_retries,
                pause=self._calls.pause,
            )
            part.commit()
        return part.size

    def ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send one synchronous request and return the reply's body.

        Args:
            path: The endpoint's.
            body: The request, with the deployment as `model`.

        Raises:
            ServiceError: The service did not answer it.
        """
        operation = Operation(
            f"chat with {body.get('model')}",
            missing="there is no such deployment or model: check `deployments`",
        )
        return self._calls.reply(
            operation,
            lambda client: client.post(path, cast_to=str, body=dict(body)),
            lambda data, _: dict(parse_object(data)),
        )

    @property
    def mask(self) -> str:
        """The pattern of what `masked` takes out of a text."""
        return self._calls.connection.failures.mask

    def masked(self, text: str) -> str:
        """Return a text of the service without secrets, for what is shown, logged or stored."""
        return self._calls.connection.failures.redact(text)

    def close(self) -> None:
        """Release the connections. May be called twice."""
        self._calls.connection.close()

    @property
    def _getter(self) -> Getter:
        """What gets any URL of the service, without much patience."""

        def get(url: str, query: Mapping[str, str]) -> Any:
            options: Any = {"params": dict(query)}
            return self._calls.get(
                url, lambda client: self._impatient(client).get(url, cast_to=str, options=options)
            )

        return get

    def _impatient(self, client: openai.OpenAI) -> openai.OpenAI:
        settings = self._remote
        return client.with_options(
            max_retries=min(settings.max_retries, 1),
            timeout=min(settings.timeout, _CHECK_SECONDS),
        )

    @property
    def _remote(self) -> RemoteConfig:
        """How the service is called where it is now."""
        return self._calls.connection.settings

    def _connected(self, failed: Connection | None) -> Connection:
        """Return the way to the service; it has one address, so that there is no other."""
        return failed or Connection(cast("RemoteConfig", self._settings))

    def _cancel(self, operation: Operation, batch_id: str) -> RemoteBatch:
        return self._calls.reply(
            operation,
            lambda client: client.batches.with_raw_response.cancel(batch_id),
            lambda data, headers: parse_batch(data, headers, batch_id=batch_id, masked=self.masked),
        )

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
