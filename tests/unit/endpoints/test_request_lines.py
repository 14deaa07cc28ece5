"""A line of an input file: whatever the row holds, it parses back to the body that was meant."""

from __future__ import annotations

import json
from typing import Any

import duckdb
from dbt_enrich.endpoints.request_lines import line_sql, line_template, repair_sql, request_body
from dbt_enrich.task.enrichment_task import EnrichmentTask, Example
from hypothesis import given
from hypothesis import strategies as st
from support.warehouse import SUMMARY, summary_task

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


def line(task: EnrichmentTask, message: str, *, repair: str = "null", enlarge: int = 1) -> Any:
    """Render one line in SQL and parse it."""
    template = line_template(task, deployment="d", line_url="/chat/completions", enlarge=enlarge)
    sql = line_sql(template, key="'k'", attempt="2", message="m", repair=repair)
    row = duckdb.connect().execute(f"select {sql} from (select ? as m)", [message]).fetchone()
    assert row is not None
    assert "\n" not in row[0]
    return json.loads(row[0])


@given(message=TEXT, system=TEXT.filter(lambda text: "\x00" not in text))
def test_any_text_arrives_as_it_is(message: str, system: str) -> None:
    """Neither a row nor the constant texts can break out of their strings."""
    task = summary_task(system=system or None)
    assert line(task, message) == {
        "custom_id": "k-2",
        "method": "POST",
        "url": "/chat/completions",
        "body": request_body(task, deployment="d", user_message=message),
    }


def test_constant_messages_come_first() -> None:
    """System text and examples stand before the row, so that a service can cache them."""
    task = summary_task(examples=(Example(user="ex", answer={"summary": "é"}),))
    messages = line(task, "row")["body"]["messages"]
    assert [(m["role"], m["content"]) for m in messages] == [
        ("system", "Summarise the note."),
        ("user", "ex"),
        ("assistant", '{"summary": "é"}'),
        ("user", "row"),
    ]


def test_a_repair_carries_the_answer_and_what_was_wrong() -> None:
    """It goes after the row's message, as a conversation goes on."""
    repair = repair_sql("""'{"summary": 5}'""", """'$.summary must be "text"'""")
    messages = line(summary_task(), "row", repair=repair)["body"]["messages"]
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
    assert messages[2]["content"] == '{"summary": 5}'
    assert '$.summary must be "text"' in messages[3]["content"]


def test_a_larger_limit_is_the_attempts_own() -> None:
    """Token limits are multiplied in the body; other parameters stay."""
    task = summary_task(parameters={"max_tokens": 50, "temperature": 0.1})
    body = line(task, "row", enlarge=4)["body"]
    assert (body["max_tokens"], body["temperature"]) == (200, 0.1)


def test_the_template_knows_its_length() -> None:
    """Sharding by bytes needs the constant part of a line to the byte."""
    task = summary_task(system="ü")
    template = line_template(task, deployment="d", line_url="/u")
    text = '{"custom_id":"' + "k-1" + '"' + template.before + '"m"' + template.between
    assert len((text + template.after + "\n").encode()) == template.overhead + len("k-1") + 3


def test_json_mode_sends_no_schema() -> None:
    """`json_object` is for models without structured output."""
    task = summary_task(system="Answer in JSON.", response="json_object", outputs=(SUMMARY,))
    assert line(task, "row")["body"]["response_format"] == {"type": "json_object"}
