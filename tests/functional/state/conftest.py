"""Buckets for the tests of shared state: a directory, S3 and Azure Blob Storage."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.buckets import (
    azure_environment,
    azurite,
    gcs_environment,
    gcs_over,
    make_azure_container,
    make_s3_bucket,
    needs_azurite,
    s3_environment,
    s3_server,
)


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """A server of S3; its address."""
    with s3_server() as address:
        yield address


@pytest.fixture(scope="session")
def gcs(s3: str) -> Iterator[str]:
    """What takes requests for Google Cloud Storage; its address."""
    with gcs_over(s3) as address:
        yield address


@pytest.fixture(scope="session")
def azure() -> Iterator[str]:
    """A server of Azure Blob Storage; its address."""
    with azurite() as address:
        yield address


@pytest.fixture(
    params=["file", "s3", "gs", pytest.param("az", marks=needs_azurite)],
)
def address(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a new bucket of each kind in turn, with what the environment says of it.

    Of Google's kind the requests are right, and who answers them is not Google.
    """
    name = f"b{secrets.token_hex(8)}"
    if request.param == "file":
        return f"file://{tmp_path}/bucket"
    if request.param == "s3":
        server = request.getfixturevalue("s3")
        make_s3_bucket(server, name)
        environment = s3_environment(server)
    elif request.param == "gs":
        make_s3_bucket(request.getfixturevalue("s3"), name)
        environment = gcs_environment(request.getfixturevalue("gcs"), tmp_path)
    else:
        server = request.getfixturevalue("azure")
        make_azure_container(server, name)
        environment = azure_environment(server)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    return f"{request.param}://{name}/state/of/ours"
