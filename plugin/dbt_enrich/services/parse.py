"""Reading what a batch service answers, in all the shapes that services were seen to use.

Pure functions from decoded JSON to the values of `dbt_enrich.services.base`. They read the JSON
itself, since the models of the `openai` package expect the documented shapes. Seen in documents
and in the wild: status in any case and `canceled`; times as int, float, ISO text or null; ids
that are null or empty; `errors.data` as one object; `line` as text; counts or their members null;
`value` for `data` in lists; error bodies of four kinds, or none in JSON at all.
"""

from __future__ import annotations

import email.utils
import json
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from dbt_enrich.services.base import (
    BatchError,
    BatchStatus,
    FileStatus,
    RemoteBatch,
    RemoteFile,
    RequestCounts,
)

logger = logging.getLogger(__name__)

_STATUSES: Final[Mapping[str, BatchStatus]] = {
    **{status.value.replace("_", ""): status for status in BatchStatus},
    "canceled": BatchStatus.CANCELLED,
    "canceling": BatchStatus.CANCELLING,
    "succeeded": BatchStatus.COMPLETED,
    "running": BatchStatus.IN_PROGRESS,
    "notrunning": BatchStatus.VALIDATING,
    "notstarted": BatchStatus.VALIDATING,
    "created": BatchStatus.VALIDATING,
    "queued": BatchStatus.VALIDATING,
    "pending": BatchStatus.VALIDATING,
}
# OpenAI no longer maintains the status, and leaves a file that is ready at `uploaded`; Azure
# documents that it never returns that one. So what is not said to be unready counts as ready.
_UNREADY: Final = frozenset({"pending", "running", "notrunning", "notstarted", "processing"})
_UNUSABLE: Final = frozenset({"error", "failed", "deleting", "deleted", "expired"})

_MARKUP: Final = re.compile(r"<(style|script)\b.*?</\1>|<[^>]*>", flags=re.DOTALL | re.IGNORECASE)
_LIMIT: Final = re.compile(r"limit of ([\d.,]+) ?([KMB]?)\b", re.IGNORECASE)
_UNITS: Final = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}
_MILLISECONDS_FROM: Final = 100_000_000_000
_LONGEST_MESSAGE: Final = 600
_LONGEST_CODE: Final = 80


class MalformedReplyError(ValueError):
    """A reply that is not what was asked for. Its text says what is wrong with it."""


@dataclass(frozen=True)
class Page:
    """One page of a list: `has_more` is None where the service does not say."""

    items: tuple[Mapping[str, Any], ...]
    has_more: bool | None
    last_id: str | None


@dataclass(frozen=True)
class ErrorDetail:
    """What the body of an error reply says."""

    code: str | None
    message: str


