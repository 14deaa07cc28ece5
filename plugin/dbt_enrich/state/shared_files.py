"""The files of a state that several machines share: in a bucket, with copies on this disk.

A copy of a name is as good as the file itself, which nobody changes. So a copy is never looked
after; one that was not used for long, or for which there is no space, is removed.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from dbt_enrich.buckets.bucket import Bucket, ObjectGoneError
from dbt_enrich.clock import Clock
from dbt_enrich.errors import LedgerError
from dbt_enrich.files import link_or_copy, make_private, settle
from dbt_enrich.state.bucket_sweep import sweep_bucket
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.file_digests import is_whole
from dbt_enrich.state.file_store import FileKind, StateFile, path_in
from dbt_enrich.state.ledger import Ledger

_T = TypeVar("_T")
_R = TypeVar("_R")

# Files that are on their way at once: most are small, and each waits for a reply.
_AT_ONCE = 16
# How often a copy that another process removes at this moment is fetched anew.
_HOLDS = 3
# Names the ledger that a bucket belongs to.
_OWNER = "ledger"
CACHE_BYTES: Final = 10_000_000_000
"""The bytes of the copies that stay on this disk from run to run."""
CACHE_SECONDS: Final = 30 * 86_400.0
"""How long a copy stays that no run uses."""


class SharedFiles:
    """The files of a state in a bucket, and copies of them in a directory of this machine.

    Args:
        directory: The directory; other processes of this machine may work in it too.
        bucket: The bucket.
    """

    is_shared = True

    def __init__(self, directory: StateDirectory, bucket: Bucket) -> None:
        self.bucket = bucket
        self.directory = directory
        self._fetched: Counter[FileKind] = Counter()
        self._lock = threading.Lock()

    @property
    def place(self) -> str:
        """Where they lie, for messages."""
        return str(self.bucket.address)

    @property
    def fetched(self) -> Mapping[FileKind, int]:
        """How many bytes came from the bucket, by what they hold."""
        return self._fetched

    def bind(self, ledger: str) -> None:
        """Make the bucket that of a ledger, or see that it is: another one would sweep its files.

        Args:
            ledger: The ledger's id.

        Raises:
            LedgerError: It is that of another one.
        """
        found = self.owner()
        if found is None and self.bucket.put_new(_OWNER, ledger.encode()):
            return
        found = found or self.owner()
        if found != ledger:
            raise LedgerError(
                f"{self.place} holds the files of the ledger {found}, and the ledger of the "
                f"profile's `state` is {ledger}: it is another one, or empty",
                fix="name the ledger that belongs to these files, or another prefix for the files "
                "of this one",
            )

    def owner(self) -> str | None:
        """Return which ledger the bucket belongs to, or None where it is new."""
        with suppress(ObjectGoneError):
            return self.bucket.content(_OWNER).decode(errors="replace")
        return None

    def hand_over(self, owner: str) -> None:
        """Say whose the bucket is from now on: runs of any other ledger are refused."""
        self.bucket.replace(_OWNER, owner.encode())

    def path(self, file: StateFile) -> Path:
        """Return where the copy of a file lies, if there is one."""
        return path_in(self.directory, file)

    def where(self, file: StateFile) -> str:
        """Return where a user finds a file."""
        return f"{self.bucket.address}/{file.key}"

    def put(self, files: Sequence[StateFile]) -> None:
        """Store files that were written to their places on this disk; see `FileStore.put`."""
        _at_once(self._put, files)

    def has(self, file: StateFile) -> bool:
        """Bring a file to its place on this disk; see `FileStore.has`."""
        path = self.path(file)
        if path.exists():
            return True
        # Named apart from what another process or thread brings at the same moment.
        coming = path.with_name(f".{path.name}.{secrets.token_hex(4)}.coming")
        make_private(coming)
        try:
            size = self.bucket.get(file.key, coming, lambda came: is_whole(file, came))
        except ObjectGoneError:
            return False
        else:
            settle(coming, path, durable=False)
        finally:
            coming.unlink(missing_ok=True)
        with self._lock:
            self._fetched[file.kind] += size
        return True

    def hold(self, files: Sequence[StateFile], directory: Path) -> Mapping[StateFile, Path]:
        """Fetch files side by side, and give them a second name; see `FileStore.hold`."""
        wanted = list(dict.fromkeys(files))
        held = _at_once(lambda file: self._hold(file, directory), wanted)
        return {file: path for file, path in zip(wanted, held, strict=True) if path}

    def remove(self, file: StateFile) -> None:
        """Remove the copy of a file."""
        self.path(file).unlink(missing_ok=True)

    def absent(self, files: Sequence[StateFile]) -> list[StateFile]:
        """Return those of some files that are not in the bucket."""
        kinds = {file.kind for file in files}
        there = {found.key for kind in kinds for found in self.bucket.list(kind)}
        return [file for file in files if file.key not in there]

    def sweep(self, ledger: Ledger, clock: Clock) -> None:
        """Remove old copies, and what no row of the ledger has named for long in the bucket.

        What cannot be removed there waits for a runner that may.
        """
        self.sweep_copies()
        with suppress(LedgerError):
            sweep_bucket(self.bucket, ledger, clock=clock)

    def sweep_copies(self, most: int = CACHE_BYTES, unused: float = CACHE_SECONDS) -> None:
        """Remove copies of answers that no run used for long, and those used least for space.

        Args:
            most: Bytes that stay.
            unused: Seconds after which a copy that was not used goes.
        """
        found = []
        for path in self.path(StateFile(FileKind.ANSWERS, "x")).parent.glob("[!.]*.parquet"):
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        oldest, kept = time.time() - unused, 0
        for used, size, path in sorted(found, reverse=True):
            kept += size
            if kept > most or used < oldest:
                path.unlink(missing_ok=True)

    def _put(self, file: StateFile) -> None:
        # A manifest of a shard says the same, whichever run made it of its input file.
        is_same = file.kind not in (FileKind.MANIFEST, FileKind.UNASSIGNED)
        self.bucket.put(file.key, self.path(file), is_same=is_same)

    def _hold(self, file: StateFile, directory: Path) -> Path | None:
        held = directory / f"{file.kind}-{file.name}{file.kind.suffix}"
        if held.exists():
            return held
        for _ in range(_HOLDS):
            if not self.has(file):
                return None
            # Another process may remove it for space at this moment.
            with suppress(FileNotFoundError):
                os.utime(self.path(file))
                link_or_copy(self.path(file), held)
                return held
        raise LedgerError(
            f"copies of files in {self.directory.root} are removed as soon as they are there",
            fix="keep other programs from that directory",
        )


def _at_once(work: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """Do the same with several things side by side; the first error ends it."""
    wanted = list(items)
    if len(wanted) < 2:
        return [work(item) for item in wanted]
    with ThreadPoolExecutor(min(len(wanted), _AT_ONCE)) as pool:
        return list(pool.map(work, wanted))
