"""Sweep of a bucket: what no row of the ledger names any more, once nobody can name it again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Final

from dbt_enrich.buckets.bucket import Bucket, StoredObject
from dbt_enrich.clock import MACHINE_CLOCK, Clock
from dbt_enrich.state.file_store import FileKind
from dbt_enrich.state.ledger import Ledger

GRACE: Final = timedelta(days=30)
"""How old a file is at least that is removed: far longer than any run takes to name one."""
_EVERY = timedelta(days=1)
_OF_SHARDS = (FileKind.MANIFEST, FileKind.REQUESTS, FileKind.RESPONSES)
_MARK = "swept"


def sweep_bucket(bucket: Bucket, ledger: Ledger, *, clock: Clock = MACHINE_CLOCK) -> int:
    """Remove the files of a bucket that a ledger does not name, once a day at most.

    They are files of shards that are closed or were never claimed, and answers that a run which
    lost its shard had stored, or that the user has let go.

    Args:
        bucket: The bucket, which no other ledger uses.
        ledger: The ledger; what it names is read after the listing.
        clock: The time, to tell whether a sweep is due. How old a file is, the bucket's own says.

    Returns:
        How many files were removed.
    """
    last = bucket.find(_MARK)
    if last and clock.now() - last.modified < _EVERY:
        return 0
    bucket.replace(_MARK, b"")
    mark = bucket.find(_MARK)
    if mark is None:
        return 0
    before = mark.modified - GRACE
    old = {
        kind: [found for found in bucket.list(kind) if found.modified < before]
        for kind in (*_OF_SHARDS, FileKind.ANSWERS, FileKind.KEYS)
    }
    of_shards = [found for kind in _OF_SHARDS for found in old.pop(kind)]
    live = set(ledger.answers.names())
    unnamed = [found for some in old.values() for found in some if _name(found) not in live]
    unnamed += _unneeded(of_shards, ledger, before)
    bucket.delete(found.key for found in unnamed)
    return len(unnamed)


def _unneeded(
    files: Iterable[StoredObject], ledger: Ledger, before: datetime
) -> list[StoredObject]:
    """Return the files whose shards are closed since long, or are not known at all."""
    found = list(files)
    shards = {shard.shard: shard for shard in ledger.shards.named({_name(one) for one in found})}
    needed = {
        name
        for name, shard in shards.items()
        if not shard.is_closed or datetime.fromisoformat(shard.updated_at) >= before
    }
    return [one for one in found if _name(one) not in needed]


def _name(found: StoredObject) -> str:
    return PurePosixPath(found.key).name.partition(".")[0]