def parse_json(content: bytes | str) -> Any:
    """Decode JSON.

    Raises:
        MalformedReplyError: It is not JSON.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise MalformedReplyError("the reply is not JSON") from None


def parse_batch(
    data: object,
    headers: Mapping[str, str] | None = None,
    *,
    batch_id: str | None = None,
    masked: Callable[[str], str] = str,
) -> RemoteBatch:
    """Read a batch.

    Args:
        data: The decoded reply.
        headers: The reply's headers, for the enqueued tokens that Azure tells there.
        batch_id: The id that was asked for, for a reply without one.
        masked: Takes secrets out of what is logged.

    Raises:
        MalformedReplyError: `data` is not a batch.
    """
    body = parse_object(data)
    identity = _identity(body.get("id")) or batch_id
    if identity is None:
        raise MalformedReplyError("the reply has no id")
    blobs = {name: _identity(body.get(f"{name}_blob")) for name in ("input", "output", "error")}
    return RemoteBatch(
        id=identity,
        status=parse_status(body.get("status"), identity, masked),
        endpoint=_text(body.get("endpoint")),
        input_file_id=_identity(body.get("input_file_id")) or blobs["input"],
        output_file_id=_identity(body.get("output_file_id")) or blobs["output"],
        error_file_id=_identity(body.get("error_file_id")) or blobs["error"],
        metadata=_metadata(body.get("metadata")),
        counts=_counts(body.get("request_counts")),
        errors=parse_errors(body.get("errors")),
        created_at=parse_time(body.get("created_at")),
        reached_at=_reached_at(body),
        enqueued_tokens=_integer((headers or {}).get("deployment-enqueued-tokens")),
        max_enqueued_tokens=_integer((headers or {}).get("deployment-maximum-enqueued-tokens")),
        is_on_blob=blobs["input"] is not None,
    )


def _reached_at(body: Mapping[str, Any]) -> dict[str, datetime]:
    """Return when a batch came to each state, as far as the service tells."""
    times = {status.value: parse_time(body.get(f"{status}_at")) for status in BatchStatus}
    return {status: at for status, at in times.items() if at is not None}


def parse_file(data: object, *, file_id: str | None = None) -> RemoteFile:
    """Read a file's description.

    Args:
        data: The decoded reply.
        file_id: The id that was asked for, for a reply without one.

    Raises:
        MalformedReplyError: `data` is not a file.
    """
    body = parse_object(data)
    identity = _identity(body.get("id")) or file_id
    if identity is None:
        raise MalformedReplyError("the reply has no id")
    return RemoteFile(
        id=identity,
        filename=_text(body.get("filename")) or "",
        status=parse_file_status(body.get("status")),
        bytes=_integer(body.get("bytes")),
        created_at=parse_time(body.get("created_at")),
        expires_at=parse_time(body.get("expires_at")),
        status_details=_text(body.get("status_details")),
    )


def parse_page(data: object) -> Page:
    """Read one page of a list, whose items are under `data`, or under `value`, or alone.

    Raises:
        MalformedReplyError: `data` is not a list.
    """
    body: Mapping[str, Any] = {"data": data} if isinstance(data, list) else parse_object(data)
    items = body["data"] if isinstance(body.get("data"), list) else body.get("value")
    if not isinstance(items, list):
        raise MalformedReplyError("the reply is not a list")
    kept = tuple(item for item in items if isinstance(item, Mapping) and _identity(item.get("id")))
    if len(kept) != len(items):
        logger.warning("Left out %d entries without an id from a list", len(items) - len(kept))
    has_more = body.get("has_more")
    last_id = _text(body.get("last_id")) or (_text(kept[-1]["id"]) if kept else None)
    return Page(kept, has_more if isinstance(has_more, bool) else None, last_id)


def parse_status(value: object, batch_id: str, masked: Callable[[str], str] = str) -> BatchStatus:
    """Read a batch's status, whatever its case and spelling.

    An undocumented status counts as `in_progress`: the batch goes on being watched,
    and nothing is sent anew because of a word.
    """
    word = re.sub(r"[^a-z]", "", value.lower()) if isinstance(value, str) else ""
    status = _STATUSES.get(word)
    if status is None:
        shown = _clean(masked(str(value)), 40)
        logger.warning("Batch %s has the unknown status %r: taken as in progress", batch_id, shown)
        return BatchStatus.IN_PROGRESS
    return status


def parse_file_status(value: object) -> FileStatus:
    """Read a file's status; a missing one means that the service does not need a wait."""
    word = re.sub(r"[^a-z]", "", value.lower()) if isinstance(value, str) else ""
    if word in _UNREADY:
        return FileStatus.PENDING
    return FileStatus.ERROR if word in _UNUSABLE else FileStatus.PROCESSED


def parse_errors(value: object) -> tuple[BatchError, ...]:
    """Read a batch's `errors`: a list object, one object under `data`, a bare list or object."""
    entries: object = value
    if isinstance(value, Mapping) and ("data" in value or "code" not in value):
        entries = value.get("data")
    if entries is None or entries == "":
        return ()
    listed = entries if isinstance(entries, list) else [entries]
    return tuple(_batch_error(entry) for entry in listed if entry is not None)


def parse_time(value: object) -> datetime | None:
    """Read a time in seconds or milliseconds of the epoch, or in ISO 8601, as UTC."""
    if isinstance(value, str):
        return _time_of_text(value.strip())
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return _time_of_number(value)


