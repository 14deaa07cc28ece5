"""The address of a bucket that a user writes in the profile, checked without being quoted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from dbt_enrich.errors import WrongValueError

_EXAMPLES = "az://container/prefix, s3://bucket/prefix, gs://bucket/prefix or file:///shared/path"


class BucketScheme(StrEnum):
    """Where a bucket is."""

    AZURE = "az"
    S3 = "s3"
    GOOGLE = "gs"
    DIRECTORY = "file"


@dataclass(frozen=True)
class BucketAddress:
    """Where files lie that several machines share.

    Attributes:
        scheme: Whose bucket it is.
        bucket: Its name; a container's at Azure; empty for a directory.
        prefix: What the names of the files begin with, without a slash at the ends; the absolute
            path of a directory.
    """

    scheme: BucketScheme
    bucket: str
    prefix: str

    def __str__(self) -> str:
        if self.scheme is BucketScheme.DIRECTORY:
            return f"file://{self.prefix}"
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


def parse_bucket_address(text: str) -> BucketAddress:
    """Read the address of a bucket.

    Raises:
        WrongValueError: It is none, or holds more than an address, which may be a key and is not
            quoted.
    """
    parts = urlsplit(text)
    if parts.scheme not in list(BucketScheme):
        raise WrongValueError("it is no address of a bucket", fix=f"write {_EXAMPLES}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise WrongValueError(
            "it holds more than the address of a bucket",
            fix="leave out what comes before an @ and from a ? or # on: credentials come from the "
            "environment",
        )
    scheme, prefix = BucketScheme(parts.scheme), parts.path.strip("/")
    if ".." in PurePosixPath(prefix).parts or "//" in prefix:
        raise WrongValueError("its path has an empty part or a ..", fix="write it without")
    if scheme is BucketScheme.DIRECTORY:
        if parts.netloc or not prefix:
            raise WrongValueError(
                "it names no directory", fix="write file:// and an absolute path: file:///shared/x"
            )
        return BucketAddress(scheme, "", f"/{prefix}")
    if not parts.netloc:
        raise WrongValueError("it names no bucket", fix=f"write {_EXAMPLES}")
    return BucketAddress(scheme, parts.netloc, prefix)
