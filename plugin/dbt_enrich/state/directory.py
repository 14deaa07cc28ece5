"""The state directory: where each file lies, and how a file gets there whole and private."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from dbt_enrich.config.local import EMULATOR_DIRECTORY
from dbt_enrich.config.remote import RELAY_DIRECTORY
from dbt_enrich.errors import LedgerError

_DIRECTORIES = (
    "requests", "responses", "answers", "runs", EMULATOR_DIRECTORY, RELAY_DIRECTORY,
)  # fmt: skip
# What the name of a scratch directory begins with that is no run's.
_WORK = "work-"


class StateDirectory:
    """The directory that holds the ledger, the requests and the answers, readable by its owner.

    Args:
        root: The directory, whether it is there or not.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()

    def made(self) -> Self:
        """Make the directory, with its parents, where it is not there, and return it.

        Raises:
            LedgerError: It cannot be made or written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.root.chmod(0o700)
            for name in _DIRECTORIES:
                (self.root / name).mkdir(exist_ok=True, mode=0o700)
                (self.root / name).chmod(0o700)
            probe = self.root / f".writable-{os.getpid()}"
            probe.touch(mode=0o600)
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise LedgerError(
                f"the state directory {self.root} cannot be written ({error.strerror or error})",
                fix="make it writable, or set state_dir in the plugin's config to another "
                "directory",
            ) from error
        return self

    @property
    def ledger(self) -> Path:
        """The ledger's SQLite file."""
        return self.root / "ledger.sqlite"

    @property
    def ledger_note(self) -> Path:
        """Which shared ledgers this machine has worked with."""
        return self.root / "shared-ledgers.json"

    def requests(self, shard: str) -> Path:
        """The input file of a shard, as it is uploaded."""
        return self.root / "requests" / f"{shard}.jsonl"

    def manifest(self, shard: str) -> Path:
        """The requests that a shard holds, and of packs the places of their rows."""
        return self.root / "requests" / f"{shard}.parquet"

    def response(self, shard: str, kind: str) -> Path:
        """The shard's downloaded `output` or `error` file."""
        return self.root / "responses" / f"{shard}.{kind}.jsonl"

    def response_bytes(self, shard: str) -> int:
        """Return the bytes of a shard's downloaded files that are there."""
        paths = [self.response(shard, kind) for kind in ("output", "error")]
        return sum(path.stat().st_size for path in paths if path.exists())

    def answers(self, name: str) -> Path:
        """A file of answers."""
        return self._answers / f"{name}.parquet"

    def keys(self, name: str) -> Path:
        """The same answers without the texts of those that are valid, where a bucket has it."""
        return self._answers / f"{name}.keys.parquet"

    def unassigned(self, shard: str) -> Path:
        """The lines of a shard's downloaded files that cannot be assigned to a request."""
        return self._answers / f"{shard}.unassigned.jsonl"

    def run(self, run_id: str) -> Path:
        """The scratch directory of one run of one model."""
        return self.root / "runs" / run_id

    @property
    def _answers(self) -> Path:
        return self.root / "answers"

    def begin_work(self) -> RunLock:
        """Make a scratch directory, as a run has one, for what owns no shards."""
        return self.begin_run(f"{_WORK}{secrets.token_hex(8)}")

    def begin_run(self, run_id: str) -> RunLock:
        """Make a run's scratch directory and hold its lock until it ends or its process dies."""
        path = self.run(run_id)
        with self._runs_lock():
            path.mkdir(mode=0o700)
            # The private DuckDB spills here, and would make it with the mode of the umask.
            (path / "spill").mkdir(mode=0o700)
            return RunLock(path)

    def is_alive(self, run_id: str) -> bool:
        """Whether the run's process still holds its lock; the kernel frees it when it dies."""
        lock = self.run(run_id) / "lock"
        if not lock.exists():
            return False
        try:
            with FileLock(lock, timeout=0, mode=0o600):
                return False
        except Timeout:
            return True

    def sweep_runs(self) -> None:
        """Remove the scratch directories of runs that are over."""
        with self._runs_lock():
            for path in (self.root / "runs").iterdir():
                if path.is_dir() and not self.is_alive(path.name):
                    shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def no_run_begins(self, run_id: str) -> Iterator[bool]:
        """Hold off new runs for the block; yield whether `run_id` is the only one alive."""
        with self._runs_lock():
            paths = (self.root / "runs").iterdir()
            names = [path.name for path in paths if not path.name.startswith(_WORK)]
            yield not any(self.is_alive(name) for name in names if name != run_id)

    def shard_files(self) -> list[tuple[Path, str]]:
        """Return the request and response files, each with its shard, whole ones only."""
        return [
            (path, path.name.partition(".")[0])
            for name in ("requests", "responses")
            for path in (self.root / name).iterdir()
            if not path.name.startswith(".")
        ]

    def unfinished_files(self) -> list[Path]:
        """Return the files that somebody is writing, or was when he was killed."""
        names = ("requests", "responses", "answers")
        return [path for name in names for path in (self.root / name).glob(".*")]

    def adoption_lock(self) -> FileLock:
        """Guard the adoption of batches, whose files two runs would otherwise write at once."""
        return FileLock(self.root / "adoption.lock", mode=0o600)

    def _runs_lock(self) -> FileLock:
        """Guard the moment between making a run's directory and holding its lock."""
        return FileLock(self.root / "runs.lock", mode=0o600)


class RunLock:
    """A run's hold on its scratch directory and on the shards it claims."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / "lock", mode=0o600, thread_local=False)
        self._lock.acquire()

    def release(self) -> None:
        """Let go of the lock, which makes the run's shards free to be taken over."""
        self._lock.release()

    def remove(self) -> None:
        """Let go of the lock and remove the scratch directory."""
        self.release()
        shutil.rmtree(self.path, ignore_errors=True)
