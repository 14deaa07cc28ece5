"""The digests in the names of shared files, by which one that did not arrive whole is known."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dbt_enrich.state.file_store import FileKind, StateFile

# Of SHA-256: enough to know a damaged file, and to name one for good.
_DIGITS = 16
# How Parquet files begin and end (https://parquet.apache.org/docs/file-format).
_PARQUET = b"PAR1"


def digest(path: Path) -> str:
    """Return the digest of a file, as names have it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


def is_whole(file: StateFile, path: Path) -> bool:
    """Whether what was fetched is what was stored, as far as a file can say it.

    Answers and keys are compared with the digest in their name; a manifest must begin and end as a
    Parquet file does.

    Args:
        file: What was asked for.
        path: What came.
    """
    match file.kind:
        case FileKind.ANSWERS:
            return file.name.split("-")[-2:-1] == [digest(path)]
        case FileKind.KEYS:
            return file.name.split("-")[-1] == digest(path)
        case FileKind.MANIFEST:
            return _has_ends(path)
        case FileKind.UNASSIGNED | FileKind.REQUESTS | FileKind.RESPONSES:
            return True


def _has_ends(path: Path) -> bool:
    data = path.read_bytes()
    return len(data) > 2 * len(_PARQUET) and data[:4] == data[-4:] == _PARQUET
