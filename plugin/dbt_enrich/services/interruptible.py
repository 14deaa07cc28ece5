"""A service whose calls end when the user interrupts, also while no reply comes.

A socket that is being read cannot be given up by its own thread, and dbt waits for its threads on
Ctrl-C. So each call is made in a thread of its own, which is left behind if need be: it is a
daemon, and what it was about is found again by the ledger's intents.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from dbt_enrich.config.file_limits import ServiceLimits
from dbt_enrich.errors import CancelledError
from dbt_enrich.services.base import BatchService, RemoteBatch, RemoteFile, SynchronousReply

T = TypeVar("T")

# So often a waiting thread sees whether the user has interrupted.
_LOOK_SECONDS = 0.1


class InterruptibleService:
    """Makes the calls of another service, and gives them up when an event is set.

    Every call raises a `CancelledError` then, beside what the other service raises.

    Args:
        service: The other service.
        cancelled: Set when the user interrupts.
    """

    def __init__(self, service: BatchService, cancelled: threading.Event) -> None:
        self._service = service
        self._cancelled = cancelled

    @property
    def service_id(self) -> str:
        """Which service the ledger's ids belong to."""
        return self._service.service_id

    @property
    def limits(self) -> ServiceLimits:
        """What one input file may hold."""
        return self._service.limits

    @property
    def line_url(self) -> str:
        """The `url` of each line of an input file."""
        return self._service.line_url

    def check(self, deployment: str) -> None:
        """Check endpoint, key and deployment."""
        self._call(lambda: self._service.check(deployment))

    def upload(self, path: Path, *, filename: str) -> RemoteFile:
        """Upload an input file."""
        return self._call(lambda: self._service.upload(path, filename=filename))

    def file(self, file_id: str) -> RemoteFile:
        """Return a file as it stands now."""
        return self._call(lambda: self._service.file(file_id))

    def files(self) -> Iterator[RemoteFile]:
        """Yield the input files of the resource."""
        return iter(self._call(lambda: list(self._service.files())))

    def delete_file(self, file_id: str) -> None:
        """Delete a file."""
        self._call(lambda: self._service.delete_file(file_id))

    def create(self, input_file_id: str, metadata: Mapping[str, str]) -> RemoteBatch:
        """Create a batch; where the call is given up, whether there is one is unknown."""
        return self._call(lambda: self._service.create(input_file_id, metadata))

    def batch(self, batch_id: str) -> RemoteBatch:
        """Return a batch as it stands now."""
        return self._call(lambda: self._service.batch(batch_id))

    def batches(self) -> Iterator[RemoteBatch]:
        """Yield all batches of the resource."""
        return iter(self._call(lambda: list(self._service.batches())))

    def cancel(self, batch_id: str) -> RemoteBatch:
        """Ask the service to cancel a batch."""
        return self._call(lambda: self._service.cancel(batch_id))

    def download(self, file_id: str, path: Path) -> int:
        """Write a file's content to a path."""
        return self._call(lambda: self._service.download(file_id, path))

    def chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send one synchronous request."""
        return self._call(lambda: self._service.chat(body))

    def chat_once(self, body: Mapping[str, Any], *, request_id: str) -> SynchronousReply:
        """Send one synchronous request; not given up, for its reply is paid for."""
        return self._service.chat_once(body, request_id=request_id)

    @property
    def mask(self) -> str:
        """The pattern of what `masked` takes out of a text."""
        return self._service.mask

    def masked(self, text: str) -> str:
        """Return a text of the service without secrets."""
        return self._service.masked(text)

    def close(self) -> None:
        """Release connections."""
        self._service.close()

    def _call(self, call: Callable[[], T]) -> T:
        if self._cancelled.is_set():
            raise _interrupted()
        results: list[T] = []
        errors: list[BaseException] = []
        is_over = threading.Event()

        def run() -> None:
            try:
                results.append(call())
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                errors.append(error)
            is_over.set()

        threading.Thread(target=run, name="service-call", daemon=True).start()
        while not is_over.wait(_LOOK_SECONDS):
            if self._cancelled.is_set():
                raise _interrupted()
        if errors:
            raise errors[0]
        return results[0]


def _interrupted() -> CancelledError:
    return CancelledError(
        "interrupted; what was submitted goes on at the service, and the next dbt run collects it"
    )
