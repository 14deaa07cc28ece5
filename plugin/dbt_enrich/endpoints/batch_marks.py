"""How our files and batches are marked at the service, so that they are found again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

FORMAT_VERSION = "1"
_FILE_NAME = re.compile(
    r"^dbt-enrich_(?P<namespace>[\w.-]+)"
    r"_(?P<task_key>[0-9a-f]{32})_(?P<shard>[0-9a-f]{8}-[0-9a-f]{16})\.jsonl$"
)


@dataclass(frozen=True)
class RemoteMark:
    """What a batch's metadata, or its file's name, says of it."""

    namespace: str
    task_key: str
    shard: str


def batch_metadata(namespace: str, task_key: str, shard: str) -> dict[str, str]:
    """Return the metadata of a batch: strings only, well under the 16 pairs a service takes."""
    return {
        "dbt_enrich": FORMAT_VERSION,
        "namespace": namespace,
        "task_key": task_key,
        "shard": shard,
    }


def file_name(namespace: str, task_key: str, shard: str) -> str:
    """Return the name of a shard's input file, which repeats the metadata."""
    return f"dbt-enrich_{namespace}_{task_key}_{shard}.jsonl"


def mark_of(metadata: Mapping[str, str], filename: str | None = None) -> RemoteMark | None:
    """Read a batch's mark from its metadata, else from its input file's name; None if not ours."""
    if metadata.get("dbt_enrich") == FORMAT_VERSION:
        values = [metadata.get(key, "") for key in ("namespace", "task_key", "shard")]
        name = file_name(*values)
        return mark_of({}, name)
    match = _FILE_NAME.match(filename or "")
    return RemoteMark(**match.groupdict()) if match else None
