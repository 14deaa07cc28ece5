"""Files at the resource: uploaded, waited for, listed, read, expired and deleted. Knows no HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from batch_server.errors import Flavour, WireError, invalid, not_found
from batch_server.records import FILE
from batch_server.refusals import quoted
from batch_server.storage import Storage
from batch_server.transitions import Transition
from batch_server.wire import new_id

_MAX_FILES = 10_000
_MAX_LASTING_FILES = 500
_DAY = 86_400
# Azure takes 14 to 30 days, OpenAI one hour to 30 days.
_EXPIRY = {True: (14 * _DAY, 30 * _DAY), False: (3_600, 30 * _DAY)}
_LONGEST_NAME = 255


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
        self.max_lasting_files = _MAX_LASTING_FILES
        self.storage = storage
        storage.pass_over("file", FILE)
        self._clock = clock
        self._transition = transition
        self._lock = threading.RLock()

    def add(
        self,
        stream: BinaryIO,
        *,
        filename: str,
        purpose: str,
        expires_after: int | None,
        flavour: Flavour,
    ) -> dict[str, Any]:
        """Keep an uploaded file.

        Args:
            stream: Its content.
            filename: The name that its owner gave it.
            purpose: Only `batch` is known.
            expires_after: Seconds after which it is deleted, or None.
            flavour: Whose rules on expiry apply.
        """
        if purpose != "batch":
            raise invalid(f"The purpose {quoted(purpose)} is not supported; use batch.", "purpose")
        if expires_after is not None:
            check_expiry(expires_after, flavour)
        elif not flavour.is_azure:
            expires_after = 30 * _DAY
        self._check_quota(expires=expires_after is not None)
        now = int(self._clock())
        record = {
            "id": new_id("file-"),
            "created_at": now,
            "filename": filename[:_LONGEST_NAME],
            "purpose": purpose,
            "status": "pending",
            "polls": 0,
            "expires_at": now + expires_after if expires_after else None,
        }
        record["bytes"] = self.storage.write_content(str(record["id"]), stream)
        with self._lock:
            self.storage.put("file", record)
            return self._now(record, polled=False)

    def keep_result(
        self, file_id: str, *, filename: str, size: int, expires_after: int | None
    ) -> None:
        """Note a file that a batch has written already."""
        now = int(self._clock())
        self.storage.put(
            "file",
            {
                "id": file_id,
                "bytes": size,
                "created_at": now,
                "filename": filename,
                "purpose": "batch_output",
                "status": "processed",
                "polls": 0,
                "expires_at": now + expires_after if expires_after else None,
            },
        )

    def get(self, file_id: str, *, polled: bool = True) -> dict[str, Any]:
        """Return a file as it stands now."""
        with self._lock:
            record = self.storage.get("file", file_id)
            if record is None or self._is_expired(record):
                raise not_found("file", file_id)
            return self._now(record, polled=polled)

    def all(self) -> list[dict[str, Any]]:
        """Return all files, newest first."""
        with self._lock:
            records = self.storage.all("file")[::-1]
            return [self._now(r, polled=False) for r in records if not self._is_expired(r)]

    def content(self, file_id: str) -> Path:
        """Return where a file's content lies."""
        self.get(file_id, polled=False)
        return self.storage.content(file_id)

    def delete(self, file_id: str) -> None:
        """Delete a file and its content."""
        if not self.storage.remove("file", file_id):
            raise not_found("file", file_id)
        self.storage.content(file_id).unlink(missing_ok=True)

    def _check_quota(self, *, expires: bool) -> None:
        """Refuse an upload beyond the quota on input files, which is smaller for lasting ones."""
        inputs = [record for record in self.all() if record["purpose"] == "batch"]
        lasting = sum(record["expires_at"] is None for record in inputs)
        if not expires and lasting >= self.max_lasting_files:
            raise WireError(
                400,
                "quotaExceeded",
                "The quota for files without expiry is reached. The maximum is "
                f"{self.max_lasting_files}.",
            )
        if len(inputs) >= self.max_files:
            raise WireError(
                400,
                "quotaExceeded",
                f"The quota for files is reached. The maximum is {self.max_files}.",
            )

    def _is_expired(self, record: dict[str, Any]) -> bool:
        """Whether a file's time is over; its content is deleted then."""
        if record["expires_at"] is None or self._clock() < record["expires_at"]:
            return False
        self.storage.remove("file", record["id"])
        self.storage.content(record["id"]).unlink(missing_ok=True)
        return True

    def _now(self, record: dict[str, Any], *, polled: bool) -> dict[str, Any]:
        if record["status"] != "pending":
            return record
        record["polls"] += int(polled)
        seconds = self._clock() - record["created_at"]
        if self._transition().is_over(polls=record["polls"], seconds=seconds):
            record["status"] = "processed"
        self.storage.put("file", record)
        return record


def check_expiry(seconds: int, flavour: Flavour) -> None:
    """Refuse an expiry outside of what the service takes."""
    least, most = _EXPIRY[flavour.is_azure]
    if not least <= seconds <= most:
        raise invalid(
            f"'expires_after.seconds' is {seconds}; it must be from {least} to {most}.",
            "expires_after.seconds",
        )
