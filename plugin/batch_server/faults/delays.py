"""Replies that lag behind what has happened, as those of a service in several places do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Document = dict[str, Any]
_FILES = ("output_file_id", "error_file_id")


def _without_newest(document: Document) -> Document:
    """Leave the first entry out of a page of a list, which is newest first."""
    if document.get("object") != "list":
        return document
    return {**document, "data": document["data"][1:]}


def _without_files(document: Document) -> Document:
    """Leave the files out of a batch."""
    return {name: None if name in _FILES else value for name, value in document.items()}


# By the fault's name, what becomes of a reply's JSON document.
LATE: dict[str, Callable[[Document], Document]] = {
    "late_list": _without_newest,
    "late_files": _without_files,
}
