"""What the emulator keeps on disk: files, batches and results, safe against a crash.

A SQLite database holds the records; the contents are files beside it. Results are appended to one
file a batch as they come, so that a server that is killed in the middle of a batch goes on behind
the last whole line and answers no request twice.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from batch_server.plain_json import json_bytes, read_json
from batch_server.problems import BatchServerError
from batch_server.records import RESULT

logger = logging.getLogger(__name__)
_SYNC_SECONDS = 0.5
# A predecessor that is ending lets go within this time.
_LOCK_SECONDS = 20
_SCHEMA = """
create table if not exists records (
    kind text not null,
    id text not null,
    place integer not null,
    document text not null,
    primary key (kind, id)
) strict
"""


class Storage:
    """The emulator's directory.

    Args:
        directory: It is made, private to its owner, where it is not there.
        durable: Whether each record is on the disk before the next step, so that it outlives the
            loss of power, too.
        patience: Seconds for which a predecessor that is ending is waited for.

    Raises:
        BatchServerError: Another emulator works on it.
    """

    def __init__(
        self, directory: Path, *, durable: bool = False, patience: float = _LOCK_SECONDS
    ) -> None:
        self.directory = directory
        for path in (directory, directory / "files", directory / "results"):
            _make_private(path)
        self._directory_lock = FileLock(
            directory / "server.lock", mode=0o600, thread_local=False, timeout=patience
        )
        try:
            self._directory_lock.acquire()
        except Timeout as error:
            raise BatchServerError(
                f"another emulator works on the directory {directory}",
                fix="end it, or give this one another directory",
            ) from error
        database = directory / "emulator.sqlite"
        database.touch(mode=0o600)
        self._sqlite = sqlite3.connect(database, check_same_thread=False, isolation_level=None)
        self._sqlite.execute("pragma journal_mode = wal")
        level = "full" if durable else "normal"
        self._sqlite.execute(f"pragma synchronous = {level}")
        self._sqlite.execute(_SCHEMA)
        self._lock = threading.RLock()
        self._unreadable: set[tuple[str, str]] = set()

    def pass_over(self, kind: str, record: TypeAdapter[Any]) -> None:
        """Pass over what is on the disk and is no record; the log says what.

        Args:
            kind: The kind that is looked at.
            record: What a record of it is.
        """
        with self._lock:
            rows = self._sqlite.execute(
                "select id, document from records where kind = ?", (kind,)
            ).fetchall()
            for identifier, document in rows:
                try:
                    found = record.validate_python(json.loads(document))
                except (ValueError, RecursionError) as error:
                    problem = str(error)
                else:
                    problem = "" if found["id"] == identifier else "it has another id"
                if problem:
                    self._unreadable.add((kind, identifier))
                    logger.warning(
                        "the %s %s in %s cannot be read and is passed over: %s",
                        kind, identifier, self.directory, problem,
                    )  # fmt: skip

    def close(self) -> None:
        """Close the database and let go of the directory."""
        with self._lock:
            self._sqlite.close()
        self._directory_lock.release()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._sqlite.execute("delete from records")
            self._unreadable.clear()
            for name in ("files", "results"):
                shutil.rmtree(self.directory / name)
                (self.directory / name).mkdir(mode=0o700)

    def put(self, kind: str, document: dict[str, Any]) -> None:
        """Write a record; a new one takes the last place."""
        with self._lock:
            self._sqlite.execute(
                "insert into records values (?, ?, (select coalesce(max(place), 0) + 1 from "
                "records), ?) on conflict do update set document = excluded.document",
                (kind, document["id"], json.dumps(document)),
            )

    def get(self, kind: str, identifier: str) -> dict[str, Any] | None:
        """Return a record, or None."""
        with self._lock:
            row = self._sqlite.execute(
                "select document from records where kind = ? and id = ?", (kind, identifier)
            ).fetchone()
        if row is None or (kind, identifier) in self._unreadable:
            return None
        return dict(json.loads(row[0]))

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Return all records of a kind, oldest first."""
        with self._lock:
            rows = self._sqlite.execute(
                "select id, document from records where kind = ? order by place", (kind,)
            ).fetchall()
        return [json.loads(row[1]) for row in rows if (kind, row[0]) not in self._unreadable]

    def remove(self, kind: str, identifier: str) -> bool:
        """Remove a record; say whether it was there."""
        with self._lock:
            cursor = self._sqlite.execute(
                "delete from records where kind = ? and id = ?", (kind, identifier)
            )
        return cursor.rowcount == 1

    def content(self, file_id: str) -> Path:
        """The content of a file; the id is one that `put` was given."""
        return self.directory / "files" / file_id

    def write_content(self, file_id: str, source: BinaryIO) -> int:
        """Copy a stream to a file's content, whole or not at all; return its bytes."""
        temporary = self.directory / "files" / f".{file_id}"
        with open(temporary, "wb", opener=_private) as target:
            shutil.copyfileobj(source, target, 1 << 20)
            size = target.tell()
            target.flush()
            os.fsync(target.fileno())
        temporary.replace(self.content(file_id))
        return size

    def results(self, batch_id: str) -> Results:
        """The results of a batch so far."""
        return Results(self.directory / "results" / f"{batch_id}.jsonl")


