"""The address of a bucket: read as it is written, and never quoted where it may hold a key."""

from __future__ import annotations

import pytest
from dbt_enrich.config.bucket_address import parse_bucket_address
from dbt_enrich.errors import WrongValueError


@pytest.mark.parametrize(
    ("text", "parts", "shown"),
    [
        ("az://container", ("az", "container", ""), "az://container"),
        ("az://container/a/b/", ("az", "container", "a/b"), "az://container/a/b"),
        ("s3://my.bucket/x", ("s3", "my.bucket", "x"), "s3://my.bucket/x"),
        ("gs://bucket/", ("gs", "bucket", ""), "gs://bucket"),
        ("file:///shared/path", ("file", "", "/shared/path"), "file:///shared/path"),
    ],
)
def test_an_address_is_read(text: str, parts: tuple[str, str, str], shown: str) -> None:
    """And shown without what it does not need."""
    address = parse_bucket_address(text)
    assert (address.scheme, address.bucket, address.prefix) == parts
    assert str(address) == shown


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("/shared/path", "no address of a bucket"),
        ("https://me.blob.core.windows.net/c", "no address of a bucket"),
        ("az:///prefix", "names no bucket"),
        ("file://host/path", "names no directory"),
        ("file:///", "names no directory"),
        ("az://key:secret@container/x", "holds more than the address"),
        ("az://container/x?sig=secret", "holds more than the address"),
        ("s3://bucket/a/../b", "empty part or a .."),
        ("s3://bucket/a//b", "empty part or a .."),
    ],
)
def test_what_is_none_is_refused(text: str, problem: str) -> None:
    """With what to write, and without a word of what may be a key."""
    with pytest.raises(WrongValueError, match=problem) as error:
        parse_bucket_address(text)
    assert error.value.fix
    assert "secret" not in str(error.value)
