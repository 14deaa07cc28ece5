"""Two numbers of a row, which tell apart what DuckDB's own hash takes for equal."""

from __future__ import annotations

import duckdb
import pytest
from dbt_enrich.sql import identifier
from dbt_enrich.warehouse.content import content_sql

# What differs, though it compares or hashes as equal.
PAIRS = [
    ("0.0::double", "-(0.0::double)"),
    ("0.0::float", "-(0.0::float)"),
    ("interval 30 day", "interval 1 month"),
    ("null::integer[]", "[]::integer[]"),
    ("[null]::integer[]", "[]::integer[]"),
    ("'A' collate nocase", "'a' collate nocase"),
    ("['A' collate nocase]", "['a' collate nocase]"),
    ("null::varchar", "''"),
    ("null::varchar", "'NULL'"),
    ("[null]::varchar[]", "['NULL']::varchar[]"),
    ("{'a': null::varchar, 'b': 'x'}", "{'a': 'x', 'b': null::varchar}"),
    ("map {'a': [null]}", "map {'a': []}"),
    ("timetz '12:00:00+00'", "timetz '13:00:00+01'"),
    ("timestamptz '2020-01-01 00:00:00+00'", "timestamptz '2020-01-01 00:00:00.000001+00'"),
    ("timestamptz 'infinity'", "timestamptz '-infinity'"),
    ("'a'::blob", "'A'::blob"),
    (
        "union_value(a := 1)::union(a integer, b integer)",
        "union_value(b := 1)::union(a integer, b integer)",
    ),
    ("'NaN'::double", "null::double"),
    ("'x'::enum('x', 'y')", "'y'::enum('x', 'y')"),
]


def numbers(values: dict[str, str]) -> tuple[int, int]:
    """The numbers of one row of some values."""
    listed = ", ".join(f"{value} as {identifier(name)}" for name, value in values.items())
    relation = duckdb.sql(f"select {listed}")
    kinds = dict(zip(relation.columns, map(str, relation.types), strict=True))
    ((first, second),) = relation.project(", ".join(content_sql(kinds))).fetchall()
    return first, second


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_what_differs_has_other_numbers(one: str, other: str) -> None:
    """Also beside another column."""
    assert numbers({"v": one}) != numbers({"v": other})
    assert numbers({'a "b"': "1", "v": one}) != numbers({'a "b"': "1", "v": other})
    assert numbers({"v": one}) == numbers({"v": one})


def test_columns_are_not_interchangeable() -> None:
    """Nor is the end of one the beginning of the next."""
    assert numbers({"a": "'x'", "b": "'y'"}) != numbers({"a": "'y'", "b": "'x'"})
    assert numbers({"a": "'xy'", "b": "''"}) != numbers({"a": "'x'", "b": "'y'"})


def test_each_number_alone_tells_texts_apart() -> None:
    """So that rows must be alike in both ways to be taken for equal."""
    rows = [numbers({"a": f"'a text of more than eight bytes {i}'"}) for i in range(500)]
    assert len({first for first, _ in rows}) == len({second for _, second in rows}) == 500