class Results:
    """The results of one batch: an append-only file of one JSON object a line.

    Each line is `{"index": …, "custom_id": …, "failed": …, "lines": […]}`: the request's place in
    its input file and the lines that go into the output or error file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def answered(self) -> dict[int, bool]:
        """Return the place of each answered request, and whether it failed.

        A last line that a crash cut off is removed.
        """
        self._drop_partial_line()
        return {int(result["index"]): bool(result["failed"]) for result in self}

    @contextmanager
    def appending(self) -> Iterator[Callable[[dict[str, Any]], None]]:
        """Yield a function that adds one result.

        Each result is handed to the system at once, so that it outlives the death of the process,
        and the disk is synced now and then, so that few are lost with the power.
        """
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        synced_at = time.monotonic()

        def append(result: dict[str, Any]) -> None:
            nonlocal synced_at
            data = memoryview(json_bytes(result) + b"\n")
            while data:
                data = data[os.write(descriptor, data) :]
            if time.monotonic() - synced_at > _SYNC_SECONDS:
                os.fsync(descriptor)
                synced_at = time.monotonic()

        try:
            yield append
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def add(self, results: Iterable[dict[str, Any]]) -> None:
        """Add results, on the disk before this returns: all of them, or none on a full disk."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        size = os.fstat(descriptor).st_size
        data = memoryview(b"".join(json_bytes(result) + b"\n" for result in results))
        try:
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
        finally:
            os.close(descriptor)

    @property
    def sent(self) -> Sent:
        """Which requests were sent, whatever became of them."""
        return Sent(self.path.with_suffix(".sent"))

    def remove(self) -> None:
        """Forget all of it."""
        self.path.unlink(missing_ok=True)
        self.sent.path.unlink(missing_ok=True)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in file:
                result = self._read(line) if line.endswith(b"\n") else None
                if result is not None:
                    yield result

    def offsets(self) -> list[int]:
        """Return where each line begins."""
        found = []
        if self.path.exists():
            with self.path.open("rb") as file:
                position = 0
                for line in file:
                    found.append(position)
                    position += len(line)
        return found

    def at(self, offsets: list[int]) -> Iterator[dict[str, Any]]:
        """Yield the results whose lines begin at the given places."""
        if not offsets:
            return
        with self.path.open("rb") as file:
            for offset in offsets:
                file.seek(offset)
                result = self._read(file.readline())
                if result is not None:
                    yield result

    def _read(self, line: bytes) -> dict[str, Any] | None:
        """Return a result, or None for a line that is none: the disk's trouble, not a request's."""
        try:
            return dict(RESULT.validate_python(read_json(line)))
        except (ValueError, RecursionError) as error:
            logger.warning("a result in %s cannot be read and is passed over: %s", self.path, error)
            return None

    def _drop_partial_line(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb+") as file:
            end = file.seek(0, os.SEEK_END)
            while end > 0:
                start = max(0, end - (1 << 16))
                file.seek(start)
                block = file.read(end - start)
                place = block.rfind(b"\n")
                if place >= 0:
                    file.truncate(start + place + 1)
                    return
                end = start
            file.truncate(0)


class Sent:
    """The places of a batch's requests that were sent: an append-only file of marks.

    Each mark is handed to the system before the request goes, so that it outlives the death of
    the process. What it says of a request that has no result is that its outcome is unknown.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def marking(self) -> Iterator[Callable[[int, bool], None]]:
        """Yield a function that notes of a place that it was sent, or that nothing of it began."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

        def mark(index: int, began: bool) -> None:
            os.write(descriptor, b"%s%d\n" % (b"+" if began else b"-", index))

        try:
            yield mark
        finally:
            os.close(descriptor)

    def places(self) -> set[int]:
        """Return the places that were sent and not taken back."""
        found: set[int] = set()
        if not self.path.exists():
            return found
        with self.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n") and line[1:-1].isdigit():
                    change = found.add if line.startswith(b"+") else found.discard
                    change(int(line[1:]))
        return found


def sync(path: Path) -> None:
    """Have a file on the disk before the next step."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _make_private(directory: Path) -> None:
    """Make a directory and its missing parents, each for its owner alone."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        # `mkdir(parents=True)` gives its mode to the last one only.
        path.mkdir(exist_ok=True, mode=0o700)
