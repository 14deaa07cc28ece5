"""The provider `local`: the package's own emulator, over real HTTP, on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dbt_enrich.errors import ConfigurationError
from dbt_enrich.services.base import RemoteBatch, RemoteFile, ServiceLimits
from dbt_enrich.services.openai import OpenAIBatchService
from dbt_enrich.services.settings import Provider, Secret, ServiceSettings


class LocalService:
    """`BatchService` for the provider `local`.

    Joins the emulator that serves the directory, or starts it, and calls it by Azure's v1 paths.
    The emulator lives until its last user has left it with `close`.

    Args:
        settings: Settings of the provider `local`.

    Raises:
        ConfigurationError: What the emulator needs is not installed.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        from dbt_enrich.emulator.process import join_emulator

        if settings.emulator_directory is None or settings.responder is None:
            raise ConfigurationError("The provider `local` needs `responder` in the profile")
        self._settings = settings
        self._membership = join_emulator(settings.emulator_directory, spec=settings.responder)
        self._remote = OpenAIBatchService(
            replace(
                settings,
                provider=Provider.AZURE,
                endpoint=self._membership.url,
                api_key=Secret(self._membership.api_key),
                line_url=settings.request_url,
                batch_endpoint=settings.request_endpoint,
                emulator_directory=None,
                responder=None,
            )
        )
        self._closing = threading.Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._membership.url!r})"

    @property
    def service_id(self) -> str:
        """`local`: the address changes from run to run, the files in the directory stay."""
        return "local"

    @property
    def limits(self) -> ServiceLimits:
        """What one input file may hold."""
        return self._settings.limits

    @property
    def line_url(self) -> str:
        """The `url` of each line of an input file."""
        return self._settings.request_url

    def check(self, deployment: str) -> None:
        """Check that the emulator answers and takes the deployment."""
        self._remote.check(deployment)

    def upload(self, path: Path, *, filename: str) -> RemoteFile:
        """Upload `path` as a batch input file."""
        return self._remote.upload(path, filename=filename)

    def file(self, file_id: str) -> RemoteFile:
        """Return the file as it stands now."""
        return self._remote.file(file_id)

    def files(self) -> Iterator[RemoteFile]:
        """Yield the batch input files."""
        return self._remote.files()

    def delete_file(self, file_id: str) -> None:
        """Delete a file; a file that is not there counts as deleted."""
        self._remote.delete_file(file_id)

    def create(self, input_file_id: str, metadata: Mapping[str, str]) -> RemoteBatch:
        """Create a batch on an uploaded, processed file."""
        return self._remote.create(input_file_id, metadata)

    def batch(self, batch_id: str) -> RemoteBatch:
        """Return the batch as it stands now."""
        return self._remote.batch(batch_id)

    def batches(self) -> Iterator[RemoteBatch]:
        """Yield all batches."""
        return self._remote.batches()

    def cancel(self, batch_id: str) -> RemoteBatch:
        """Cancel the batch."""
        return self._remote.cancel(batch_id)

    def download(self, file_id: str, path: Path) -> int:
        """Write the file's content to `path`, all of it or not at all; return its bytes."""
        return self._remote.download(file_id, path)

    def chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send one synchronous `chat/completions` request and return the reply's body."""
        return self._remote.chat(body)

    def close(self) -> None:
        """Release the connections and this user's hold on the emulator. May be called twice."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._remote.close()
        self._membership.release()
