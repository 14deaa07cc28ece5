"""What a batch that has ended wrote into its container, of which it always gives the names."""

from __future__ import annotations

import pytest
from dbt_enrich.services.base import BatchStatus, RemoteBatch, RequestCounts
from dbt_enrich.services.blob_files import ended_with

COMPLETED, FAILED, EXPIRED = BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED


@pytest.mark.parametrize(
    ("status", "counts", "there", "named", "awaits"),
    [
        # All answered: no errors are to come.
        (COMPLETED, (3, 3, 0), "o", "o", False),
        (COMPLETED, (3, 3, 0), "", "o", True),
        # None answered: no output is to come.
        (COMPLETED, (3, 0, 3), "e", "e", False),
        (COMPLETED, (3, 0, 3), "", "e", True),
        (COMPLETED, (3, 2, 1), "oe", "oe", False),
        (COMPLETED, (3, 2, 1), "o", "oe", True),
        # Counts that are not known may hide either.
        (COMPLETED, (0, 0, 0), "o", "o", True),
        (COMPLETED, (0, 0, 0), "", "", True),
        # What expired is counted by nobody.
        (EXPIRED, (3, 1, 0), "oe", "oe", False),
        (EXPIRED, (3, 1, 0), "o", "o", True),
        (EXPIRED, (3, 0, 0), "e", "e", False),
        # Failed as a whole, for a quota or for its input.
        (FAILED, (0, 0, 0), "", "", False),
        (FAILED, (3, 0, 0), "", "", False),
        (FAILED, (3, 2, 0), "", "o", True),
        (FAILED, (3, 0, 0), "o", "o", False),
    ],
)
def test_what_is_not_there_is_awaited_or_was_never_written(
    status: BatchStatus, counts: tuple[int, int, int], there: str, named: str, awaits: bool
) -> None:
    """By what the batch counts."""
    batch = RemoteBatch(
        "b", status, output_file_id="o", error_file_id="e", counts=RequestCounts(*counts)
    )
    ended = ended_with(batch, has_output="o" in there, has_errors="e" in there)
    assert f"{ended.output_file_id or ''}{ended.error_file_id or ''}" == named
    assert (ended.awaits_files, ended.lacks_files) == (awaits, awaits)
    assert ended.is_void == (status is FAILED and not named)
