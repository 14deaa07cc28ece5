"""How a file gets to its place: whole, private to its owner, and on the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dbt_enrich.errors import LedgerError


def settle(temporary: Path, final: Path, *, durable: bool = True) -> None:
    """Move a finished file to its name: private, and whole or not there at all.

    Args:
        temporary: The finished file.
        final: Its name.
        durable: Whether it must outlive a loss of power; scratch files, and files that can be
            written again, need not.

    Raises:
        LedgerError: The disk is full or the directory cannot be written.
    """
    try:
        temporary.chmod(0o600)
        if durable:
            sync(temporary)
        temporary.replace(final)
        if durable:
            sync(final.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _unwritable(final, error) from error


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file, which nothing changes, a second name that outlives the first.

    Another file of that name is gone.

    Raises:
        FileNotFoundError: The file is gone.
    """
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        # It is gone, or the file system has no hard links.
        shutil.copyfile(source, target)


def make_private(path: Path) -> None:
    """Make an empty file that its owner alone may read, whatever the umask.

    A writer that does not replace it keeps its mode.

    Raises:
        LedgerError: The directory cannot be written.
    """
    try:
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        raise _unwritable(path, error) from error


def append(source: Path, target: Path) -> None:
    """Append a file's bytes to another.

    Raises:
        LedgerError: The disk is full or the directory cannot be written.
    """
    with writing(target), source.open("rb") as reader, target.open("ab") as writer:
        shutil.copyfileobj(reader, writer)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file in the error of a full disk or of a directory that cannot be written.

    Raises:
        LedgerError: The block failed for one of these.
    """
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> LedgerError:
    return LedgerError(
        f"the file {path} cannot be written ({error.strerror or error})",
        fix="make room on the disk or set state_dir to another one, then run again: nothing is "
        "lost",
    )


def sync(path: Path) -> None:
    """Have what was written to a file or a directory on the disk, whatever comes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
