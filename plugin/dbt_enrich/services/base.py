"""The Batch API as this project uses it: the values it returns and the calls it offers.

Everything that differs between services (paths, status codes, spellings, types of timestamps)
ends here: the engine sees only these dataclasses and the errors of `dbt_enrich.errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from dbt_enrich.config.file_limits import ServiceLimits

# Of a call that is refused, and of a batch that fails, for want of room in a quota.
QUOTA_CODES: Final = frozenset({"token_limit_exceeded", "quotaexceeded", "quota_exceeded"})

# Of a call that the deployment, or the region, does not offer.
UNSUPPORTED_CODE: Final = "operationnotsupported"


class BatchStatus(StrEnum):
    """The states of a batch, as the service names them, in lower case.

    An undocumented state is read as `IN_PROGRESS`: the batch goes on being watched.
    """

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the service will do nothing more to a batch in this state."""
        return self in _TERMINAL


_TERMINAL = frozenset(
    {BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED}
)


class FileStatus(StrEnum):
    """What the engine needs to know of an uploaded file."""

    PENDING = "pending"
    PROCESSED = "processed"
    ERROR = "error"


@dataclass(frozen=True)
class RemoteFile:
    """A file at the service. What the service left out is None.

    `status_details` is the service's own text: `BatchService.masked` before showing.
    """

    id: str
    filename: str
    status: FileStatus
    bytes: int | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    status_details: str | None = None


@dataclass(frozen=True)
class BatchError:
    """One entry of a failed batch's `errors`; `line` is the input file's line, from 1.

    The texts are the service's own, for the engine to read; `BatchService.masked` before showing.
    """

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True)
class RequestCounts:
    """How many requests of a batch the service has dealt with so far."""

    total: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True)
class RemoteBatch:
    """A batch at the service. Empty ids are None; all times are UTC.

    `reached_at` has the states that the service gives a time for, by name. The files of a batch
    that `is_on_blob` are named by the addresses of blobs. One that `awaits_files` has ended, and
    blobs of it may still come; of one that `is_cleared`, all of them are gone.
    """

    id: str
    status: BatchStatus
    endpoint: str | None = None
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    counts: RequestCounts = RequestCounts()
    errors: tuple[BatchError, ...] = ()
    created_at: datetime | None = None
    reached_at: Mapping[str, datetime] = field(default_factory=dict)
    enqueued_tokens: int | None = None
    max_enqueued_tokens: int | None = None
    is_on_blob: bool = False
    awaits_files: bool = False
    is_cleared: bool = False

    @property
    def is_void(self) -> bool:
        """Whether it failed as a whole, so that nothing of it was answered or paid."""
        has_answers = bool(self.output_file_id or self.error_file_id or self.counts.completed)
        return self.status == BatchStatus.FAILED and not has_answers

    @property
    def lacks_files(self) -> bool:
        """Whether it counts requests that are in none of its files, or says of none what became."""
        if self.awaits_files:
            return True
        if self.status == BatchStatus.COMPLETED and not (self.output_file_id or self.error_file_id):
            return True
        completed = self.counts.completed and not self.output_file_id
        return bool(completed or (self.counts.failed and not self.error_file_id))


class BatchFiles(Protocol):
    """The place of the files of batches: the service itself, or a container of the user's.

    Its calls raise what those of `BatchService` do.
    """

    def upload(self, path: Path, *, filename: str) -> RemoteFile:
        """Put a batch input file there; every call makes another one."""
        ...

    def file(self, file_id: str) -> RemoteFile:
        """Return the file as it stands now."""
        ...

    def files(self) -> Iterator[RemoteFile]:
        """Yield the batch input files that are there."""
        ...

    def delete(self, file_id: str) -> None:
        """Delete a file; a file that is not there counts as deleted."""
        ...

    def create_body(self, file_id: str, metadata: Mapping[str, str]) -> dict[str, Any]:
        """Return what a batch on a file is created with, beside what all have.

        Args:
            file_id: The file.
            metadata: What marks the batch as ours, where its file's name alone does not.
        """
        ...

    def download(self, file_id: str, path: Path) -> int:
        """Write the file's content to `path`, all of it or not at all; return its bytes."""
        ...


class BatchService(Protocol):
    """The calls that the engine makes. Every call may raise `dbt_enrich.errors.ServiceError`.

    Calls that read, upload, delete or cancel are repeated on transient errors by the
    implementation. `create` is never repeated by it: a lost reply is an `UnknownOutcomeError`,
    and the engine looks for the batch before it creates another; every other error of `create`
    means that nothing was created. One object serves several threads at once. The texts of
    errors are one sentence without a full stop, so that the engine can add to them.
    """

    @property
    def service_id(self) -> str:
        """Which service the ledger's ids belong to, such as `azure:res.openai.azure.com`."""
        ...

    @property
    def limits(self) -> ServiceLimits:
        """What one input file may hold."""
        ...

    def check(self, deployment: str) -> None:
        """Check endpoint, key and, where the service can tell, the deployment. Sends no row.

        Also raises a `ConfigurationError`: no Batch API there, or no batch deployment.
        """
        ...

    def check_single(self, deployment: str) -> None:
        """Check address, key and, where the service can tell, the deployment, for single requests.

        Sends no row. Also raises a `ConfigurationError`: the deployment is one for batches.
        """
        ...

    def upload(self, path: Path, *, filename: str) -> RemoteFile:
        """Upload `path` as a batch input file that expires as configured."""
        ...

    def file(self, file_id: str) -> RemoteFile:
        """Return the file as it stands now."""
        ...

    def files(self) -> Iterator[RemoteFile]:
        """Yield the batch input files of the resource, newest first where the service sorts."""
        ...

    def delete_file(self, file_id: str) -> None:
        """Delete a file; a file that is not there counts as deleted."""
        ...

    def create(
        self,
        input_file_id: str,
        metadata: Mapping[str, str],
        path: str,
        *,
        before_sending: Callable[[], None] = lambda: None,
    ) -> RemoteBatch:
        """Create a batch on an uploaded, processed file, whose lines ask the endpoint at `path`.

        `before_sending` is called at the last moment; what it raises leaves the call unsent.
        """
        ...

    def batch(self, batch_id: str) -> RemoteBatch:
        """Return the batch as it stands now."""
        ...

    def batches(self) -> Iterator[RemoteBatch]:
        """Yield all batches of the resource, page by page, or raise: never only some of them."""
        ...

    def cancel(self, batch_id: str) -> RemoteBatch:
        """Ask the service to cancel the batch; one that has ended is returned as it is."""
        ...

    def download(self, file_id: str, path: Path) -> int:
        """Write the file's content to `path`, all of it or not at all; return its bytes."""
        ...

    def ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send one synchronous request to the endpoint at `path`; return the reply's body."""
        ...

    @property
    def mask(self) -> str:
        """What `masked` takes out of a text but for its group 1: a pattern for Python and RE2."""
        ...

    def masked(self, text: str) -> str:
        """Return a text of the service without secrets, for what is shown, logged or stored."""
        ...

    def close(self) -> None:
        """Release connections and, for a local service, this user's hold on the emulator."""
        ...
