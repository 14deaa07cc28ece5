"""A bucket that fails for a while, comes late, acts twice, or gives half: waited for, or named."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from dbt_enrich.buckets.bucket import Bucket
from dbt_enrich.config.bucket_address import parse_bucket_address
from dbt_enrich.errors import LedgerError
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.file_digests import digest
from dbt_enrich.state.file_store import FileKind, StateFile
from dbt_enrich.state.shared_files import SharedFiles
from support.buckets import (
    Fault,
    Proxy,
    cut_off,
    late,
    lost_reply,
    make_s3_bucket,
    proxy_to,
    s3_environment,
    torn,
    twice,
    unavailable,
)
from support.clock import HastyClock

CONTENT = os.urandom(300_000)


@pytest.fixture
def proxy(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A bad network before a server of S3."""
    with proxy_to(s3) as made:
        for variable, value in s3_environment(made.address).items():
            monkeypatch.setenv(variable, value)
        yield made


@pytest.fixture
def bucket(s3: str, proxy: Proxy) -> Bucket:
    """A new bucket behind it."""
    name = f"b{secrets.token_hex(8)}"
    make_s3_bucket(s3, name)
    return Bucket(parse_bucket_address(f"s3://{name}/p"), clock=HastyClock())


def stored(bucket: Bucket, directory: Path, content: bytes = CONTENT) -> StateFile:
    """Store answers, whatever they are."""
    files = SharedFiles(StateDirectory(directory).made(), bucket)
    source = directory / "source"
    source.write_bytes(content)
    file = StateFile(FileKind.ANSWERS, f"a-{digest(source)}-0123456789abcdef")
    source.rename(files.path(file))
    files.put([file])
    return file


def fetched(bucket: Bucket, directory: Path, file: StateFile) -> bytes:
    """Fetch answers as a machine does that has nothing."""
    files = SharedFiles(StateDirectory(directory).made(), bucket)
    assert files.has(file)
    assert sorted(path.name for path in files.path(file).parent.iterdir()) == [
        f"{file.name}.parquet"
    ]
    return files.path(file).read_bytes()


@pytest.mark.parametrize("fault", [unavailable, lost_reply, twice, late])
def test_a_file_is_stored_once_whatever_happens(
    bucket: Bucket, proxy: Proxy, tmp_path: Path, fault: Fault
) -> None:
    """What was written before its reply was lost is found to be our own."""
    proxy.fail("PUT", "/p/answers/", fault, times=3)
    file = stored(bucket, tmp_path / "one")
    assert [(one.key, one.size) for one in bucket.list("answers")] == [(file.key, len(CONTENT))]
    assert fetched(bucket, tmp_path / "two", file) == CONTENT


@pytest.mark.parametrize("fault", [unavailable, late, torn, cut_off])
def test_a_file_that_does_not_come_whole_is_fetched_again(
    bucket: Bucket, proxy: Proxy, tmp_path: Path, fault: Fault
) -> None:
    """Half a file is never taken for one."""
    file = stored(bucket, tmp_path / "one")
    proxy.fail("GET", "/p/answers/", fault, times=2)
    assert fetched(bucket, tmp_path / "two", file) == CONTENT


def test_a_file_that_is_damaged_in_its_bucket_has_a_name(bucket: Bucket, tmp_path: Path) -> None:
    """Its bytes are not those that its name speaks of; nothing of it stays on the disk."""
    file = stored(bucket, tmp_path / "one")
    bucket.replace(file.key, CONTENT[:-1] + b"?")
    files = SharedFiles(StateDirectory(tmp_path / "two").made(), bucket)
    with pytest.raises(LedgerError, match="whole: its 300,000 bytes are not those") as error:
        files.has(file)
    assert file.key in str(error.value)
    assert error.value.fix
    assert list((tmp_path / "two" / "answers").iterdir()) == []


def test_a_bucket_that_stays_away_has_a_name(bucket: Bucket, proxy: Proxy, tmp_path: Path) -> None:
    """After as many tries as can help."""
    file = stored(bucket, tmp_path / "one")
    proxy.fail("GET", "/p/answers/", unavailable, times=1_000)
    with pytest.raises(LedgerError, match=r"cannot be read from s3://.*nothing is lost"):
        SharedFiles(StateDirectory(tmp_path / "two").made(), bucket).has(file)
    # Each try of ours is two of obstore.
    assert sum(method == "GET" for method, _ in proxy.requests) == 12


def test_a_manifest_that_came_in_half_is_known_by_its_end(
    bucket: Bucket, proxy: Proxy, tmp_path: Path
) -> None:
    """It has no digest in its name, which is the shard's; a Parquet file ends as it begins."""
    file, content = StateFile(FileKind.MANIFEST, "shard"), b"PAR1 and all the rest of it PAR1"
    (tmp_path / "shard.parquet").write_bytes(content)
    bucket.put(file.key, tmp_path / "shard.parquet")
    proxy.fail("GET", "/p/manifests/", torn)
    files = SharedFiles(StateDirectory(tmp_path / "state").made(), bucket)
    assert files.has(file)
    assert files.path(file).read_bytes() == content
