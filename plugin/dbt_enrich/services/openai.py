"""The Batch API of Azure OpenAI and OpenAI, through the official `openai` package."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, cast

import openai

from dbt_enrich.buckets.blob_address import is_blob
from dbt_enrich.clock import MACHINE_CLOCK, Clock
from dbt_enrich.config import PluginConfig
from dbt_enrich.config.file_limits import ServiceLimits
from dbt_enrich.config.remote import RemoteConfig
from dbt_enrich.errors import AuthenticationError, NotFoundError, ServiceError
from dbt_enrich.services.api_files import ServiceFiles
from dbt_enrich.services.base import BatchFiles, BatchStatus, RemoteBatch, RemoteFile
from dbt_enrich.services.blob_files import BlobFiles
from dbt_enrich.services.calls import Calls, Connection, Send
from dbt_enrich.services.failures import Operation
from dbt_enrich.services.parse import parse_batch, parse_object, parse_page
from dbt_enrich.services.probe import Getter, check_deployment, check_single, no_batch_api

logger = logging.getLogger(__name__)

_PAGE_SIZE: Final = 100
_CHECK_SECONDS: Final = 30.0


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
        self._files = ServiceFiles(self._calls, max_retries=settings.max_retries)

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
        """Put `path`, read from the disk as it is sent, where batches take their input from.

        Args:
            path: The file.
            filename: The name that it has there.

        Returns:
            The file as it stands; it may still have to be processed.

        Raises:
            QuotaError: The service holds as many files as it may.
            LedgerError: `path` cannot be read, or the container refuses it.
            ServiceError: The service refused it, or could not be reached.
        """
        place = self._container if self._settings.sends_blobs else self._files
        return place.upload(path, filename=filename)

    def file(self, file_id: str) -> RemoteFile:
        """Return the file as it stands now.

        Raises:
            NotFoundError: The file is not there.
            ServiceError: The service could not say.
        """
        return self._place_of(file_id).file(file_id)

    def files(self) -> Iterator[RemoteFile]:
        """Yield the batch input files of the resource, then those of the container, if it has one.

        Raises:
            ServiceError: They could not all be listed.
        """
        yield from self._files.files()
        if self._settings.container:
            yield from self._container.files()

    def delete_file(self, file_id: str) -> None:
        """Delete a file; a file that is not there counts as deleted.

        Raises:
            ServiceError: The service did not delete it.
        """
        self._place_of(file_id).delete(file_id)

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
            input_file_id: The file's id; the address of one in the container.
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
        body = self._place_of(input_file_id).create_body(input_file_id, metadata)

        def send(client: openai.OpenAI) -> Any:
            before_sending()
            return client.batches.with_raw_response.create(
                # What it reads, and its marks, are the place's to say.
                input_file_id=cast("Any", None),
                # Azure takes paths that the client's types do not know.
                endpoint=cast("Any", self._settings.batch_endpoint_of(path)),
                completion_window=cast("Any", self._settings.completion_window),
                extra_body=body,
            )

        batch = self._calls.reply(
            operation,
            send,
            lambda data, headers: parse_batch(data, headers, masked=self.masked),
        )
        return self._placed(batch)

    def batch(self, batch_id: str) -> RemoteBatch:
        """Return the batch as it stands now.

        Raises:
            NotFoundError: The batch is not there.
            ServiceError: The service could not say.
        """
        batch = self._calls.reply(
            Operation(f"describe the batch {batch_id}"),
            lambda client: client.batches.with_raw_response.retrieve(batch_id),
            lambda data, headers: parse_batch(data, headers, batch_id=batch_id, masked=self.masked),
        )
        return self._placed(batch, is_latest=True)

    def batches(self) -> Iterator[RemoteBatch]:
        """Yield all batches of the resource, following the pages.

        Where there is a container, all are listed before what lies in it, so that what a batch has
        written by then is seen.

        Raises:
            ServiceError: The service could not list them all.
        """

        def page(after: Mapping[str, str]) -> Send:
            return lambda client: client.batches.with_raw_response.list(
                limit=_PAGE_SIZE, extra_query=after
            )

        items = self._calls.items(Operation("list its batches"), page)
        found = (parse_batch(item, masked=self.masked) for item in items)
        yield from self._container.listed(list(found)) if self._settings.container else found

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
            LedgerError: `path` cannot be written, or the container refuses the file.
            ServiceError: The service did not deliver it.
        """
        return self._place_of(file_id).download(file_id, path)

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

    @cached_property
    def _container(self) -> BlobFiles:
        """The files of batches in the container of the shared state.

        Raises:
            ConfigurationError: None is configured, or the environment names no account.
        """
        return BlobFiles(self._settings.container, self._calls)

    def _place_of(self, file_id: str) -> BatchFiles:
        """Return where a file lies: its name tells it."""
        return self._container if is_blob(file_id) else self._files

    def _placed(self, batch: RemoteBatch, *, is_latest: bool = False) -> RemoteBatch:
        """Return a batch with the files that it really has, if they are blobs of ours."""
        if not batch.is_on_blob or not self._settings.container:
            return batch
        placed = self._container.placed(batch)
        return self._container.seen(placed) if is_latest else placed

    def _cancel(self, operation: Operation, batch_id: str) -> RemoteBatch:
        batch = self._calls.reply(
            operation,
            lambda client: client.batches.with_raw_response.cancel(batch_id),
            lambda data, headers: parse_batch(data, headers, batch_id=batch_id, masked=self.masked),
        )
        return self._placed(batch)