def parse_retry_after(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """Read how many seconds the service asks to wait.

    Args:
        headers: The reply's headers, with names that are compared without case.
        now: The time in seconds of the epoch; the clock's, if None.

    Returns:
        Seconds, never negative, from `retry-after-ms` or `Retry-After` (seconds or an HTTP
        date), or None if it asks for nothing that can be read.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        seconds = _number(headers.get(name))
        if seconds is not None:
            return max(0.0, seconds / unit)
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after") or "")
    except (ValueError, TypeError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, date.timestamp() - (time.time() if now is None else now))


def parse_error(content: bytes | str) -> ErrorDetail:
    """Read an error body: OpenAI's, Azure's, a gateway's, or any text."""
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    try:
        return error_detail(parse_json(text))
    except MalformedReplyError:
        plain = _MARKUP.sub(" ", text)
        return ErrorDetail(None, _clean(plain, _LONGEST_MESSAGE))


def error_detail(data: object) -> ErrorDetail:
    """Read a decoded error body.

    Known are `{"error": {"code", "message", ...}}`, `{"error": "..."}`, the body of Azure's
    gateway `{"statusCode": 401, "message": ...}`, `{"detail": ...}` and a plain text.
    """
    if isinstance(data, str):
        return ErrorDetail(None, _clean(data, _LONGEST_MESSAGE))
    if not isinstance(data, Mapping):
        return ErrorDetail(None, "")
    inner = data.get("error")
    if isinstance(inner, str):
        spoken = data.get("message") or data.get("error_description") or inner
        return ErrorDetail(_code(inner), _clean(str(spoken), _LONGEST_MESSAGE))
    body = inner if isinstance(inner, Mapping) else data
    spoken = body.get("message") or body.get("detail") or body.get("title") or ""
    code = _code(body.get("code")) or _code(body.get("type"))
    if not isinstance(spoken, str):
        spoken = json.dumps(spoken, default=str)
    return ErrorDetail(code, _clean(spoken, _LONGEST_MESSAGE))


def limit_in(text: str) -> int | None:
    """Return the limit that a refusal names, such as `the configured limit of 30K`, or None."""
    found = _LIMIT.search(text)
    if not found:
        return None
    try:
        return int(float(found[1].rstrip(".,").replace(",", "")) * _UNITS[found[2].upper()]) or None
    except ValueError:
        return None


def is_error(data: object) -> bool:
    """Whether a reply with a good status carries an error in place of what was asked for."""
    if not isinstance(data, Mapping) or "status" in data or "id" in data:
        return False
    return bool(data.get("error")) or ("statusCode" in data and "message" in data)


def parse_object(data: object) -> Mapping[str, Any]:
    """Return a reply that is a JSON object; raise a `MalformedReplyError` for any other."""
    if not isinstance(data, Mapping):
        raise MalformedReplyError("the reply is not a JSON object")
    return data


def _text(value: object) -> str | None:
    """A text that can be stored, or None for what is empty. Lone surrogates are replaced."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    return str(value).encode("utf-8", "replace").decode().strip() or None


def _identity(value: object) -> str | None:
    """An id, or None for what cannot be one: SQL and headers end at a NUL."""
    text = _text(value)
    return None if text is None or "\x00" in text else text


def _clean(text: str, most: int) -> str:
    """`text` on one line, without control characters, of at most `most` characters."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text).split())
    line = line.encode("utf-8", "replace").decode()
    return line if len(line) <= most else line[: most - 1] + "…"


def _code(value: object) -> str | None:
    text = _text(value)
    return _clean(text, _LONGEST_CODE) if text else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _integer(value: object) -> int | None:
    number = _number(value)
    return None if number is None or number < 0 else int(number)


def _time_of_number(seconds: float) -> datetime | None:
    try:
        if abs(seconds) >= _MILLISECONDS_FROM:
            seconds = seconds / 1000
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    except (ValueError, OverflowError, OSError):
        return None


def _time_of_text(text: str) -> datetime | None:
    number = _number(text)
    # "20240412" is a date in ISO's basic form, not a second of August 1970.
    if number is not None and number >= _MILLISECONDS_FROM / 1000:
        return _time_of_number(number)
    try:
        time_read = datetime.fromisoformat(text)
    except ValueError:
        return None
    if time_read.tzinfo is None:
        return time_read.replace(tzinfo=UTC)
    try:
        return time_read.astimezone(UTC)
    except OverflowError:
        return None


def _metadata(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    pairs = ((_text(key), _text(item)) for key, item in value.items())
    return {key: item or "" for key, item in pairs if key}


def _counts(value: object) -> RequestCounts:
    if not isinstance(value, Mapping):
        return RequestCounts()
    return RequestCounts(
        total=_integer(value.get("total")) or 0,
        completed=_integer(value.get("completed")) or 0,
        failed=_integer(value.get("failed")) or 0,
    )


def _batch_error(entry: object) -> BatchError:
    if not isinstance(entry, Mapping):
        return BatchError(code="unknown", message=_clean(str(entry), _LONGEST_MESSAGE))
    return BatchError(
        code=_code(entry.get("code")) or "unknown",
        message=_clean(_text(entry.get("message")) or "", _LONGEST_MESSAGE),
        line=_integer(entry.get("line")),
        param=_text(entry.get("param")),
    )
