"""The provider `local`: the package's own emulator, over real HTTP, on this machine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dbt_enrich.config.file_limits import ServiceLimits
from dbt_enrich.config.service import Provider, Secret, ServiceSettings
from dbt_enrich.errors import ConfigurationError, TransientError, translated_errors
from dbt_enrich.services.base import RemoteBatch, RemoteFile, SynchronousReply
from dbt_enrich.services.openai import OpenAIBatchService

if TYPE_CHECKING:
    from batch_server.process import EmulatorMembership

logger = logging.getLogger(__name__)

T = TypeVar("T")


class LocalService:
    """`BatchService` for the provider `local`.

    Joins the emulator that serves the directory, or starts it, and calls it by Azure's v1 paths.
    The emulator lives until its last user has left it with `close`. One that died is started
    again; it goes on with what its directory holds.

    Args:
        settings: Settings of the provider `local`.
        say: Takes a line for the user before a language model is loaded.

    Raises:
        ConfigurationError: What the emulator needs is not installed, or another one runs there.
        EnrichmentError: The emulator does not start.
    """

    def __init__(self, settings: ServiceSettings, say: Callable[[str], None] | None = None) -> None:
        self._settings = settings
        self._say = say
        self._lock = threading.Lock()
        self._closed = False
        self._membership, self._remote = self._join()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._membership.url!r})"

    @property
    def service_id(self) -> str:
        """`local`: the address changes from run to run, the files in the directory stay."""
        return self._settings.service_id

    @property
    def limits(self) -> ServiceLimits:
        """What one input file may hold."""
        return self._settings.limits

    @property
    def line_url(self) -> str:
        """The `url` of each line of an input file."""
        return self._settings.request_url

    def check(self, deployment: str) -> None:
        """Check that the emulator answers and takes the deployment.

        A model server that is asked for the deployment by its name must have such a model.
        """
        self._check_upstream(deployment)
        self._call(lambda remote: remote.check(deployment))

    def upload(self, path: Path, *, filename: str) -> RemoteFile:
        """Upload `path` as a batch input file."""
        return self._call(lambda remote: remote.upload(path, filename=filename))

    def file(self, file_id: str) -> RemoteFile:
        """Return the file as it stands now."""
        return self._call(lambda remote: remote.file(file_id))

    def files(self) -> Iterator[RemoteFile]:
        """Yield the batch input files, newest first."""
        yield from self._call(lambda remote: list(remote.files()))

    def delete_file(self, file_id: str) -> None:
        """Delete a file; a file that is not there counts as deleted."""
        self._call(lambda remote: remote.delete_file(file_id))

    def create(self, input_file_id: str, metadata: Mapping[str, str]) -> RemoteBatch:
        """Create a batch on an uploaded, processed file."""
        return self._call(lambda remote: remote.create(input_file_id, metadata))

    def batch(self, batch_id: str) -> RemoteBatch:
        """Return the batch as it stands now."""
        return self._call(lambda remote: remote.batch(batch_id))

    def batches(self) -> Iterator[RemoteBatch]:
        """Yield all batches, newest first."""
        yield from self._call(lambda remote: list(remote.batches()))

    def cancel(self, batch_id: str) -> RemoteBatch:
        """Cancel the batch; one that has ended is returned as it is."""
        return self._call(lambda remote: remote.cancel(batch_id))

    def download(self, file_id: str, path: Path) -> int:
        """Write the file's content to `path`, all of it or not at all; return its bytes."""
        return self._call(lambda remote: remote.download(file_id, path))

    def chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send one synchronous `chat/completions` request and return the reply's body."""
        return self._call(lambda remote: remote.chat(body))

    def chat_once(self, body: Mapping[str, Any], *, request_id: str) -> SynchronousReply:
        """Send one synchronous request, never again once it was sent; return the reply to it."""
        return self._call(lambda remote: remote.chat_once(body, request_id=request_id))

    @property
    def mask(self) -> str:
        """The pattern of what `masked` takes out of a text."""
        return self._remote.mask

    def masked(self, text: str) -> str:
        """Return a text of the emulator, or of the server behind it, without secrets."""
        return self._remote.masked(text)

    def close(self) -> None:
        """Release the connections and this user's hold on the emulator. May be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._remote.close()
            self._membership.release()

    @translated_errors()
    def _check_upstream(self, deployment: str) -> None:
        spec = self._settings.responder
        if spec is None or spec.upstream is None or spec.upstream.model is not None:
            return
        from batch_server.responders.upstream_probe import check_upstream

        check_upstream(spec.upstream, deployment)

    def _call(self, call: Callable[[OpenAIBatchService], T]) -> T:
        """Make a call, and once more if the emulator had to be started again."""
        remote = self._remote
        try:
            return call(remote)
        except TransientError as error:
            # With a status it has answered, so it is alive. Without one, nothing was done.
            if error.status is not None or self._closed:
                raise
            logger.info("%s; joining the local emulator again", error)
        return call(self._rejoined(remote))

    def _rejoined(self, failed: OpenAIBatchService) -> OpenAIBatchService:
        """Return a way to the emulator that is not `failed`."""
        with self._lock:
            if self._remote is failed and not self._closed:
                # Threads may still be calling by the former one: it is not closed here.
                former = self._membership
                self._membership, self._remote = self._join()
                former.release()
            return self._remote

    def _join(self) -> tuple[EmulatorMembership, OpenAIBatchService]:
        from batch_server.process import join_emulator

        settings = self._settings
        if settings.emulator_directory is None or settings.responder is None:
            raise ConfigurationError(
                "the provider `local` needs a responder", fix="set `responder` in the profile"
            )
        with ExitStack() as undo:
            with translated_errors():
                membership = join_emulator(
                    settings.emulator_directory, spec=settings.responder, say=self._say
                )
            undo.callback(membership.release)
            remote = OpenAIBatchService(
                replace(
                    settings,
                    provider=Provider.AZURE,
                    endpoint=membership.url,
                    api_key=Secret(membership.api_key),
                    line_url=settings.request_url,
                    batch_endpoint=settings.request_endpoint,
                )
            )
            undo.pop_all()
        return membership, remote
