"""The columns that the tables of an enrichment have beside the user's own, with what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Column:
    """A column as a dbt project documents it."""

    name: str
    data_type: str
    description: str


STATUSES: Final[Mapping[str, str]] = {
    "done": "The row has a valid answer to what is asked now.",
    "pending": "The row is sent and not answered yet, or waits to be sent.",
    "stale": "The row was answered for another version of the task or of its own text. It keeps "
    "the previous outputs until the new answer is there (`on_pending`).",
    "failed": "The row has no valid answer. `enrichment_error` says why.",
    "skipped": "There is nothing to send: a column that `user` or `images` names is NULL or blank, "
    "and is not `optional`, or a picture is not there or cannot be sent.",
}
"""What `enrichment_status` says of a row, and what it means."""

# In the order of the alphabet, in which rows sort as they would by the text.
_STATUS = ", ".join(f"'{status}'" for status in sorted(STATUSES))
STATUS, KEY = "enrichment_status", "enrichment_key"
STATUS_COLUMNS = (
    Column(
        STATUS,
        f"enum({_STATUS})",
        "`done`; `pending`, sent and not answered, or waiting to be sent; `stale`, answered for "
        "another version of the task or of the row's text; `failed`; `skipped`, nothing to send.",
    ),
    Column("enrichment_error", "varchar", "Kind and message of the failure."),
    Column("enrichment_model", "varchar", "The model that answered, as the service names it."),
    Column("enrichment_batch_id", "varchar", "The batch that the answer came in."),
    Column("enriched_at", "timestamp with time zone", "When the answer was received."),
    Column(
        KEY,
        "uuid",
        "Identity of the request: a hash of the task and of what is sent.",
    ),
    Column("enrichment_version", "varchar", "Identity of the task that the outputs come from."),
)
ERROR_COLUMNS = (
    Column(KEY, "uuid", "Identity of the request, as in the enriched table."),
    Column("attempt", "integer", "Which attempt at the row failed, from 1."),
    Column("kind", "varchar", "Kind of the failure, such as `content_filter`."),
    Column("message", "varchar", "What went wrong."),
    Column("raw_answer", "varchar", "What the service answered, as it came."),
    Column("enrichment_model", "varchar", "The model that answered, as the service names it."),
    Column("enrichment_batch_id", "varchar", "The batch that the answer came in."),
    Column("received_at", "timestamp with time zone", "When the answer was received."),
    Column("status_code", "integer", "The HTTP status of the answer."),
    Column("sent_with", "varchar", "The settings that the attempt was sent with."),
    Column("retry_with", "varchar", "The command that has a row asked again that failed for good."),
)
STATUS_TYPES = {column.name: column.data_type for column in STATUS_COLUMNS}
ERROR_TYPES = {column.name: column.data_type for column in ERROR_COLUMNS}
