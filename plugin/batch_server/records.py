"""What the emulator keeps of files, batches and results, to be known again when it starts anew.

Only what the code relies on is named: a record may have been written by another version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import ConfigDict, Field, InstanceOf, TypeAdapter, with_config
from typing_extensions import TypedDict

_Status = Literal[
    "validating", "in_progress", "finalizing", "cancelling",
    "completed", "failed", "expired", "cancelled",
]  # fmt: skip
# Also one with lone surrogates, which an earlier version let through.
_AnyText = InstanceOf[str]
# A content's name in the directory.
_FileId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]


@with_config(ConfigDict(strict=True, extra="allow"))
class FileRecord(TypedDict):
    """A file."""

    id: _FileId
    bytes: int
    created_at: int
    filename: _AnyText
    purpose: str
    status: Literal["pending", "processed", "error"]
    polls: int
    expires_at: int | None


@with_config(ConfigDict(strict=True, extra="allow"))
class BatchRecord(TypedDict):
    """A batch."""

    id: _FileId
    endpoint: str
    input_file_id: _FileId | None
    input_blob: NotRequired[str]
    output_folder: NotRequired[str]
    input_version: NotRequired[str]
    completion_window: str
    metadata: dict[_AnyText, Any] | None
    status: _Status
    created_at: int
    entered_at: float
    expires_at: float
    polls: int
    flavour: Literal["azure_classic", "azure_v1", "openai"]
    ending: dict[str, Any]
    errors: list[dict[_AnyText, Any]]
    requests: NotRequired[int]
    deployment: NotRequired[_AnyText | None]
    tokens: NotRequired[int]
    usage: NotRequired[dict[str, int]]
    output_expires_after: NotRequired[int | None]


@with_config(ConfigDict(strict=True, extra="allow"))
class ResultRecord(TypedDict):
    """The answer to a request of a batch."""

    index: int
    custom_id: _AnyText
    failed: bool
    lines: list[_AnyText]
    usage: NotRequired[dict[str, int]]


def content_of(batch: Mapping[str, Any]) -> str:
    """Return the name of the content that a batch reads: its file's, or that of a blob's copy."""
    return str(batch["input_file_id"] or f"blob-{batch['id']}")


FILE: Final = TypeAdapter(FileRecord)
BATCH: Final = TypeAdapter(BatchRecord)
RESULT: Final = TypeAdapter(ResultRecord)
