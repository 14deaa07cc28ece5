"""State whose files lie in a bucket that is a directory: what a test opens next has them there."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from dbt_enrich.buckets.bucket import Bucket
from dbt_enrich.config.bucket_address import parse_bucket_address
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.file_store import FileKind
from dbt_enrich.state.shared_files import SharedFiles


class SharedState:
    """The files of all runs that are opened from now on.

    Args:
        bucket: The directory that is the bucket.
        monkeypatch: Undoes it.
    """

    def __init__(self, bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = bucket
        self.bucket = Bucket(parse_bucket_address(f"file://{bucket}"))
        self._opened: list[SharedFiles] = []
        monkeypatch.setattr("dbt_enrich.state.open_files.LocalFiles", self._open)

    def _open(self, directory: StateDirectory) -> SharedFiles:
        self._opened.append(SharedFiles(directory, self.bucket))
        return self._opened[-1]

    def fetched(self) -> Mapping[FileKind, int]:
        """Return the bytes that came from the bucket since the last call, by what they hold."""
        fetched: Counter[FileKind] = Counter()
        for files in self._opened:
            fetched.update(files.fetched)
        self._opened.clear()
        return fetched


def forget_copies(state: Path) -> None:
    """Leave a machine without any copy, as a new one is; the ledger stays."""
    store = StateDirectory(state)
    for folder in (store.answers("x").parent, store.manifest("x").parent):
        shutil.rmtree(folder)
    store.made()
