"""Whole runs whose bucket fails in every way: each row is paid for once, or nothing is paid."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.buckets.bucket import Bucket
from dbt_enrich.config.bucket_address import parse_bucket_address
from dbt_enrich.errors import LedgerError
from dbt_enrich.state.shared_files import SharedFiles
from support.buckets import (
    Proxy,
    cut_off,
    lost_reply,
    make_s3_bucket,
    proxy_to,
    s3_environment,
    torn,
    twice,
    unavailable,
)
from support.clock import HastyClock
from support.shared import forget_copies
from support.warehouse import Warehouse, config_for

ROWS = 8
NOTES = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"


@pytest.fixture
def proxy(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A bad network before the bucket of all runs."""
    with proxy_to(s3) as made:
        name = f"b{secrets.token_hex(8)}"
        make_s3_bucket(s3, name)
        for variable, value in s3_environment(made.address).items():
            monkeypatch.setenv(variable, value)
        bucket = Bucket(parse_bucket_address(f"s3://{name}/p"), clock=HastyClock())
        monkeypatch.setattr(
            "dbt_enrich.state.open_files.LocalFiles", lambda store: SharedFiles(store, bucket)
        )
        yield made


@pytest.fixture
def warehouse(emulator: RunningEmulator, tmp_path: Path) -> Warehouse:
    """A warehouse whose rows go into one batch."""
    return Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state"))


def test_a_bucket_that_fails_now_and_then_costs_nothing(
    warehouse: Warehouse, proxy: Proxy, emulator: RunningEmulator
) -> None:
    """What is stored and fetched comes through refusals, lost replies, doubles and halves."""
    for fault in (unavailable, lost_reply, twice):
        proxy.fail("PUT", "/p/", fault, times=2)
    proxy.fail("HEAD", "/p/", unavailable, times=2)
    warehouse.enrich(NOTES)
    before = warehouse.rows("from enriched order by id")
    forget_copies(warehouse.config.state_dir)
    for fault in (unavailable, torn, cut_off):
        proxy.fail("GET", "/p/(answers|keys)/", fault, times=2)
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": ROWS}
    assert warehouse.rows("from enriched order by id") == before
    assert list(emulator.account()["paid"].values()) == [1] * ROWS


def test_nothing_is_sent_while_a_bucket_is_away(
    warehouse: Warehouse, proxy: Proxy, emulator: RunningEmulator
) -> None:
    """The claim is not made, as no other machine could read of it; the next run makes it."""
    proxy.fail("PUT", "/p/manifests/", unavailable, times=12)
    with pytest.raises(LedgerError, match="manifests/.* cannot be written to s3://"):
        warehouse.enrich(NOTES)
    assert emulator.account()["paid"] == {}
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": ROWS}
    assert list(emulator.account()["paid"].values()) == [1] * ROWS


def test_answers_that_could_not_be_stored_are_stored_by_the_next_run(
    warehouse: Warehouse, proxy: Proxy, emulator: RunningEmulator
) -> None:
    """They were paid for; the shard is not closed before they are in the bucket."""
    proxy.fail("PUT", "/p/(answers|keys)/", unavailable, times=24)
    with pytest.raises(LedgerError, match="cannot be written to s3://"):
        warehouse.enrich(NOTES)
    assert list(emulator.account()["paid"].values()) == [1] * ROWS
    proxy.faults.clear()
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": ROWS}
    assert list(emulator.account()["paid"].values()) == [1] * ROWS
