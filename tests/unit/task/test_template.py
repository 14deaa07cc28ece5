"""The user template: what a placeholder is, and how each type becomes text."""

from __future__ import annotations

import duckdb
import pytest
from dbt_enrich.errors import ConfigurationError, InputError
from dbt_enrich.task.template import message_sql, parse_template
from hypothesis import given
from hypothesis import strategies as st


def render(select: str, template: str, *, optional: tuple[str, ...] = ()) -> list[str | None]:
    """Render a template over the rows of a SELECT, as the engine does."""
    connection = duckdb.connect()
    types = {row[0]: row[1] for row in connection.execute(f"describe {select}").fetchall()}
    sql = message_sql(parse_template(template), types, optional, model="m")
    return [row[0] for row in connection.execute(f"select {sql} from ({select})").fetchall()]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{overview}", ("", "overview", "")),
        ("{a}{b}", ("", "a", "", "b", "")),
        (r"\{a} {b}", ("{a} ", "b", "")),
        ('{"k": {a}}', ('{"k": ', "a", "}")),
        ("{1} { a } {} {a b}", ("{1} { a } {} {a b}",)),
        ("{größe}", ("", "größe", "")),
    ],
)
def test_only_an_identifier_in_braces_is_a_placeholder(text: str, parts: tuple[str, ...]) -> None:
    """Any other brace is text, and a backslash makes a brace of what would be a placeholder."""
    assert parse_template(text).parts == parts


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("'it''s'", "it's"),
        ("1::tinyint", "1"),
        ("1.50::decimal(5,2)", "1.50"),
        ("0.1::double", "0.1"),
        ("true", "true"),
        ("date '2024-02-29'", "2024-02-29"),
        ("timestamp '2024-02-29 12:00:00.5'", "2024-02-29 12:00:00.5"),
        ("['a', 'b']", '["a","b"]'),
        ("{'a': 1}", '{"a":1}'),
        ("'b'::enum('a', 'b')", "b"),
        ("uuid '00000000-0000-0000-0000-000000000001'", "00000000-0000-0000-0000-000000000001"),
        ("170141183460469231731687303715884105727::hugeint", str(2**127 - 1)),
    ],
)
def test_each_type_has_one_rendering(expression: str, text: str) -> None:
    """A column that is not text is rendered by a fixed rule."""
    assert render(f"select {expression} as x", "{x}") == [text]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_a_session_setting_changes_no_message(zone: str) -> None:
    """A timestamp with time zone is rendered in UTC, whatever the session's zone is."""
    connection = duckdb.connect()
    connection.execute(f"set timezone = '{zone}'")
    sql = message_sql(parse_template("{x}"), {"x": "TIMESTAMP WITH TIME ZONE"}, (), model="m")
    row = connection.execute(f"select {sql} from (select to_timestamp(0) as x)").fetchone()
    assert row == ("1970-01-01 00:00:00Z",)


@pytest.mark.parametrize("blank", ["null::varchar", "''", "' \t\n'", "'\u00a0\u200b'"])
def test_a_row_without_a_needed_text_has_no_message(blank: str) -> None:
    """NULL and blank texts are never sent, unless the column is optional."""
    select = f"select {blank} as a, 'b' as b"
    assert render(select, "{a}-{b}") == [None]
    assert render(select, "{b}") == ["b"]
    assert render("select null::varchar as a, 'b' as b", "{a}-{b}", optional=("A",)) == ["-b"]


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_passes_through(text: str) -> None:
    """A column's text arrives byte for byte between the template's texts."""
    connection = duckdb.connect()
    sql = message_sql(parse_template("it's <{x}>"), {"x": "VARCHAR"}, ("x",), model="m")
    row = connection.execute(f"select {sql} from (select ?::varchar as x)", [text]).fetchone()
    assert row == (f"it's <{text}>",)


def test_an_unknown_column_is_named_with_its_near_match() -> None:
    """The error names the model, the field, the column and what may have been meant."""
    with pytest.raises(ConfigurationError, match=r"model 'm'.*user.*'overveiw'.*'overview'"):
        message_sql(parse_template("{overveiw}"), {"overview": "VARCHAR"}, (), model="m")
    with pytest.raises(ConfigurationError, match=r"optional.*'c'"):
        message_sql(parse_template("{a}"), {"a": "VARCHAR"}, ("c",), model="m")


def test_a_template_without_a_column_is_refused() -> None:
    """Every row would ask the same, and be one request."""
    with pytest.raises(ConfigurationError, match="names no column"):
        message_sql(parse_template("hello"), {"a": "VARCHAR"}, (), model="m")


@pytest.mark.parametrize("kind", ["BLOB", "BIT", "STRUCT(a TIMESTAMP WITH TIME ZONE)", "BLOB[]"])
def test_a_type_without_a_fixed_rendering_is_refused(kind: str) -> None:
    """The fix is a cast in the SELECT."""
    with pytest.raises(InputError, match=r"'a'.*cast it to varchar"):
        message_sql(parse_template("{a}"), {"a": kind}, (), model="m")
