"""What the ledger keeps: shards with their steps, tasks, and publications."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


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


# Steps after which a shard holds no request any more.
CLOSED_STEPS = (Step.STORED, Step.RELEASED)


# Steps before a batch is asked for.
UNSENT_STEPS = (Step.CLAIMED, Step.EXPORTED, Step.UPLOADING, Step.UPLOADED)


# Steps at which the service has, or may have, the batch or some of the requests.
AT_SERVICE_STEPS = (
    Step.ANSWERING,
    Step.CREATING,
    Step.SUBMITTED,
    Step.ENDED,
    Step.DOWNLOADED,
)


@dataclass(frozen=True)
class Shard:
    """A row of `batches`: the requests of one input file, and what became of them.

    A request is a line of the file. `rows` is how many rows they ask: more than requests where
    several are packed into one, and None where a former version made the shard.
    One that is `synchronous` is no batch: its requests are asked one by one. `uploads_sought` says
    that the service was searched for files of uploads that got no reply. `settings` is what the
    requests are sent with, as JSON, or None where a former version made the shard. A run is stopped
    where more than `max_failed_share` of at least `least_answers` answers failed alike.
    """

    shard: str
    step: Step
    owner: str | None
    namespace: str
    service: str
    task_key: str
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
        return self.step in CLOSED_STEPS


@dataclass(frozen=True)
class Task:
    """A row of `tasks`: what was asked, as it was when it was first seen.

    Attributes:
        task_key: Its identity.
        enrichment: Unique id of the dbt model that asked it first.
        document: The canonical document that identifies it.
        outputs: Its output columns.
        first_seen_at: When that was.
    """

    task_key: str
    enrichment: str
    document: dict[str, Any]
    outputs: list[dict[str, Any]]
    first_seen_at: str


@dataclass(frozen=True)
class Publication:
    """A row of `publications`: what a model's table was made of last.

    Attributes:
        enrichment: The dbt model's unique id.
        name: The dbt model's name.
        model: The logical model that is asked.
        task_key: The task.
        counts: Rows by status; `kept` are those of the `done` ones whose answer is to a previous
            version of the task.
        published_at: When; the ledger sets it.
        relation: The table, quoted and qualified, or None if a former version published it.
        max_attempts: How often one of its rows is sent in all, or None likewise.
        ask_again: Kinds of failure that are asked again although they usually are not.
        target: The profile's target whose table it is, or None if a former version published it.
    """

    enrichment: str
    name: str
    model: str
    task_key: str
    counts: dict[str, int]
    published_at: str = ""
    relation: str | None = None
    max_attempts: int | None = None
    ask_again: tuple[str, ...] = ()
    target: str | None = None
