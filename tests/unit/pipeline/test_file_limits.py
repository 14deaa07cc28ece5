"""How large files are made, by the limits of the service and of the quota."""

from __future__ import annotations

import pytest
from dbt_enrich.config.file_limits import ServiceLimits
from dbt_enrich.pipeline.export.file_limits import Group, limits_in_room
from hypothesis import given
from hypothesis import strategies as st

LIMITS = ServiceLimits(max_requests=100_000, max_bytes=196_000_000)


def group(requests: int, size: int, largest: int | None = None) -> Group:
    """Requests of so many bytes each."""
    return Group(1, 1, requests, requests * size, largest or size)


@pytest.mark.parametrize(
    ("room", "max_bytes"),
    [
        # Nobody knows the quota; all fits at once; one file fills it; ten files fill it.
        (None, LIMITS.max_bytes),
        (2_000_000_000, LIMITS.max_bytes),
        (101_000_000, LIMITS.max_bytes),
        (950_000_000, LIMITS.max_bytes),
        # A file is larger than the quota.
        (60_000_000, 60_000_000),
        # A file and a half would fit: two smaller ones do; two and three quarters: three.
        (150_000_000, 75_000_000),
        (275_000_000, 91_666_666),
    ],
)
def test_whole_files_fill_the_quota(room: int | None, max_bytes: int) -> None:
    """A million requests of 1 kB, so that a file of 100,000 has 100 MB."""
    assert limits_in_room(LIMITS, group(1_000_000, 1_000), room).max_bytes == max_bytes


def test_a_request_that_is_larger_than_the_quota_goes_alone() -> None:
    """The service has the last word."""
    found = limits_in_room(LIMITS, group(1_000, 1_000, largest=5_000_000), 2_000_000)
    assert found.max_bytes == 5_000_000


@given(requests=st.integers(1, 10**8), size=st.integers(100, 10**6), room=st.integers(1, 10**10))
def test_no_file_is_larger_than_it_may_be_or_needlessly_small(
    requests: int, size: int, room: int
) -> None:
    """Never above the service's limit or the room, and never below half of both."""
    found = limits_in_room(LIMITS, group(requests, size), room)
    assert found.max_requests == LIMITS.max_requests
    assert found.max_bytes <= LIMITS.max_bytes
    usual = min(LIMITS.max_bytes, LIMITS.max_requests * size)
    assert min(found.max_bytes, usual) <= max(room, size)
    assert found.max_bytes >= min(usual, room) // 2
