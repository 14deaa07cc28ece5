"""The sweep of a bucket: what no ledger names goes when it is old, and nothing else ever."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from dbt_enrich.buckets.bucket import Bucket, StoredObject
from dbt_enrich.config.bucket_address import parse_bucket_address
from dbt_enrich.state.bucket_sweep import GRACE, sweep_bucket
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.shards import Shard, Step
from support.clock import HastyClock

_OLD = GRACE.total_seconds() + 3_600.0


class Swept:
    """A bucket that is a directory, with a ledger."""

    def __init__(self, directory: Path) -> None:
        self.clock = HastyClock()
        self.place = directory / "bucket"
        self.bucket = Bucket(parse_bucket_address(f"file://{self.place}"), clock=self.clock)
        self.ledger = Ledger(directory / "ledger.sqlite", clock=self.clock.now)

    def store(self, *keys: str, age: float = _OLD) -> None:
        """Store files that have so many seconds."""
        for key in keys:
            self.bucket.put_new(key, b"")
            moment = time.time() - age
            os.utime(self.place / key, (moment, moment))

    def claim(self, name: str) -> Shard:
        """Claim a shard."""
        shard = Shard(shard=name, step=Step.CLAIMED, owner="r", namespace="n", service="s",
                      task_key="t")  # fmt: skip
        self.ledger.shards.add(shard)
        return shard

    def sweep(self) -> list[str]:
        """Sweep, and return what is left."""
        sweep_bucket(self.bucket, self.ledger, clock=self.clock)
        return self.left()

    def left(self) -> list[str]:
        """Return the files that are there."""
        kinds = ("answers", "keys", "manifests", "requests", "responses", "unassigned")
        return sorted(found.key for kind in kinds for found in self.bucket.list(kind))


@pytest.fixture
def swept(tmp_path: Path) -> Iterator[Swept]:
    """A bucket with a ledger."""
    made = Swept(tmp_path)
    yield made
    made.ledger.close()


def test_old_files_that_no_ledger_names_go(swept: Swept) -> None:
    """Of whichever kind; but lines that nobody can assign stay, whoever names them."""
    swept.store("requests/job/r.jsonl", "responses/r.output.jsonl")
    swept.store("answers/a.parquet", "keys/a.parquet", "manifests/m.parquet", "unassigned/u.jsonl")
    swept.store("answers/new.parquet", "manifests/new.parquet", age=_OLD - 7_200.0)
    left = ["answers/new.parquet", "manifests/new.parquet", "unassigned/u.jsonl"]
    assert swept.sweep() == left


def test_what_the_ledger_names_stays_however_old_it_is(swept: Swept) -> None:
    """Live answers, and the manifests of shards that hold requests or did until lately."""
    swept.ledger.answers.add("live", task_key="t", answers=1)
    swept.claim("open")
    swept.ledger.shards.record(swept.claim("closed"), Step.RELEASED)
    named = ["answers/live.parquet", "keys/live.parquet"]
    named += ["manifests/closed.parquet", "manifests/open.parquet"]
    named += ["requests/job/open.jsonl", "responses/open.error.jsonl"]
    swept.store(*named)
    assert swept.sweep() == named


def test_a_manifest_goes_when_its_shard_is_closed_for_long(
    swept: Swept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run is left that read of it in the ledger."""
    swept.clock.jump(-_OLD)
    swept.ledger.shards.record(swept.claim("closed"), Step.RELEASED)
    swept.clock.jump(_OLD)
    swept.store("manifests/closed.parquet", "requests/j/closed.jsonl")
    assert swept.sweep() == []


def test_a_sweep_is_made_once_a_day(swept: Swept) -> None:
    """By whichever runner comes; the bucket says when it was swept last."""
    assert swept.sweep() == []
    swept.store("answers/a.parquet")
    assert swept.sweep() == ["answers/a.parquet"]
    swept.clock.jump(timedelta(days=1, minutes=1).total_seconds())
    assert swept.sweep() == []


def test_an_older_listing_does_no_harm(swept: Swept, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it lists and is gone is gone; what it does not list stays."""
    swept.store("answers/gone.parquet")
    listed: dict[str, list[StoredObject]] = {
        folder: list(swept.bucket.list(folder))
        for folder in ("answers", "keys", "manifests", "requests", "responses")
    }
    swept.bucket.delete(["answers/gone.parquet"])
    swept.store("answers/later.parquet")
    monkeypatch.setattr(swept.bucket, "list", lambda folder: iter(listed[folder]))
    sweep_bucket(swept.bucket, swept.ledger, clock=swept.clock)
    monkeypatch.undo()
    assert swept.left() == ["answers/later.parquet"]
