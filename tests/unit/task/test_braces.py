"""Braces that hold a column's name and are no placeholder are refused, with a way out."""

from __future__ import annotations

from typing import Any

import pytest
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.task.braces import check_braces
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.task.template import parse_template

COLUMNS = ("id", "note", "Ticket Body", "my-col", "s", "größe", "1st", "topic")


def task(**values: Any) -> EnrichmentTask:
    """A task over the column note, with what a test is about."""
    outputs = (OutputColumn(name="summary", data_type="varchar"),)
    return EnrichmentTask(**{"model": "m", "user": "{note}", "outputs": outputs, **values})


def refusal(**values: Any) -> str:
    """What is said of a task."""
    with pytest.raises(ConfigurationError) as caught:
        check_braces(task(**values), COLUMNS, model="m")
    assert caught.value.fix
    return str(caught.value)


@pytest.mark.parametrize(
    ("braces", "column", "fix"),
    [
        ("{Ticket Body}", "Ticket Body", '"Ticket Body" as ticket_body) and write {ticket_body}'),
        ("{ticket body}", "Ticket Body", '"Ticket Body" as ticket_body) and write {ticket_body}'),
        ("{my-col}", "my-col", '"my-col" as my_col) and write {my_col}'),
        ('{"Ticket Body"}', "Ticket Body", "write {ticket_body}"),
        ("{'note'}", "note", "write {note}"),
        ("{`note`}", "note", "write {note}"),
        ("{ note }", "note", "write {note}"),
        ("{\nNOTE\n}", "note", "write {note}"),
        ("{s.a}", "s", "(s.a as s_a) and write {s_a}"),
        ("{s[0]}", "s", "(s[0] as s_0) and write {s_0}"),
        ('{"s"."a"}', "s", "as s_a) and write {s_a}"),
        ("{s.a[1]!r:>5}", "s", "(s.a[1] as s_a_1) and write {s_a_1}"),
        ("{note!r}", "note", "write {note}"),
        ("{id:>5}", "id", "write {id}"),
        ("{note | upper}", "note", "write {note}"),
        ("{note=}", "note", "write {note}"),
        ("{note, id}", "note", "write {note}"),
        ("{$note}", "note", "write {note}"),
        ("{:note}", "note", "write {note}"),
        ("{größe!s}", "größe", "write {größe}"),
        ("{1st}", "1st", "write {column_1st}"),
        ("{{ note }}", "note", "write {note}"),
    ],
)
def test_a_column_in_braces_that_are_no_placeholder_is_named(
    braces: str, column: str, fix: str
) -> None:
    """In the row's own message, where a placeholder was meant."""
    text = refusal(user=f"{{note}} {braces}")
    assert f"'{column}'" in text
    assert "model 'm': enrichment.user" in text
    assert fix in text
    assert "or \\{ for a brace" in text
    # The way out: the same braces, sent as they are written.
    escaped = task(user=f"{{note}} {braces.replace('{', chr(92) + '{')}")
    check_braces(escaped, COLUMNS, model="m")
    assert parse_template(escaped.user).parts == ("", "note", f" {braces}")
    check_braces(task(user=f"{{note}} {braces}", literal_braces=[column]), COLUMNS, model="m")


@pytest.mark.parametrize(
    "text",
    [
        '{"topic": "x"}',
        '{"topic":1, "note": ["a"]}',
        '{ "note" : {"id": 1} }',
        "{'note': 1}",
        '{"topic", "x"}',
        "{1} {1,3} {} { } [0] {0} {-}",
        "{other} {a note} {notes} {note to self} {footnote!r}".replace("{other}", "{ other }"),
        r"\frac\{note}",
        "{note",
        "note}",
    ],
)
def test_json_and_other_braces_are_text(text: str) -> None:
    """What names no column, and what JSON writes, is sent as it is written."""
    for field in ("user", "system"):
        written = f"{{note}} {text}" if field == "user" else text
        check_braces(task(**{field: written}), COLUMNS, model="m")


@pytest.mark.parametrize("braces", ["{note}", "{ note }", "{Ticket Body}", "{s.a}", "{{note}}"])
@pytest.mark.parametrize("field", ["system", "user of an example", "answer of an example"])
def test_a_placeholder_in_a_constant_text_is_named(braces: str, field: str) -> None:
    """It would be the same text for every row."""
    fields: dict[str, dict[str, Any]] = {
        "system": {"system": f"About {braces}."},
        "user of an example": {"examples": [{"user": braces, "answer": {"summary": "x"}}]},
        "answer of an example": {"examples": [{"user": "x", "answer": {"a": [{"b": braces}]}}]},
    }
    values = fields[field]
    text = refusal(**values)
    assert ("enrichment.system" if field == "system" else "enrichment.examples number 1") in text
    assert "literal_braces: [" in text
    allowed = task(**values, literal_braces=["NOTE", "s", "Ticket Body"])
    check_braces(allowed, COLUMNS, model="m")
    # What is sent and paid for is the same, so what was answered stays answered.
    assert allowed.task_key("m") == task(**values).task_key("m")
