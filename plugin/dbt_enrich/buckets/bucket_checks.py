"""What a runner may do in a bucket, tried one by one: for `dbt-enrich doctor`."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dbt_enrich.buckets.bucket import RIGHTS, Bucket
from dbt_enrich.errors import EnrichmentError, LedgerError

_FOLDER = "checks"


@dataclass(frozen=True)
class BucketCheck:
    """One thing that a runner must be able to do.

    Attributes:
        subject: What was tried.
        found: What came of it.
        is_good: Whether it is as it must be.
        fix: What to do about it; empty where nothing is to be done.
    """

    subject: str
    found: str
    is_good: bool
    fix: str = ""


def check_bucket(bucket: Bucket) -> Iterator[BucketCheck]:
    """Try in a bucket all that runs do there; nothing of it stays.

    The first thing that cannot be done ends it, but for the removal of what was written.

    Args:
        bucket: The bucket.
    """
    key, content = f"{_FOLDER}/{secrets.token_hex(8)}", b"dbt-enrich looks whether this can be read"
    tried: list[tuple[str, Callable[[], None]]] = [
        ("write", lambda: _write(bucket, key, content)),
        ("write once", lambda: _write_once(bucket, key)),
        ("read", lambda: _read(bucket, key)),
        ("list", lambda: _list(bucket, key)),
        ("delete", lambda: _delete(bucket, key)),
    ]
    for right, attempt in tried:
        subject = f"bucket: {right}"
        try:
            attempt()
        except EnrichmentError as error:
            yield BucketCheck(subject, error.problem, is_good=False, fix=error.fix)
            if right == "write":
                return
        else:
            yield BucketCheck(subject, str(bucket.address), is_good=True)


def _write(bucket: Bucket, key: str, content: bytes) -> None:
    if not bucket.put_new(key, content):
        raise LedgerError(f"{bucket.address} says of a new name that it is taken", fix="try again")


def _write_once(bucket: Bucket, key: str) -> None:
    if bucket.put_new(key, b"another"):
        raise LedgerError(
            f"{bucket.address} lets a file be written over that is there, so that two runs could "
            "take each other's place",
            fix="use a store that honours the condition of a write (`If-None-Match: *`, of Google "
            "`x-goog-if-generation-match: 0`), and a version of it that does",
        )


def _read(bucket: Bucket, key: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        bucket.get(key, Path(scratch) / "came", lambda path: path.stat().st_size > 0)


def _list(bucket: Bucket, key: str) -> None:
    if key not in {found.key for found in bucket.list(_FOLDER)}:
        raise LedgerError(
            f"{bucket.address} does not list what was written a moment ago",
            fix=f"give the runner {RIGHTS[bucket.address.scheme]}, and use a store whose listings "
            "are consistent",
        )


def _delete(bucket: Bucket, key: str) -> None:
    bucket.delete([key])
    if bucket.find(key):
        raise LedgerError(
            f"{bucket.address} keeps {key}, which was deleted",
            fix=f"give the runner {RIGHTS[bucket.address.scheme]}",
        )
