"""What the emulator keeps on disk: files, batches and results, safe against a crash.

A SQLite database holds the records; the contents are files beside it. Results are appended to one
file a batch as they come, so that a server that is killed in the middle of a batch goes on behind
the last whole line and answers no request twice.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

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
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for path in (directory, directory / "files", directory / "results"):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        database = directory / "emulator.sqlite"
        database.touch(mode=0o600)
        self._sqlite = sqlite3.connect(database, check_same_thread=False, isolation_level=None)
        self._sqlite.execute("pragma journal_mode = wal")
        self._sqlite.execute("pragma synchronous = normal")
        self._sqlite.execute(_SCHEMA)
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._sqlite.close()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._sqlite.execute("delete from records")
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
        return None if row is None else json.loads(row[0])

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Return all records of a kind, oldest first."""
        with self._lock:
            rows = self._sqlite.execute(
                "select document from records where kind = ? order by place", (kind,)
            ).fetchall()
        return [json.loads(row[0]) for row in rows]

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

    def append(self, results: list[dict[str, Any]]) -> None:
        """Add results and make sure that they are on disk."""
        text = "".join(json.dumps(result, ensure_ascii=False) + "\n" for result in results)
        with open(self.path, "ab", opener=_private) as file:
            file.write(text.encode("utf-8", "surrogatepass"))
            file.flush()
            os.fsync(file.fileno())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield json.loads(line.decode("utf-8", "surrogatepass"))

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


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
