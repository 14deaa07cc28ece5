"""The rows that are read of a pack's answer, whole or broken off."""

from __future__ import annotations

import duckdb
import pytest
from dbt_enrich.endpoints.packs import entries_sql
from dbt_enrich.sql import literal

ONE, TWO = '{"id": 1, "answer": {"a": 5}}', '{"id":2,"answer":{"a":"x, {"}}'
READ: dict[str, tuple[str, list[tuple[int, str]]]] = {
    "whole": (f'{{"rows": [{ONE}, {TWO}]}}', [(1, '{"a":5}'), (2, '{"a":"x, {"}')]),
    "cut in the second answer": (
        '{"rows": [{"id": 1, "answer": {"a": 5}}, {"id": 2, "answer": {"a"',
        [(1, '{"a":5}')],
    ),
    "cut behind an entry": (f'{{"rows": [{ONE}, {TWO}', [(1, '{"a":5}'), (2, '{"a":"x, {"}')]),
    "cut where the next one begins": (f'{{"rows": [{ONE}, {{"i', [(1, '{"a":5}')]),
    "broken in the first": (f'{{"rows": [{{"id": 1, "answer": {{"a": }}}}, {TWO}]}}', []),
    "cut before any": ('{"rows": [', []),
    "an entry in a string": (
        '{"rows": [{"id": 1, "answer": {"a": ", {\\"id\\": 2, \\"answer\\": 3}"}}, {"id',
        [(1, '{"a":", {\\"id\\": 2, \\"answer\\": 3}"}')],
    ),
    "an entry without an answer": ('{"rows": [{"id": 1}]}', [(1, "")]),
}


@pytest.mark.parametrize("name", READ)
def test_the_entries_before_the_first_broken_one_are_read(name: str) -> None:
    """They are paid for; of what stands behind them nobody can tell whose it is."""
    text, entries = READ[name]
    with duckdb.connect() as database:
        database.execute("create table packs as select 1 as pack")
        database.execute(
            "create table lines as select 1 as pack, 'answered' as outcome, "
            f"{literal(text)} as raw, json_valid({literal(text)}) as has_object"
        )
        found = database.execute(entries_sql("lines", "packs")).fetchall()
    assert sorted((position, answer or "") for _, position, answer, _ in found) == entries
    assert all(has_answer == bool(answer) for _, _, answer, has_answer in found)
