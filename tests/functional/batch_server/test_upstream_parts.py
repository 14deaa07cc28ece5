"""What the responder `upstream` makes of odd replies, headers and options."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from batch_server.errors import Flavour
from batch_server.problems import SetupError
from batch_server.responders import ResponderSpec, UpstreamOptions, create_responder
from batch_server.responders.base import ChatReply, ChatRequest
from batch_server.responders.upstream_client import _asked_wait
from batch_server.responders.upstream_reply import MAX_REPLY_BYTES, reply_of
from batch_server.wire import result_line, usage_of

URL = "http://localhost:11434/v1"
CHOICES = b'"choices": [{"message": {"content": "x"}}]'


@pytest.mark.parametrize(
    "body",
    [
        [1],
        {"choices": None},
        {"choices": ["text"]},
        {"choices": [{"text": "no message"}]},
        {"output": [{"content": [{"type": "output_text", "text": "x"}]}]},
        {"error": {"code": "late"}, "response": "x", "usage": {"prompt_tokens": 7}},
        {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens_details": [1]}},
    ],
)
@pytest.mark.parametrize("flavour", Flavour)
def test_a_good_reply_is_passed_on_whatever_its_shape(body: Any, flavour: Flavour) -> None:
    """Its tokens may be paid for; what nobody can count is counted as none."""
    reply = reply_of(200, json.dumps(body).encode())
    written = result_line(ChatRequest(0, "id", {}), reply, flavour)["response"]
    assert written["status_code"] == 200
    if "message'" not in str(body):
        assert written["body"] == body
    usage_of(reply.body)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"<html>",
        b"{" + CHOICES + b', "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"{" + CHOICES + b', "long": ' + b"9" * 5_000 + b"}",
        b"{" + CHOICES,
    ],
)
def test_a_good_reply_that_is_no_json_is_passed_on_as_text(content: bytes) -> None:
    """So that it can be written into a result file."""
    assert reply_of(200, content) == ChatReply(200, content.decode("utf-8", "replace"))


@pytest.mark.parametrize("number", [b"NaN", b"-Infinity", b"1e999"])
def test_numbers_that_json_has_not_do_not_cost_the_answer(number: bytes) -> None:
    """Some servers write such `logprobs`."""
    body = reply_of(200, b"{" + CHOICES + b', "score": ' + number + b"}").body
    assert body == {"choices": [{"message": {"content": "x"}}], "score": None}


def test_a_reply_without_end_is_refused() -> None:
    """By its size."""
    reply = reply_of(200, b" " * (MAX_REPLY_BYTES + 1))
    assert reply.body["error"]["code"] == "reply_too_large"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"error": {"message": "m", "code": 7}}', {"message": "m", "code": 7}),
        (b'{"error": "text"}', {"message": "text", "code": None}),
        (b'{"object": "error", "message": "m", "code": 404}', {"message": "m", "code": 404}),
        (b'{"detail": "Not Found"}', {"message": "Not Found"}),
        (b'{"detail": [{"loc": ["body"]}]}', {"message": '[{"loc": ["body"]}]'}),
        (b"<h1>Bad</h1>", {"message": "<h1>Bad</h1>"}),
        (b"", {"message": "The model server answered with HTTP 404."}),
    ],
)
def test_errors_of_every_spelling_keep_their_message(content: bytes, said: dict[str, Any]) -> None:
    """OpenAI's, Ollama's, vLLM's, FastAPI's and a proxy's."""
    reply = reply_of(404, content)
    assert reply.status_code == 404
    assert said.items() <= reply.body["error"].items()
    assert reply.body["error"]["type"] == "invalid_request_error"


def test_errors_in_disguise_are_errors() -> None:
    """At status 200, and as a redirect, which is not followed."""
    text = reply_of(200, b'{"error": {"message": "out of memory"}}').body["error"]["message"]
    assert "out of memory" in text
    assert reply_of(307, b"").body["error"]["code"] == "redirected"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("0", 0),
        ("-3", 0),
        ("1.5", 1.5),
        ("99999", 600),
        ("inf", 600),
        (format_datetime(datetime(2001, 1, 1, tzinfo=UTC)), 0),
        (format_datetime(datetime(2126, 1, 1, tzinfo=UTC), usegmt=True), 600),
    ],
)
def test_retry_after_is_honoured_within_bounds(header: str | None, seconds: float | None) -> None:
    """As a number of seconds or as a date."""
    assert _asked_wait(header) == seconds


@pytest.mark.parametrize(
    "values",
    [
        {"base_url": ""},
        {"base_url": "localhost:11434"},
        {"base_url": "http://me:hunter2@host/v1"},
        {"base_url": "http://host/v1?key=hunter2"},
        {"base_url": "http://host:99999/v1"},
        {"base_url": f"{URL}/chat/completions"},
        {"api_key_env": "sk-hunter2"},
        {"concurrency": 0},
        {"concurrency": 1000},
        {"timeout": 0.0},
        {"timeout": float("inf")},
        {"retries": -1},
    ],
)
def test_options_that_cannot_work_are_refused(values: dict[str, Any]) -> None:
    """With a sentence that repeats no secret."""
    with pytest.raises(SetupError) as seen:
        UpstreamOptions(**{"base_url": URL, **values}).checked()
    assert "hunter2" not in str(seen.value)


def test_options_are_put_in_order() -> None:
    """A last slash and empty texts mean nothing; this machine is not reached through a proxy."""
    options = UpstreamOptions(f" {URL}/ ", model=" ", api_key_env="").checked()
    assert options == UpstreamOptions(URL)
    assert not options.trusts_environment
    assert not UpstreamOptions("http://[::1]:8000/v1").trusts_environment
    assert UpstreamOptions("https://models.example.com/v1").trusts_environment
    assert options.answered_by("small") == "upstream:small"
    assert UpstreamOptions(URL, model="large").answered_by("small") == "upstream:large"


def test_a_responder_without_a_server_is_refused() -> None:
    """It needs an address."""
    with pytest.raises(SetupError, match="base_url"):
        create_responder(ResponderSpec("upstream"))
