"""Lines of output files as well-known servers, gateways and models write them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
from dbt_enrich.endpoints.base import Endpoint
from dbt_enrich.endpoints.chat_completions import CHAT_COMPLETIONS
from dbt_enrich.endpoints.choice import endpoint_of
from dbt_enrich.endpoints.response_lines import message_sql, named_lines_sql
from dbt_enrich.endpoints.responses import RESPONSES
from dbt_enrich.sql import literal
from support.endpoints import TEXT_ENDPOINTS

S = '{"summary":"S"}'
DRAFT = '{"summary":"draft"}'
KEY = "0123456789abcdef0123456789abcdef-1"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """Give one private DuckDB to all tests."""
    with duckdb.connect(config={"threads": 1}) as opened:
        yield opened


def read(
    connection: duckdb.DuckDBPyConnection, line: object, endpoint: Endpoint = CHAT_COMPLETIONS
) -> dict[str, Any]:
    """Return what is read of a line: a document, or text as it is."""
    text = line if isinstance(line, str) else json.dumps(line)
    named = named_lines_sql(endpoint, f"select {literal(text)} as line")
    cursor = connection.execute(f"select *, {message_sql('null')} as said from ({named})")
    (row,) = cursor.fetchall()
    return dict(zip([column[0] for column in cursor.description], row, strict=True))


def line(body: object, **changes: Any) -> dict[str, Any]:
    """A line of a batch's output file with a reply's body."""
    response = {"status_code": 200, "request_id": "r", "body": body}
    return {"id": "b", "custom_id": KEY, "response": response, "error": None, **changes}


def chat(message: object, **changes: Any) -> dict[str, Any]:
    """The body of a chat completion whose first choice has a message."""
    choice = {"index": 0, "message": message, "finish_reason": "stop", **changes}
    return {"id": "c", "model": "m", "choices": [choice], "usage": USAGE}


def says(content: object, **more: Any) -> dict[str, Any]:
    """The body of a chat completion with a message's content."""
    return chat({"role": "assistant", "content": content, **more})


THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": DRAFT}]}
ARGUMENTS = {"type": "function", "function": {"name": "answer", "arguments": S}}
OUTPUT = [
    {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": DRAFT}]},
    {"type": "message", "content": [{"type": "output_text", "text": S, "annotations": []}]},
]
COUNTED = {"input_tokens": 7, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 2}}
SHAPES: dict[str, Any] = {
    "OpenAI": line(says(S)),
    "the body as a JSON string": line(json.dumps(says(S))),
    "vLLM run-batch: the completion in place of the response": {
        "id": "v",
        "custom_id": KEY,
        "response": says(S),
        "error": None,
    },
    "a response without a status": line(says(S), response={"body": says(S)}),
    "a status that is text": line(
        says(S), response={"status_code": "200", "body": says(S), "request_id": None}
    ),
    "Cloudflare: the body in `result`": line({"success": True, "result": says(S), "errors": []}),
    "a gateway: the body in `data`": line({"code": 0, "data": says(S)}),
    "a list of parts": line(
        says([{"type": "text", "text": text} for text in (S[:5], S[5:])])
    ),
    "Mistral: thinking beside the text": line(says([THINKING, {"type": "text", "text": S}])),
    "a part of output_text": line(says([{"type": "output_text", "text": S}])),
    "parts that are texts": line(says([S])),
    "DeepSeek: reasoning_content beside the text": line(says(S, reasoning_content=DRAFT)),
    "vLLM 48863: the text in reasoning_content": line(says(None, reasoning_content=S)),
    "OpenRouter: the text in reasoning": line(says(None, reasoning=S)),
    "tool_calls": line(says(None, tool_calls=[ARGUMENTS])),
    "tool_calls beside an empty text": line(says("", tool_calls=[ARGUMENTS])),
    "tool_calls with an object": line(
        says(None, tool_calls=[{"function": {"name": "a", "arguments": json.loads(S)}}])
    ),
    "function_call": line(says(None, function_call={"name": "answer", "arguments": S})),
    "parsed": line(says(None, parsed=json.loads(S))),
    "an object as content": line(says(json.loads(S))),
    "legacy completions: text": line(
        {"choices": [{"text": S, "finish_reason": "stop"}], "model": "m", "usage": USAGE}
    ),
    "a chunk: delta": line(
        {
            "choices": [{"delta": {"content": S}, "finish_reason": "stop"}],
            "model": "m",
            "usage": USAGE,
        }
    ),
    "the second of several choices": line(
        {
            "choices": [
                {"message": {"content": None}, "finish_reason": "stop"},
                {"message": {"content": S}, "finish_reason": "stop"},
            ],
            "model": "m",
            "usage": USAGE,
        }
    ),
    "Responses API": line({"object": "response", "output": OUTPUT, "model": "m", "usage": COUNTED}),
    "Responses API: output_text": line({"output_text": S, "model": "m", "usage": COUNTED}),
    "Responses API: function_call": line(
        {"output": [{"type": "function_call", "arguments": S}], "model": "m", "usage": COUNTED}
    ),
    "Ollama": line(
        {"message": {"content": S, "thinking": DRAFT}, "model": "m", "done_reason": "stop",
         "prompt_eval_count": 7, "eval_count": 3}
    ),
    "Ollama: generate": line(
        {"response": S, "model": "m", "prompt_eval_count": 7, "eval_count": 3}
    ),
    "Cohere": line({"message": {"content": [{"type": "text", "text": S}]}, "model": "m",
                    "usage": COUNTED}),
    "Anthropic": line(
        {"type": "message", "content": [{"type": "text", "text": S}], "model": "m",
         "stop_reason": "end_turn", "usage": COUNTED}
    ),
    "Anthropic: tool_use": line(
        {"content": [{"type": "tool_use", "input": json.loads(S)}], "model": "m", "usage": COUNTED}
    ),
    "Anthropic: a line of its batches": {
        "custom_id": KEY,
        "result": {
            "type": "succeeded",
            "message": {"content": [{"type": "text", "text": S}], "model": "m", "usage": COUNTED},
        },
    },
    "Gemini": line(
        {"candidates": [{"content": {"parts": [{"text": DRAFT, "thought": True}, {"text": S}]}}],
         "modelVersion": "m",
         "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 3}}
    ),
}  # fmt: skip


@pytest.mark.parametrize("endpoint", TEXT_ENDPOINTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_text_of_an_answer_is_read(
    connection: duckdb.DuckDBPyConnection, shape: str, endpoint: str
) -> None:
    """With the model and the tokens; what is thinking is left out, whatever was asked."""
    found = read(connection, SHAPES[shape], endpoint_of(endpoint))
    assert (found["outcome"], json.loads(found["content"])) == ("answered", json.loads(S))
    assert (found["model"], found["body"], found["no_text"]) == ("m", None, None)
    assert (found["prompt_tokens"], found["completion_tokens"]) == ("7", "3")
    assert found["cached_tokens"] in ("2", None)
    assert str(found["request_key"]).replace("-", "") == KEY[:32]


EMPTY: dict[str, tuple[Any, str]] = {
    "no choices": ({"choices": [], "usage": USAGE}, "`choices` is empty"),
    "choices that are null": ({"choices": None, "usage": USAGE}, "it has `choices`, `usage`"),
    "no message": ({"choices": [{"index": 0}], "usage": USAGE}, "`choices[0]` has `index`"),
    "thinking alone": (
        says([THINKING]),
        "`choices[0].message` has `role`, `content`",
    ),
    "thinking in words": (
        says(None, reasoning_content=f"Maybe {DRAFT}?"),
        "`choices[0].message` has `role`, `content`, `reasoning_content`",
    ),
    "an empty object": ({"usage": USAGE}, "it has `usage`"),
    "a text that is no JSON": ("<html>", "it is no JSON"),
    "a list": ([1], "it is no object"),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_reply_without_text_is_kept_whole(
    connection: duckdb.DuckDBPyConnection, name: str
) -> None:
    """With its tokens; the message says what it has in the text's place."""
    body, missing = EMPTY[name]
    found = read(connection, line(body))
    assert (found["outcome"], found["content"]) == ("answered", None)
    assert found["said"] == f"the reply has no text of an answer: {missing}"
    kept = found["body"]
    assert kept == body or json.loads(kept) == body
    if isinstance(body, dict):
        assert found["prompt_tokens"] == "7"


FAILED: dict[str, tuple[Any, str, str]] = {
    "OpenAI: expired": (
        line(None, response=None, error={"code": "batch_expired", "message": "late"}),
        "expired",
        "late",
    ),
    "an error that is text": (
        line(None, response=None, error="worker died"),
        "provider_error",
        "worker died",
    ),
    "an error body that is text": (
        line(None, response={"status_code": 500, "body": {"error": "no memory"}}),
        "provider_error",
        "HTTP 500: no memory",
    ),
    "an error body that is a JSON string": (
        line(
            None, response={"status_code": 429, "body": '{"error":{"code":"busy","message":"x"}}'}
        ),
        "provider_error",
        "busy: x",
    ),
    "OpenRouter: an error at status 200": (
        line({"error": {"code": 502, "message": "provider down"}}),
        "provider_error",
        "502: provider down",
    ),
    "an empty body": (line(None), "answered", "the reply has no text of an answer: it has no body"),
    "no response": (line(None, response=None), "provider_error", "no reason given"),
    "cut while it thought": (
        line(chat({"content": None, "reasoning_content": "so"}, finish_reason="length")),
        "truncated",
        "the answer was cut at the token limit",
    ),
    "Responses API: cut": (
        line({"output": [], "incomplete_details": {"reason": "max_output_tokens"}}),
        "truncated",
        "the answer was cut at the token limit",
    ),
    "a refusal among the parts": (
        line(says([{"type": "refusal", "refusal": "I will not."}])),
        "refusal",
        "I will not.",
    ),
    "Responses API: a refusal": (
        line({"output": [{"content": [{"type": "refusal", "refusal": "I will not."}]}]}),
        "refusal",
        "I will not.",
    ),
}


@pytest.mark.parametrize("endpoint", TEXT_ENDPOINTS)
@pytest.mark.parametrize("name", FAILED)
def test_a_failure_has_its_name_and_its_words(
    connection: duckdb.DuckDBPyConnection, name: str, endpoint: str
) -> None:
    """Whatever shape the error has, and whatever was asked."""
    document, outcome, text = FAILED[name]
    found = read(connection, document, endpoint_of(endpoint))
    assert (found["outcome"], found["said"]) == (outcome, text)
    if outcome == "truncated":
        assert json.loads(found["body"]) == document["response"]["body"]


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{", '"x"', '{"custom_id": 5, "response": [1]}', "\x00", "[" * 5_000]
)
def test_what_is_no_line_stops_nothing(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """It answers nobody."""
    assert read(connection, text.replace("\x00", ""))["attempt"] is None


def response(*output: object, **changes: Any) -> dict[str, Any]:
    """A line with a response of the Responses API, as it documents it."""
    thought = {"reasoning_tokens": 1}
    document = {
        "object": "response",
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": "m",
        "output": list(output),
        "usage": {**COUNTED, "output_tokens_details": thought},
        **changes,
    }
    return line(document)


def message(*parts: str, **changes: Any) -> dict[str, Any]:
    """A message of a response, with its parts."""
    content = [{"type": "output_text", "text": text, "annotations": []} for text in parts]
    return {"type": "message", "role": "assistant", "content": content, **changes}


THOUGHT = {"type": "reasoning", "summary": [{"type": "summary_text", "text": DRAFT}]}
REFUSED = message(content=[{"type": "refusal", "refusal": "I will not."}])
BROKEN = {"code": "server_error", "message": "x"}
CUT = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
FILTERED = {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}
RESPONSES_SAY: dict[str, tuple[Any, str, str | None, str]] = {
    "an answer": (response(message(S)), "answered", S, "completed"),
    "after reasoning": (response(THOUGHT, message(S)), "answered", S, "completed"),
    "after a word on the way": (
        response(message(DRAFT, phase="commentary"), message(S, phase="final_answer")),
        "answered",
        S,
        "completed",
    ),
    "in parts": (response(THOUGHT, message(S[:5], S[5:])), "answered", S, "completed"),
    "in parts after a draft": (
        response(message(DRAFT), message(S[:5], S[5:])),
        "answered",
        S,
        "completed",
    ),
    "cut": (response(message(S[:5]), **CUT), "truncated", None, "max_output_tokens"),
    "cut while it thought": (response(THOUGHT, **CUT), "truncated", None, "max_output_tokens"),
    "filtered": (response(message(S[:5]), **FILTERED), "content_filter", None, "content_filter"),
    "refused": (response(THOUGHT, REFUSED), "refusal", None, "completed"),
    "failed": (response(status="failed", error=BROKEN), "provider_error", None, "failed"),
    "nothing": (response(THOUGHT), "answered", None, "completed"),
}


@pytest.mark.parametrize("name", RESPONSES_SAY)
def test_a_response_is_read_where_it_is_documented(
    connection: duckdb.DuckDBPyConnection, name: str
) -> None:
    """The last message is the answer; tokens of reasoning are apart."""
    document, outcome, content, reason = RESPONSES_SAY[name]
    found = read(connection, document, RESPONSES)
    assert (found["outcome"], found["content"], found["finish_reason"]) == (
        outcome,
        content,
        reason,
    )
    tokens = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")
    assert [found[name] for name in tokens] == ["7", "2", "3", "1"]
    if outcome == "refusal":
        assert found["said"] == "I will not."
    if outcome == "provider_error":
        assert found["said"] == "server_error: x"
    if outcome == "answered" and content is None:
        assert found["said"].endswith("no text of an answer: `output[0]` has `type`, `summary`")
