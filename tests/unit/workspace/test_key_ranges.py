"""The parts of the keys: together all of them, each once."""

from __future__ import annotations

from uuid import UUID

import duckdb
from dbt_enrich.workspace.key_ranges import ROWS_OF_PART, key_parts, row_parts
from hypothesis import given
from hypothesis import strategies as st

_KEY = st.integers(min_value=0, max_value=2**128 - 1) | st.sampled_from(
    [0, 2**127 - 1, 2**127, 2**128 - 1]
)


@given(keys=st.lists(_KEY, min_size=1, max_size=50), parts=st.integers(min_value=1, max_value=12))
def test_each_key_lies_in_one_part(keys: list[int], parts: int) -> None:
    """However the keys lie, and in order."""
    with duckdb.connect() as database:
        database.execute("create table keys (request_key uuid)")
        database.executemany("insert into keys values (?)", [[UUID(int=key)] for key in keys])
        found = {
            part.number: sorted(
                row[0].int for row in database.execute(f"from {part.of('keys')}").fetchall()
            )
            for part in key_parts(parts * ROWS_OF_PART)
        }
    assert sorted(found) == list(range(parts))
    assert [key for number in sorted(found) for key in found[number]] == sorted(keys)


def test_a_part_holds_no_more_than_its_rows() -> None:
    """Digests spread evenly, so that the parts of so many rows hold about as many each."""
    assert len(key_parts(0)) == 1
    assert len(key_parts(ROWS_OF_PART)) == 1
    assert len(key_parts(ROWS_OF_PART + 1)) == 2
    assert len(key_parts(10 * ROWS_OF_PART)) == 10


@given(rows=st.integers(min_value=0, max_value=5 * ROWS_OF_PART), gap=st.integers(0, ROWS_OF_PART))
def test_each_row_lies_in_one_part(rows: int, gap: int) -> None:
    """In order, those too whose number is beyond the number of rows, as some were deleted."""
    parts = row_parts(rows)
    assert len(parts) == max(1, -(-rows // ROWS_OF_PART))
    ids = sorted({0, max(0, rows - 1), rows + gap, *range(0, rows, ROWS_OF_PART // 2)})
    with duckdb.connect() as database:
        found = [
            row_id
            for part in parts
            for (row_id,) in database.execute(
                f"select * from (select unnest(?::bigint[]) as row_id) where {part} order by 1",
                [ids],
            ).fetchall()
        ]
    assert found == ids
