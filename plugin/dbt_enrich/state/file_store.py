"""Where the files lie that all runs of a state work with: manifests and answers, by their names.

None of them is ever changed: whoever has a file of a name has the one that everybody has. A row of
the ledger names a file after it is safe here, and nothing is removed that a row names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from dbt_enrich.clock import Clock
from dbt_enrich.errors import LedgerError
from dbt_enrich.files import link_or_copy
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.ledger import Ledger


class FileKind(StrEnum):
    """What a file holds; the value is its folder in a bucket."""

    MANIFEST = "manifests"
    """The requests of a shard."""
    ANSWERS = "answers"
    KEYS = "keys"
    """The same answers without the texts of those that are valid; shared states alone have it."""
    UNASSIGNED = "unassigned"
    """Lines of response files of which nobody can tell which request they answer."""
    REQUESTS = "requests"
    """The input file of a shard that was written where the rows lie, until it was fetched."""
    RESPONSES = "responses"
    """A downloaded file of a shard, while it is read where the rows lie."""

    @property
    def suffix(self) -> str:
        """How the names of its files end."""
        lines = (FileKind.UNASSIGNED, FileKind.REQUESTS, FileKind.RESPONSES)
        return ".jsonl" if self in lines else ".parquet"


@dataclass(frozen=True, order=True)
class StateFile:
    """A file that all runs of a state work with.

    Attributes:
        kind: What it holds.
        name: The shard's name, or that of the answers in the ledger; of requests `<job>/<shard>`,
            of a response file `<shard>.output` or `<shard>.error`.
    """

    kind: FileKind
    name: str

    @property
    def key(self) -> str:
        """Its name in a bucket, below the prefix."""
        return f"{self.kind}/{self.name}{self.kind.suffix}"


class FileStore(Protocol):
    """The files that all runs of a state work with. May be used from several threads."""

    @property
    def place(self) -> str:
        """Where they lie, for messages."""

    @property
    def is_shared(self) -> bool:
        """Whether runs on other machines have them too.

        There a file of answers is named by its content, and has a file of keys beside it.
        """

    def path(self, file: StateFile) -> Path:
        """Return where a file lies on this disk, if it is there."""

    def where(self, file: StateFile) -> str:
        """Return where a user finds a file."""

    def put(self, files: Sequence[StateFile]) -> None:
        """Make files safe that were written to their places on this disk.

        Raises:
            LedgerError: One of them cannot be stored.
        """

    def has(self, file: StateFile) -> bool:
        """Bring a file to its place on this disk; False where there is none of its name."""

    def hold(self, files: Sequence[StateFile], directory: Path) -> Mapping[StateFile, Path]:
        """Give files a second name, so that a run keeps them whatever another one removes.

        Args:
            files: The files.
            directory: Where the second names are, on the disk of the state directory.

        Returns:
            Where each of them is; those that are gone are left out.

        Raises:
            LedgerError: They cannot be read.
        """

    def remove(self, file: StateFile) -> None:
        """Remove a file that the ledger does not name; in a bucket, the sweep does it later."""

    def absent(self, files: Sequence[StateFile]) -> list[StateFile]:
        """Return those of some files that are not there."""

    def sweep(self, ledger: Ledger, clock: Clock) -> None:
        """Remove what has been of no use for long, where nothing else does; never what is named.

        Args:
            ledger: Names files.
            clock: The time.
        """


class LocalFiles:
    """The files of a state that one machine has, in its directory, where they were written.

    Args:
        directory: The state directory.
    """

    is_shared = False

    def __init__(self, directory: StateDirectory) -> None:
        self._directory = directory

    @property
    def place(self) -> str:
        """Where they lie, for messages."""
        return str(self._directory.root)

    def path(self, file: StateFile) -> Path:
        """Return where a file lies."""
        return path_in(self._directory, file)

    def where(self, file: StateFile) -> str:
        """Return where a user finds a file."""
        return str(self.path(file))

    def put(self, files: Sequence[StateFile]) -> None:
        """Do nothing: what was written is safe."""

    def has(self, file: StateFile) -> bool:
        """Whether a file is there."""
        return self.path(file).exists()

    def hold(self, files: Sequence[StateFile], directory: Path) -> Mapping[StateFile, Path]:
        """Give files a second name; see `FileStore.hold`."""
        held = {}
        for file in files:
            target = directory / f"{file.kind}-{file.name}{file.kind.suffix}"
            with suppress(FileNotFoundError):
                if not target.exists():
                    link_or_copy(self.path(file), target)
                held[file] = target
        return held

    def remove(self, file: StateFile) -> None:
        """Remove a file."""
        self.path(file).unlink(missing_ok=True)

    def absent(self, files: Sequence[StateFile]) -> list[StateFile]:
        """Return those of some files that are not there."""
        return [file for file in files if not self.path(file).exists()]

    def sweep(self, ledger: Ledger, clock: Clock) -> None:
        """Do nothing: what is of no use is removed when that is known."""


def path_in(directory: StateDirectory, file: StateFile) -> Path:
    """Return the place of a file in a state directory."""
    match file.kind:
        case FileKind.MANIFEST:
            return directory.manifest(file.name)
        case FileKind.ANSWERS:
            return directory.answers(file.name)
        case FileKind.KEYS:
            return directory.keys(file.name)
        case FileKind.UNASSIGNED:
            return directory.unassigned(file.name)
        case FileKind.REQUESTS:
            return directory.requests(file.name.rpartition("/")[2])
        case FileKind.RESPONSES:
            shard, _, kind = file.name.partition(".")
            return directory.response(shard, kind)


def missing(file: StateFile, place: str) -> LedgerError:
    """Return the error of a file that the ledger names and that is nowhere."""
    return LedgerError(
        f"the file {file.key}, which the ledger names, is not in {place}",
        fix="bring it back there, from an earlier version or a backup: dbt-enrich removes no file "
        "that the ledger names. `dbt-enrich doctor` lists all that are missing",
    )
