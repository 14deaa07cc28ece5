"""A bucket of each kind: what is written once stays as it is, and each trouble has its name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from dbt_enrich.buckets.bucket import Bucket, ObjectGoneError
from dbt_enrich.buckets.bucket_checks import check_bucket
from dbt_enrich.config.bucket_address import parse_bucket_address
from dbt_enrich.errors import ConfigurationError, LedgerError
from support.buckets import needs_azurite
from support.clock import HastyClock


def opened(address: str, **changes: int) -> Bucket:
    """Open a bucket whose pauses are short."""
    return Bucket(parse_bucket_address(address), clock=HastyClock(), **changes)


def written(path: Path, content: bytes) -> Path:
    """Write a file."""
    path.write_bytes(content)
    return path


def test_a_file_comes_back_as_it_was_written(address: str, tmp_path: Path) -> None:
    """Whole, listed with its size and its time, and gone once it is deleted."""
    bucket, target = opened(address), tmp_path / "target"
    for name in ("answers/a.parquet", "answers/b.parquet", "manifests/a.parquet"):
        bucket.put(name, written(tmp_path / "source", name.encode()))
    assert bucket.get("answers/b.parquet", target, lambda _: True) == 17
    assert target.read_bytes() == b"answers/b.parquet"
    found = {one.key: one for one in bucket.list("answers")}
    assert sorted(found) == ["answers/a.parquet", "answers/b.parquet"]
    assert found["answers/a.parquet"] == bucket.find("answers/a.parquet")
    assert found["answers/a.parquet"].size == 17
    bucket.delete(["answers/a.parquet", "answers/a.parquet", "answers/never.parquet"])
    assert [one.key for one in bucket.list("answers")] == ["answers/b.parquet"]
    assert bucket.find("answers/a.parquet") is None
    with pytest.raises(ObjectGoneError, match="it is not there"):
        bucket.get("answers/a.parquet", target, lambda _: True)


def test_what_is_there_is_not_written_over(address: str, tmp_path: Path) -> None:
    """The second one of a name finds the first, whichever way it is written."""
    bucket = opened(address)
    assert bucket.put_new("x", b"first")
    assert not bucket.put_new("x", b"second")
    bucket.put("x", written(tmp_path / "third", b"third, which is longer"), is_same=False)
    assert bucket.content("x") == b"first"
    with pytest.raises(LedgerError, match=r"whole: it has not the 22 bytes that were sent"):
        bucket.put("x", tmp_path / "third")
    bucket.replace("x", b"fourth")
    assert bucket.content("x") == b"fourth"


def test_a_large_file_is_sent_in_parts(address: str, tmp_path: Path) -> None:
    """So that it need not be in memory at once; twice is as good as once."""
    bucket, content = opened(address, whole_bytes=1_000_000), os.urandom(6_000_000)
    source = written(tmp_path / "large", content)
    for _ in range(2):
        bucket.put("answers/large.parquet", source)
    bucket.get("answers/large.parquet", tmp_path / "back", lambda _: True)
    assert (tmp_path / "back").read_bytes() == content


def test_a_large_file_comes_piece_by_piece(address: str, tmp_path: Path) -> None:
    """Of any size, also of none; one that changes meanwhile is named, and one that is gone."""
    bucket, content = opened(address, range_bytes=100), os.urandom(250)
    bucket.put("responses/large", written(tmp_path / "large", content))
    pieces = list(bucket.chunks("responses/large"))
    assert [len(piece) for piece in pieces] == [100, 100, 50]
    assert b"".join(pieces) == content
    bucket.put("responses/empty", written(tmp_path / "empty", b""))
    assert list(bucket.chunks("responses/empty")) == []
    coming = bucket.chunks("responses/large")
    next(coming)
    bucket.replace("responses/large", content[::-1])
    with pytest.raises(LedgerError, match="whole: it was changed while it came"):
        list(coming)
    bucket.delete(["responses/large"])
    with pytest.raises(ObjectGoneError):
        list(bucket.chunks("responses/large"))


def test_all_that_a_run_needs_is_allowed(address: str) -> None:
    """The checks of `doctor` find nothing, and leave nothing."""
    bucket = opened(address)
    checks = list(check_bucket(bucket))
    assert [check.subject for check in checks if check.is_good] == [
        f"bucket: {right}" for right in ("write", "write once", "read", "list", "delete")
    ]
    assert list(bucket.list("checks")) == []


@needs_azurite
@pytest.mark.parametrize("address", ["az"], indirect=True)
def test_what_is_refused_is_named_without_a_secret(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the role that the runner needs, and where its credentials come from."""
    secret = "bm90IHRoZSBrZXk="
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", secret)
    bucket = opened(address)
    with pytest.raises(LedgerError, match="it is refused") as refused:
        bucket.put_new("x", b"")
    assert "Storage Blob Data Contributor" in refused.value.fix
    assert secret not in f"{refused.value}{bucket!r}"
    (check,) = check_bucket(bucket)
    assert (check.subject, check.is_good) == ("bucket: write", False)
    assert check.fix == refused.value.fix


@pytest.mark.parametrize(
    "address", ["s3", "gs", pytest.param("az", marks=needs_azurite)], indirect=True
)
def test_a_bucket_that_is_not_there_is_named(address: str) -> None:
    """It is no file that is missing."""
    scheme, _, _ = address.partition("://")
    bucket = opened(f"{scheme}://no-such-bucket-of-ours/prefix")
    for call in (lambda: bucket.put_new("x", b""), lambda: bucket.content("x")):
        with pytest.raises(LedgerError, match="there is no such bucket") as missing:
            call()
        assert not isinstance(missing.value, ObjectGoneError)


def test_an_environment_that_says_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is sent, with the variables to set."""
    for name in list(os.environ):
        if name.startswith(("AZURE_", "AWS_")):
            monkeypatch.delenv(name)
    with pytest.raises(ConfigurationError, match="cannot be opened") as error:
        opened("az://container/prefix")
    assert "AZURE_STORAGE_ACCOUNT_NAME" in error.value.fix
