"""Odd shapes in which the service was seen to write files and batches, for clients to survive.

Each changes a reply's JSON document: another spelling of a status, times as text, ids that are
empty rather than null. The reply means the same as before.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

Document = dict[str, Any]
_IDS = ("output_file_id", "error_file_id")


def reshape(document: Document, shape: str) -> Document:
    """Return a reply's document in another shape; a list's entries are changed one by one.

    Args:
        document: A file, a batch or a list of them.
        shape: One of `SHAPES`.
    """
    change = _CHANGES[shape]
    if document.get("object") != "list":
        return change(document)
    items = [change(item) for item in document.get("data") or []]
    if shape == "value_list":
        return {"value": items}
    return {**document, "data": items}


def _spelled(document: Document) -> Document:
    status = document.get("status")
    if not isinstance(status, str):
        return document
    return {**document, "status": "".join(part.title() for part in status.split("_"))}


def _american(document: Document) -> Document:
    if document.get("status") != "cancelled":
        return document
    return {**document, "status": "canceled"}


def _with_times(document: Document, change: Callable[[int], Any]) -> Document:
    return {
        name: change(value) if name.endswith("_at") and isinstance(value, int) else value
        for name, value in document.items()
    }


def _iso_times(document: Document) -> Document:
    return _with_times(document, lambda at: datetime.fromtimestamp(at, UTC).isoformat())


def _float_times(document: Document) -> Document:
    return _with_times(document, lambda at: at + 0.25)


def _no_times(document: Document) -> Document:
    return {name: value for name, value in document.items() if not name.endswith("_at")}


def _empty_ids(document: Document) -> Document:
    changed = {name: document[name] or "" for name in _IDS if name in document}
    return {**document, **changed}


def _no_ids(document: Document) -> Document:
    return {k: v for k, v in document.items() if k not in _IDS or v}


def _null_counts(document: Document) -> Document:
    return {**document, "request_counts": None} if "request_counts" in document else document


def _partly_null_counts(document: Document) -> Document:
    if "request_counts" not in document:
        return document
    counts = {"total": None, "completed": None, "failed": None}
    return {**document, "request_counts": counts}


def _null_endpoint(document: Document) -> Document:
    return {**document, "endpoint": None} if "endpoint" in document else document


def _single_error(document: Document) -> Document:
    errors = (document.get("errors") or {}).get("data")
    if not errors:
        return document
    first = {**errors[0], "line": str(errors[0].get("line"))}
    return {**document, "errors": {"object": "list", "data": first}}


def _unknown_fields(document: Document) -> Document:
    return {**document, "future": {"nested": [1, None, "x"]}, "kind": 7}


_CHANGES: dict[str, Callable[[Document], Document]] = {
    "odd_status": _spelled,
    "american_status": _american,
    "iso_times": _iso_times,
    "float_times": _float_times,
    "no_times": _no_times,
    "empty_ids": _empty_ids,
    "absent_ids": _no_ids,
    "null_counts": _null_counts,
    "partly_null_counts": _partly_null_counts,
    "null_endpoint": _null_endpoint,
    "single_error": _single_error,
    "unknown_fields": _unknown_fields,
    "value_list": lambda document: document,
}
SHAPES = tuple(_CHANGES)
