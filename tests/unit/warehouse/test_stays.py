"""How much of a table may stay: by how it is made, and by what the SELECT says of its order."""

from __future__ import annotations

from dataclasses import replace

import duckdb
import pytest
from dbt_enrich.warehouse.stays import Shape, Stays, is_ordered, what_stays

PLAIN = Shape(definition="(id INTEGER);", indexes="", has_keys=False, commented=())
KEYED = replace(PLAIN, has_keys=True)
INDEXED = replace(PLAIN, indexes="false [id]")
COMMENTED = replace(PLAIN, commented=("Id",))


@pytest.mark.parametrize(
    ("existing", "made", "described", "ordered", "expected"),
    [
        (PLAIN, PLAIN, (), False, Stays.ROWS),
        (PLAIN, PLAIN, (), True, Stays.ORDERED),
        (KEYED, KEYED, (), False, Stays.WHOLE),
        (INDEXED, INDEXED, (), False, Stays.WHOLE),
        (INDEXED, PLAIN, (), False, Stays.NOTHING),
        (replace(PLAIN, definition="(id BIGINT);"), PLAIN, (), False, Stays.NOTHING),
        (COMMENTED, PLAIN, ("id",), False, Stays.ROWS),
        (COMMENTED, PLAIN, (), False, Stays.NOTHING),
        (None, PLAIN, (), False, Stays.NOTHING),
        (PLAIN, None, (), False, Stays.NOTHING),
    ],
)
def test_what_stays(
    existing: Shape | None,
    made: Shape | None,
    described: tuple[str, ...],
    ordered: bool,
    expected: Stays,
) -> None:
    """No more than what is made as it would be now."""
    assert what_stays(existing, made, described=described, is_ordered=ordered) == expected


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("select 1 as id", False),
        ("select 1 as id order by id", True),
        ("with a as (select 1 as id) select * from a order by all limit 3", True),
        ("with a as (select 1 as id order by 1) select * from a", False),
        ("select row_number() over (order by i) from range(3) as t(i) -- order by i", False),
        ("(select 1 as id union all select 2) order by id", True),
        ("select 1 as id union all select 2", False),
        ("from range(3) order by range", True),
        ("not a select", True),
        ("select '\x00'", True),
        ("", True),
    ],
)
def test_an_order_is_found_in_the_select(select: str, expected: bool) -> None:
    """What cannot be read has one."""
    assert is_ordered(duckdb.connect(), select) == expected
