"""Constraints of a contract, held against staged rows in a DuckDB."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest
from dbt_enrich.errors import ConfigurationError, InputError
from dbt_enrich.pipeline.planning.constraints import (
    of_answers,
    parse_constraints,
    refuse_blank_rows,
    refuse_staged_rows,
)
from dbt_enrich.pipeline.request import Constraint
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.warehouse.relation import StagedRelation

SUMMARY = OutputColumn("summary", "varchar")
NOT_NULL = {"type": "not_null"}


@pytest.fixture
def staged() -> StagedRelation:
    """Three rows, of which one has no note and two have one group."""
    connection = duckdb.connect()
    connection.execute(
        "create table staged as select * from (values (1, 'a', 'g'), (2, null, 'g'), (3, 'c', 'h'))"
        ' as rows (id, "the note", kind)'
    )
    return StagedRelation(connection, "staged", ("id",), "notes")


def parsed(*constraints: dict[str, Any], **columns: dict[str, Any]) -> tuple[Constraint, ...]:
    """The constraints of a model, and of some of its columns."""
    named = {name: {"name": name, "constraints": [one]} for name, one in columns.items()}
    return parse_constraints("notes", named, constraints)


@pytest.mark.parametrize(
    ("constraint", "said"),
    [
        ({"type": "check", "expression": "id < 3"}, "check (id < 3): 1 row breaks it"),
        ({"type": "unique", "columns": ["kind"]}, "unique (kind): 1 value repeats"),
        ({"type": "primary_key", "columns": ["kind", "the note"]}, "primary_key .*: 1 row breaks"),
    ],
)
def test_rows_that_break_a_constraint_are_counted(
    staged: StagedRelation, constraint: dict[str, Any], said: str
) -> None:
    """Whatever their answers will be."""
    pattern = said.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(InputError, match=pattern):
        refuse_staged_rows(staged, parsed(constraint))


@pytest.mark.parametrize(
    "constraint",
    [
        {"type": "check", "expression": "id > 0"},
        {"type": "check", "expression": "\"the note\" <> 'b'"},
        {"type": "unique", "columns": ["the note"]},
        {"type": "check", "expression": "cast(kind as integer) > 0"},
        {"type": "check", "expression": "summary <> ''"},
        {"type": "custom", "expression": "anything"},
    ],
)
def test_rows_that_keep_it_pass(staged: StagedRelation, constraint: dict[str, Any]) -> None:
    """NULL keeps a check and a key; what cannot be asked here is the database's."""
    refuse_staged_rows(staged, parsed(constraint))


def test_rows_without_an_answer(staged: StagedRelation) -> None:
    """Only what speaks of outputs or status columns is looked at, by their status."""
    done_only = {"type": "check", "expression": "enrichment_status <> 'done' or summary <> ''"}
    own = {"type": "check", "expression": "id > 0"}
    held = of_answers(staged, parsed(done_only, own))
    assert [c.name for c in held] == ["check (enrichment_status <> 'done' or summary <> '')"]
    blank = [("pending", "(select 0 as row_id)")]
    refuse_blank_rows(staged, [SUMMARY], held, blank)
    broken = of_answers(staged, parsed(summary=NOT_NULL))
    with pytest.raises(ConfigurationError, match="'summary' cannot hold, as 1 row would be pend"):
        refuse_blank_rows(staged, [SUMMARY], broken, blank)


def test_a_foreign_key_is_refused() -> None:
    """Of a column or of the model."""
    for of_model, of_column in (([{"type": "foreign_key"}], {}), ([], {"type": "foreign_key"})):
        with pytest.raises(ConfigurationError, match="foreign_key constraint"):
            parsed(*of_model, **({"id": of_column} if of_column else {}))
