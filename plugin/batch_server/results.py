"""The output and error file of a batch that has ended, written from its results so far."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from batch_server.checking import parse_line
from batch_server.errors import Flavour
from batch_server.files import Files
from batch_server.model_endpoints import plain
from batch_server.responders.base import ChatRequest
from batch_server.storage import Results, sync
from batch_server.wire import new_id, unanswered_line


def requests_of(path: Path, skip: set[int]) -> Iterator[ChatRequest]:
    """Yield the requests of an input file whose places are not in `skip`, lazily."""
    with path.open("rb") as file:
        for index, raw in enumerate(file):
            if index in skip or not raw.strip():
                continue
            line = parse_line(raw)
            yield ChatRequest(
                index=index, custom_id=line["custom_id"], body=line["body"], path=plain(line["url"])
            )


def write_results(
    record: dict[str, Any],
    status: str,
    *,
    files: Files,
    results: Results,
    unanswered: Callable[[set[int]], Iterable[ChatRequest]],
    shuffle: random.Random,
) -> dict[str, Any]:
    """Write a batch's output and error file, in an order that is not the input's.

    Args:
        record: The batch.
        status: The status in which it ends.
        files: Takes the two files.
        results: What was answered.
        unanswered: Yields the requests at none of the given places.
        shuffle: Decides the order.

    Returns:
        What the batch's record is to say: the ids of its files and its tokens.
    """
    flavour = Flavour(record["flavour"])
    offsets = results.offsets()
    shuffle.shuffle(offsets)
    output, error = _ResultFile(files, "output"), _ResultFile(files, "error")
    answered: set[int] = set()
    usage: Counter[str] = Counter()
    with output, error:
        for result in results.at(offsets):
            answered.add(result["index"])
            usage.update(result.get("usage") or {})
            target = error if result["failed"] else output
            target.write(result["lines"])
        if status in ("expired", "cancelled"):
            for request in unanswered(answered):
                line = unanswered_line(request.custom_id, status, flavour)
                error.write([json.dumps(line)])
    expiry = record.get("output_expires_after")
    # Azure gives a batch without a failure an error file all the same, of no bytes.
    empty = flavour.is_azure and status == "completed"
    return {
        "output_file_id": output.keep(expiry),
        "error_file_id": error.keep(expiry, even_if_empty=empty),
        "usage": dict(usage),
    }


class _ResultFile:
    """A file that a batch writes."""

    def __init__(self, files: Files, kind: str) -> None:
        self._files = files
        self._kind = kind
        self._id = new_id("file-")
        self._path = files.storage.content(self._id)

    def __enter__(self) -> None:
        self._file = self._path.open("wb")
        self._path.chmod(0o600)

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._file.write(line.encode("utf-8", "surrogatepass") + b"\n")

    def keep(self, expires_after: int | None, *, even_if_empty: bool = False) -> str | None:
        """Make the file one of the resource's, unless it holds nothing; return its id."""
        sync(self._path)
        size = self._path.stat().st_size
        if size == 0 and not even_if_empty:
            self._path.unlink()
            return None
        name = f"{self._kind}.jsonl"
        self._files.keep_result(self._id, filename=name, size=size, expires_after=expires_after)
        return self._id
