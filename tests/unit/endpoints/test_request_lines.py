"""A line of an input file: whatever the row holds, it parses back to the body that was meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dbt_enrich.endpoints.chat_completions import CHAT_COMPLETIONS
from dbt_enrich.endpoints.request_lines import (
    RequestLines,
    line_sql,
    repair_sql,
    request_body,
    with_deployment,
)
from dbt_enrich.task.enrichment_task import EnrichmentTask, Example
from dbt_enrich.task.schema import OutputColumn
from hypothesis import given
from hypothesis import strategies as st
from support.warehouse import SUMMARY, summary_task

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


def lines(task: EnrichmentTask) -> RequestLines:
    """Return how a task's lines are written."""
    return RequestLines(task, CHAT_COMPLETIONS, "/chat/completions")


def line(task: EnrichmentTask, message: str, *, repair: str = "null", enlarge: int = 1) -> Any:
    """Render one line in SQL and parse it."""
    template = lines(task).template("d", enlarge=enlarge)
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
        "body": request_body(CHAT_COMPLETIONS, task, "d", message),
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
    repair = repair_sql(CHAT_COMPLETIONS, """'{"summary": 5}'""", """'$.summary must be "text"'""")
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
    template = lines(task).template("d")
    text = '{"custom_id":"' + "k-1" + '"' + template.before + '"m"' + template.between
    assert len((text + template.after + "\n").encode()) == template.overhead + len("k-1") + 3


def test_json_mode_sends_no_schema() -> None:
    """`json_object` is for models without structured output."""
    task = summary_task(system="Answer in JSON.", response="json_object", outputs=(SUMMARY,))
    assert line(task, "row")["body"]["response_format"] == {"type": "json_object"}


GOLDEN: dict[str, Any] = json.loads(
    Path(__file__).with_name("golden_lines.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("number", range(len(GOLDEN["lines"])))
def test_the_lines_stay(number: int) -> None:
    """To the byte, as a cache at the service and a file that was uploaded know them."""
    golden = GOLDEN["lines"][number]
    case = next(case for case in GOLDEN["cases"] if case["name"] == golden["case"])
    outputs = tuple(OutputColumn(**column) for column in case["outputs"])
    task = EnrichmentTask(outputs=outputs, **case["task"])
    template = RequestLines(task, CHAT_COMPLETIONS, GOLDEN["url"]).template(
        GOLDEN["deployment"], enlarge=golden["enlarge"], packed=golden["packed"]
    )
    repair = "null"
    if golden["repaired"]:
        repair = repair_sql(
            CHAT_COMPLETIONS, """'{"summary": 5}'""", """'$.summary must be "text"'"""
        )
    sql = line_sql(template, key="'k'", attempt="'2'", message="m", repair=repair)
    with duckdb.connect() as database:
        found = database.execute(f"select {sql} from (select ? as m)", [GOLDEN["message"]])
        assert found.fetchall() == [(golden["line"],)]
    assert template.fits(golden["line"].replace('"k-2"', '"0-2"'))


def test_a_line_is_written_for_another_deployment() -> None:
    """Whatever the row's text says, and whichever deployment is named before."""
    template = lines(summary_task()).template('a"b')
    text = json.dumps('"body":{"model":"x"}')
    line = f'{{"custom_id":"k-1"{template.before}{text}{template.between}{template.after}\n'
    moved = with_deployment(line.encode() * 2, "ü")
    first, second = (json.loads(line) for line in moved.splitlines())
    assert first == second
    assert first["body"] == request_body(
        CHAT_COMPLETIONS, summary_task(), "ü", '"body":{"model":"x"}'
    )
