"""Our mark at the service: what metadata and file names carry, and whose they are."""

from __future__ import annotations

import pytest
from dbt_enrich.endpoints.batch_marks import RemoteMark, batch_metadata, file_name, mark_of

KEY = "0123456789abcdef0123456789abcdef"
SHARD = "01234567-0123456789abcdef"


@pytest.mark.parametrize("namespace", ["movies", "a_b", "team.project-1"])
def test_metadata_and_file_name_carry_the_same_mark(namespace: str) -> None:
    """Either of them alone tells the namespace, the task and the shard."""
    mark = RemoteMark(namespace, KEY, SHARD)
    assert mark_of(batch_metadata(namespace, KEY, SHARD)) == mark
    assert mark_of({}, file_name(namespace, KEY, SHARD)) == mark


def test_metadata_fits_the_service() -> None:
    """At most 16 pairs, keys of 64 and values of 512 characters, all of them strings."""
    metadata = batch_metadata("n" * 63, KEY, SHARD)
    assert len(metadata) <= 16
    assert all(len(key) <= 64 and len(value) <= 512 for key, value in metadata.items())


@pytest.mark.parametrize(
    ("metadata", "filename"),
    [
        ({}, None),
        ({"dbt_enrich": "2", "namespace": "n", "task_key": KEY, "shard": SHARD}, None),
        ({"dbt_enrich": "1", "namespace": "n", "task_key": "../../x", "shard": SHARD}, None),
        ({"dbt_enrich": "1"}, None),
        ({}, "batch.jsonl"),
        ({}, f"dbt-enrich_n_{KEY}_../../etc.jsonl"),
    ],
)
def test_what_is_not_ours_has_no_mark(metadata: dict[str, str], filename: str | None) -> None:
    """Others' batches, unknown formats and names that would leave the directory are left alone."""
    assert mark_of(metadata, filename) is None
