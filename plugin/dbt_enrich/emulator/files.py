"""Files at the resource: uploaded, waited for, listed, read and deleted. Knows no HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from dbt_enrich.emulator.errors import WireError, invalid, not_found
from dbt_enrich.emulator.storage import Storage
from dbt_enrich.emulator.transitions import Transition
from dbt_enrich.emulator.wire import new_id

_MAX_FILES = 10_000


class Files:
    """The files of a resource.

    Args:
        storage: Where they are kept.
        clock: The time in seconds since 1970.
        transition: When an uploaded file is processed, as it is set now.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        clock: Callable[[], float],
        transition: Callable[[], Transition],
    ) -> None:
        self.max_files = _MAX_FILES
        self.storage = storage
        self._clock = clock
        self._transition = transition
        self._lock = threading.RLock()

    def add(
        self, stream: BinaryIO, *, filename: str, purpose: str, expires_after: int | None
    ) -> dict[str, Any]:
        """Keep an uploaded file."""
        if purpose != "batch":
            raise invalid(f"The purpose '{purpose}' is not supported; use batch.")
        if len(self.storage.all("file")) >= self.max_files:
            raise WireError(
                400, "quotaExceeded", f"The quota for files is reached. It is {self.max_files}."
            )
        now = int(self._clock())
        record = {
            "id": new_id("file-"),
            "created_at": now,
            "filename": filename,
            "purpose": purpose,
            "status": "pending",
            "polls": 0,
            "expires_at": now + expires_after if expires_after else None,
        }
        record["bytes"] = self.storage.write_content(str(record["id"]), stream)
        with self._lock:
            self.storage.put("file", record)
            return self._now(record, polled=False)

    def get(self, file_id: str, *, polled: bool = True) -> dict[str, Any]:
        """Return a file as it stands now."""
        with self._lock:
            record = self.storage.get("file", file_id)
            if record is None:
                raise not_found("file", file_id)
            return self._now(record, polled=polled)

    def all(self) -> list[dict[str, Any]]:
        """Return all files, newest first."""
        with self._lock:
            return [self._now(r, polled=False) for r in self.storage.all("file")][::-1]

    def content(self, file_id: str) -> Path:
        """Return where a file's content lies."""
        self.get(file_id, polled=False)
        return self.storage.content(file_id)

    def delete(self, file_id: str) -> None:
        """Delete a file and its content."""
        if not self.storage.remove("file", file_id):
            raise not_found("file", file_id)
        self.storage.content(file_id).unlink(missing_ok=True)

    def _now(self, record: dict[str, Any], *, polled: bool) -> dict[str, Any]:
        if record["status"] != "pending":
            return record
        record["polls"] += int(polled)
        seconds = self._clock() - record["created_at"]
        if self._transition().is_over(polls=record["polls"], seconds=seconds):
            record["status"] = "processed"
        self.storage.put("file", record)
        return record
