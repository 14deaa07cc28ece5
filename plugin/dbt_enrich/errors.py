"""The errors of dbt-enrich: one base, one class for each thing a caller can act on.

EnrichmentError
├── ConfigurationError      the profile, the YAML or the task is wrong; nothing was sent
├── InputError              the staged rows are wrong; nothing was sent
├── LedgerError             the state directory or the ledger cannot be used
├── TooLittleMemoryError    the private DuckDB ran out of memory, or of disk
├── LostOwnershipError      another run has taken a shard over; it is left to that run
├── ServiceError            the batch service refused or failed
│   ├── AuthenticationError     the key or token was not accepted
│   ├── NotFoundError           a file, batch, deployment or model is not there
│   ├── QuotaError              the enqueued-token or file quota is used up; wait
│   ├── TransientError          worth trying again: connection, timeout, 408, 409, 429, 5xx
│   │   └── UnreadableReplyError    something else answers in the service's place
│   └── UnknownOutcomeError     sent, but no reply: the service may have acted
├── BatchFailedError        the service failed a batch as a whole
├── FailedRowsError         rows failed that `fail_on` names
├── StoppedError            too many answers failed alike; nothing more is sent
├── CapError                a cap would be passed; nothing was sent
├── TaskChangedError        the task changed, and `on_task_change` is `error`; nothing was sent
├── AwaitTimeoutError       the service took longer than `await_timeout`
└── CancelledError          the run was interrupted; batches go on at the service
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from batch_server.problems import BatchServerError, SetupError

SITE: Final = "https://dbt-enrich.github.io/dbt-enrich/"
"""Where the documentation is."""


class EnrichmentError(Exception):
    """Something dbt-enrich can name. Its text says what happened, where, and what to do.

    Attributes:
        problem: What is wrong, and of which model, field or file.
        fix: What to do about it, as an imperative phrase; empty where nothing can be done.
        model: The dbt model that was enriched, or None.
        shard: The shard that was on its way, or None.
        batch: The id of its batch at the service, or None.
    """

    model: str | None = None
    shard: str | None = None
    batch: str | None = None

    def __init__(self, problem: str, *, fix: str = "") -> None:
        super().__init__(f"{problem}; {fix}" if fix else problem)
        self.problem = problem
        self.fix = fix

    @property
    def page(self) -> str:
        """The address of the page about errors of this kind."""
        kind = next(kind for kind in type(self).__mro__ if kind.__module__ == __name__)
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__.removesuffix("Error")).lower()
        return f"{SITE}errors/{'index' if kind is EnrichmentError else name}.html"

    @property
    def with_page(self) -> str:
        """What the user reads where this ends a command or a model: its text, then its page."""
        return f"{self}\nsee {self.page}"


class WrongValueError(ValueError):
    """A value that a validator of ours refuses, with the fields of an `EnrichmentError`.

    pydantic takes ValueErrors alone, and keeps the exception within its own.

    Attributes:
        problem: What is wrong with the value.
        fix: What to write in its place; empty where the problem says it.
    """

    def __init__(self, problem: str, *, fix: str = "") -> None:
        super().__init__(f"{problem}; {fix}" if fix else problem)
        self.problem = problem
        self.fix = fix


class ConfigurationError(EnrichmentError):
    """The profile, a model's YAML or a task is wrong. Raised before anything is sent."""


class InputError(EnrichmentError):
    """The staged rows cannot be enriched as they are. Raised before anything is sent."""


class LedgerError(EnrichmentError):
    """The state directory or the ledger in it cannot be used."""


class TooLittleMemoryError(EnrichmentError):
    """The private DuckDB ran out of memory, or of disk."""


class LostOwnershipError(EnrichmentError):
    """Another run has taken over a shard that this run drove; nothing of it was changed."""


class ServiceError(EnrichmentError):
    """The batch service refused a call or failed.

    Attributes:
        status: The HTTP status code, or None where there was no reply.
        code: The service's own error code, such as `token_limit_exceeded`, or None.
        retry_after: Seconds that the service asked to wait, or None.
        is_of_tokens: Whether the quota of a deployment's enqueued tokens is what is used up.
        token_limit: How many tokens that quota has, where the service says so.
    """

    def __init__(
        self,
        problem: str,
        *,
        fix: str = "",
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        is_of_tokens: bool = False,
        token_limit: int | None = None,
    ) -> None:
        super().__init__(problem, fix=fix)
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.is_of_tokens = is_of_tokens
        self.token_limit = token_limit


class AuthenticationError(ServiceError):
    """The key or token was not accepted (401 or 403)."""


class NotFoundError(ServiceError):
    """A file, batch, deployment or model is not there (404)."""


class QuotaError(ServiceError):
    """The enqueued-token or file quota is used up: wait, then send the same again."""


class TransientError(ServiceError):
    """A call that had no effect and is worth repeating."""


class UnreadableReplyError(TransientError):
    """A reply that is not what was asked for: a proxy's page, or no Batch API at all."""


class UnknownOutcomeError(ServiceError):
    """A call whose reply was lost: the service may or may not have acted on it."""


class BatchFailedError(EnrichmentError):
    """The service failed a batch as a whole; none of its rows was answered."""


class FailedRowsError(EnrichmentError):
    """Rows failed with a kind that `fail_on` names."""


class StoppedError(EnrichmentError):
    """Too many answers failed in the same way; nothing more is sent, and what came is kept."""


class CapError(EnrichmentError):
    """What is about to be sent would pass a cap. Raised before anything is sent."""


class TaskChangedError(EnrichmentError):
    """The task changed, and `on_task_change` is `error`. Raised before anything is sent."""


class AwaitTimeoutError(EnrichmentError):
    """The service did not finish within `await_timeout`; its batches go on."""


class CancelledError(EnrichmentError):
    """The run was interrupted; what was submitted goes on at the service."""

    def __init__(
        self,
        problem: str = "interrupted; what was submitted goes on at the service, and the next dbt "
        "run collects it",
    ) -> None:
        super().__init__(problem)


@contextmanager
def concerning(
    *, model: str | None = None, shard: str | None = None, batch: str | None = None
) -> Iterator[None]:
    """Record of the errors that leave the block what they are about, where they do not say it.

    Args:
        model: The dbt model that is enriched.
        shard: The shard that is dealt with.
        batch: The id of its batch at the service.
    """
    try:
        yield
    except EnrichmentError as error:
        error.model = error.model or model
        error.shard = error.shard or shard
        error.batch = error.batch or batch
        raise


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise what the batch server raises as an error of ours, with its problem and fix.

    Raises:
        ConfigurationError: An option, a file or an installation is wrong.
        EnrichmentError: The batch server cannot go on.
    """
    try:
        yield
    except SetupError as error:
        raise ConfigurationError(error.problem, fix=error.fix) from error
    except BatchServerError as error:
        raise EnrichmentError(error.problem, fix=error.fix) from error
