"""A shard, and the steps that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict

from dbt_enrich.task.endpoint_names import EndpointName


class Step(StrEnum):
    """How far a shard has come. Each is an event; the newest is the shard's step."""

    CLAIMED = "claimed"
    EXPORTED = "exported"
    ANSWERING = "answering"
    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    CREATING = "creating"
    SUBMITTED = "submitted"
    ENDED = "ended"
    DOWNLOADED = "downloaded"
    STORED = "stored"
    RELEASED = "released"

    @property
    def is_unsent(self) -> bool:
        """Whether no batch has been asked for: nothing is paid."""
        return self in (Step.CLAIMED, Step.EXPORTED, Step.UPLOADING, Step.UPLOADED)

    @property
    def is_at_service(self) -> bool:
        """Whether the service has, or may have, the batch or some of the requests."""
        return not (self.is_unsent or self.is_closed)

    @property
    def is_closed(self) -> bool:
        """Whether the shard holds no request any more."""
        return self in (Step.STORED, Step.RELEASED)

    @property
    def is_running(self) -> bool:
        """Whether the service is answering."""
        return self in (Step.ANSWERING, Step.SUBMITTED)

    @property
    def has_ended(self) -> bool:
        """Whether the service has answered all that it will."""
        return self in (Step.ENDED, Step.DOWNLOADED, Step.STORED)

    @property
    def holds_tokens(self) -> bool:
        """Whether the batch counts, or may count, against the quota of its deployment."""
        return self in (Step.CREATING, Step.SUBMITTED)

    @property
    def awaits_transfer(self) -> bool:
        """Whether a shard that stays at the step waits for a file, or for its turn."""
        return self in (Step.EXPORTED, Step.UPLOADING, Step.ENDED)


# The status of a batch that the service no longer knows.
GONE = "missing"


class ShardChanges(TypedDict, total=False):
    """Columns of a shard that may be changed once it is claimed; see `Shard`."""

    deployment: str | None
    requests: int
    rows: int | None
    bytes: int
    input_file_id: str | None
    batch_id: str | None
    output_file_id: str | None
    error_file_id: str | None
    status: str | None
    completed: int
    failed: int
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None
    error: str | None
    settings: str | None
    max_failed_share: float | None
    least_answers: int | None


@dataclass(frozen=True)
class Shard:
    """A row of `batches`: the requests of one input file, and what became of them.

    A request is a line of the file, which asks the `endpoint` of that name. `rows` is how many rows
    they ask: more than requests where several are packed into one, and None where a previous
    version made the shard.
    The batch of one that is `synchronous` is the relay's, which asks its requests one by one at
    the service; its ids are the relay's. An earlier version asked without a batch, at the step
    `answering`. `uploads_sought` says
    that the service was searched for files of uploads that got no reply. `settings` is what the
    requests are sent with, as JSON, or None where an earlier version made the shard. A run is
    stopped where more than `max_failed_share` of at least `least_answers` answers failed alike.
    """

    shard: str
    step: Step
    owner: str | None
    namespace: str
    service: str
    task_key: str
    endpoint: str = EndpointName.CHAT
    enrichment: str | None = None
    model: str | None = None
    deployment: str | None = None
    requests: int = 0
    bytes: int = 0
    input_file_id: str | None = None
    batch_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    status: str | None = None
    completed: int = 0
    failed: int = 0
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    error: str | None = None
    cancel_requested_at: str | None = None
    estimated_prompt_tokens: int | None = None
    estimated_completion_tokens: int | None = None
    rows: int | None = None
    synchronous: bool = False
    uploads_sought: bool = False
    settings: str | None = None
    max_failed_share: float | None = None
    least_answers: int | None = None
    created_at: str = ""
    updated_at: str = ""

    @property
    def row_count(self) -> int:
        """How many rows the requests ask."""
        return self.requests if self.rows is None else self.rows

    def rows_of(self, requests: int) -> int:
        """Return about how many rows some of the requests ask."""
        return requests * self.row_count // self.requests if self.requests else 0

    @property
    def is_closed(self) -> bool:
        """Whether the shard holds no request any more."""
        return self.step.is_closed
