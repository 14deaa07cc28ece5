"""The addresses of blobs: made of what the environment says, and read however they are spelled."""

from __future__ import annotations

import pytest
from dbt_enrich.buckets.blob_address import BlobAddresses, is_blob
from dbt_enrich.config.bucket_address import parse_bucket_address
from dbt_enrich.errors import ConfigurationError
from hypothesis import given
from hypothesis import strategies as st

CONTAINER = parse_bucket_address("az://rows/some/prefix")
ACCOUNT = {"AZURE_STORAGE_ACCOUNT_NAME": "acc"}


@pytest.mark.parametrize(
    ("environment", "base"),
    [
        (ACCOUNT, "https://acc.blob.core.windows.net/rows"),
        (
            {**ACCOUNT, "AZURE_STORAGE_ENDPOINT": "https://acc.blob.core.chinacloudapi.cn/"},
            "https://acc.blob.core.chinacloudapi.cn/rows",
        ),
        (
            {"AZURE_ENDPOINT": "http://127.0.0.1:10000/devstoreaccount1?sig=secret"},
            "http://127.0.0.1:10000/devstoreaccount1/rows",
        ),
    ],
)
def test_the_account_is_what_the_environment_says(environment: dict[str, str], base: str) -> None:
    """By its name, or by an address of its own; what may be a signature stays out."""
    addresses = BlobAddresses(CONTAINER, environment)
    assert addresses.base == base
    assert addresses.url("a b/c") == f"{base}/a%20b/c"


@given(key=st.text(min_size=1).filter(lambda key: not key.startswith("/")))
def test_a_key_is_read_back_from_its_address(key: str) -> None:
    """Whatever it holds."""
    addresses = BlobAddresses(CONTAINER, ACCOUNT)
    assert addresses.key(addresses.url(key)) == key


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://ACC.blob.core.windows.net:443/rows/x", "x"),
        ("https://acc.blob.core.windows.net/rows/x?sv=1&sig=2", "x"),
        ("https://other.blob.core.windows.net/rows/x", None),
        ("https://acc.blob.core.windows.net/rows2/x", None),
        ("https://acc.blob.core.windows.net/rows/", None),
        ("file-abc", None),
        ("", None),
    ],
)
def test_what_is_elsewhere_has_no_key(url: str, key: str | None) -> None:
    """Another account's container of the same name is another place."""
    assert BlobAddresses(CONTAINER, ACCOUNT).key(url) == key


def test_ids_of_the_service_are_no_blobs() -> None:
    """A file's name tells where it lies."""
    assert is_blob("https://acc.blob.core.windows.net/rows/x")
    assert not is_blob("file-abc")


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({}, "does not name the storage account"),
        (
            {**ACCOUNT, "AZURE_STORAGE_ENDPOINT": "http://proxy.internal"},
            "does not begin with https",
        ),
    ],
)
def test_an_account_that_no_service_reaches_is_named(
    environment: dict[str, str], problem: str
) -> None:
    """With the variable to set."""
    with pytest.raises(ConfigurationError, match=problem) as refused:
        BlobAddresses(CONTAINER, environment)
    assert refused.value.fix
