"""A line of an input file: whatever the row holds, it parses back to the body that was meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dbt_enrich.endpoints.base import Endpoint
from dbt_enrich.endpoints.chat_completions import CHAT_COMPLETIONS
from dbt_enrich.endpoints.choice import endpoint_of
from dbt_enrich.endpoints.request_lines import (
    LineTemplate,
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
from support.endpoints import ENDPOINTS, TEXT_ENDPOINTS, task_for
from support.warehouse import SUMMARY, summary_task

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


def lines(task: EnrichmentTask, endpoint: Endpoint = CHAT_COMPLETIONS) -> RequestLines:
    """Return how a task's lines are written."""
    return RequestLines(task, endpoint, endpoint.path)


def line(
    task: EnrichmentTask,
    message: str,
    *,
    repair: str = "null",
    enlarge: int = 1,
    endpoint: Endpoint = CHAT_COMPLETIONS,
) -> Any:
    """Render one line in SQL and parse it."""
    template = lines(task, endpoint).template("d", enlarge=enlarge)
    sql = line_sql(template, key="'k'", attempt="2", message="m", repair=repair)
    row = duckdb.connect().execute(f"select {sql} from (select ? as m)", [message]).fetchone()
    assert row is not None
    assert "\n" not in row[0]
    return json.loads(row[0])


@given(
    message=TEXT,
    system=TEXT.filter(lambda text: "\x00" not in text),
    name=st.sampled_from(ENDPOINTS),
)
def test_any_text_arrives_as_it_is(message: str, system: str, name: str) -> None:
    """Neither a row nor the constant texts can break out of their strings."""
    endpoint = endpoint_of(name)
    task = task_for(name, **({"system": system or None} if name in TEXT_ENDPOINTS else {}))
    assert line(task, message, endpoint=endpoint) == {
        "custom_id": "k-2",
        "method": "POST",
        "url": endpoint.path,
        "body": request_body(endpoint, task, "d", message),
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


GOLDEN: list[dict[str, Any]] = [
    json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    for name in ("golden_lines.json", "golden_lines_of_responses.json")
]


def golden_line(file: dict[str, Any], golden: dict[str, Any]) -> tuple[LineTemplate, str]:
    """Return the template of a golden line, and the line as it is written now."""
    case = next(case for case in file["cases"] if case["name"] == golden["case"])
    outputs = tuple(OutputColumn(**column) for column in case["outputs"])
    task = EnrichmentTask(outputs=outputs, **case["task"])
    endpoint = endpoint_of(task.endpoint)
    template = RequestLines(task, endpoint, file["url"]).template(
        file["deployment"], enlarge=golden["enlarge"], packed=golden["packed"]
    )
    repair = "null"
    if golden["repaired"]:
        repair = repair_sql(endpoint, """'{"summary": 5}'""", """'$.summary must be "text"'""")
    sql = line_sql(template, key="'k'", attempt="'2'", message="m", repair=repair)
    with duckdb.connect() as database:
        found = database.execute(f"select {sql} from (select ? as m)", [file["message"]])
        return template, str(found.fetchall()[0][0])


@pytest.mark.parametrize(
    ("file", "golden"), [(file, golden) for file in GOLDEN for golden in file["lines"]]
)
def test_the_lines_stay(file: dict[str, Any], golden: dict[str, Any]) -> None:
    """To the byte, as a cache at the service and a file that was uploaded know them."""
    template, found = golden_line(file, golden)
    assert found == golden["line"]
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
