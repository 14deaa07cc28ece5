"""The emulator's `/responses`: batches and single requests, as the service documents them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from batch_server.errors import Flavour
from batch_server.responders.base import RESPONSES, ChatReply, ChatRequest
from batch_server.responders.responses_form import as_chat, in_form_of
from batch_server.responders.upstream import UpstreamResponder
from batch_server.responders.upstream_options import UpstreamOptions
from batch_server.server import RunningEmulator, running_emulator
from functional.batch_server.model_server import model_server
from functional.batch_server.resource import DATED, STYLES, Resource

URL = "/v1/responses"
SCHEMA = {
    "type": "object",
    "properties": {"topic": {"type": "string"}},
    "required": ["topic"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "name": "row", "strict": True, "schema": SCHEMA}


def body(message: str = "hello", **more: Any) -> dict[str, Any]:
    """A request's body."""
    return {"model": "any", "input": [{"role": "user", "content": message}], **more}


def line(custom_id: str, message: str = "hello", **more: Any) -> str:
    """One line of an input file."""
    asked = {"custom_id": custom_id, "method": "POST", "url": URL, "body": body(message, **more)}
    return json.dumps(asked)


@pytest.mark.parametrize("style", STYLES)
def test_a_batch_is_answered_in_its_form(emulator: RunningEmulator, style: str) -> None:
    """With what Azure's filter found, and the tokens that OpenAI counts of a batch."""
    emulator.rules(
        [
            {"match": "cut", "fault": "truncated"},
            {"match": "no", "refusal": "I will not."},
            {"match": "bad", "fault": "content_filter_answer"},
        ]
    )
    resource = Resource(emulator, style)
    lines = [line(text, text, text={"format": FORMAT}) for text in ("good", "cut", "no", "bad")]
    thinks = line("thinks", "thinks", reasoning={"effort": "low"})
    batch = resource.reach(resource.create(*lines, thinks, endpoint=URL), "completed")
    found = {
        one["custom_id"]: one["response"] for one in resource.lines_of(batch["output_file_id"])
    }
    assert {reply["status_code"] for reply in found.values()} == {200}
    said = {name: reply["body"] for name, reply in found.items()}
    assert {reply["object"] for reply in said.values()} == {"response"}
    (message,) = said["good"]["output"]
    assert message["content"][0]["type"] == "output_text"
    assert json.loads(message["content"][0]["text"]) == {"topic": "topic: good"}
    assert said["good"]["text"] == {"format": FORMAT}
    assert (said["cut"]["status"], said["cut"]["incomplete_details"]) == (
        "incomplete",
        {"reason": "max_output_tokens"},
    )
    assert said["bad"]["incomplete_details"] == {"reason": "content_filter"}
    assert said["no"]["output"][0]["content"] == [{"type": "refusal", "refusal": "I will not."}]
    assert [item["type"] for item in said["thinks"]["output"]] == ["reasoning", "message"]
    usage = said["thinks"]["usage"]
    assert usage["output_tokens"] > usage["output_tokens_details"]["reasoning_tokens"] > 0
    if resource.flavour is not Flavour.OPENAI:
        blocked = [found["blocked"] for found in said["bad"]["content_filters"]]
        assert blocked == [False, True]
        return
    assert "content_filters" not in said["good"]
    total = sum(reply["usage"]["output_tokens"] for reply in said.values())
    assert batch["usage"]["output_tokens"] == total
    assert batch["usage"]["output_tokens_details"]["reasoning_tokens"] > 0


_REFUSED = [
    ({"max_tokens": 20}, "max_tokens", "moved to 'max_output_tokens'"),
    ({"messages": []}, "messages", "moved to 'input'"),
    ({"response_format": {"type": "json_object"}}, "response_format", "moved to 'text.format'"),
    ({"reasoning_effort": "low"}, "reasoning_effort", "moved to 'reasoning.effort'"),
    ({"seed": 1}, "seed", "Unknown parameter"),
    ({"input": []}, "input", "empty array"),
    ({"input": 5}, "input", "expected one of"),
    ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role", "Supported values are"),
    ({"max_output_tokens": 15}, "max_output_tokens", "Expected a value >= 16"),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort", "Supported values are"),
    ({"text": {"format": {"type": "json_object"}}}, "input", "must contain the word 'json'"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema", "Missing"),
    (
        {"text": {"format": {**FORMAT, "schema": {"type": "object"}}}},
        "text.format.schema",
        "Invalid schema for response_format 'row'",
    ),
    ({"stream": True}, "stream", "not supported"),
]


@pytest.mark.parametrize(("changes", "param", "said"), _REFUSED)
def test_a_body_that_the_service_refuses(
    emulator: RunningEmulator, changes: dict[str, Any], param: str, said: str
) -> None:
    """Names the parameter, and what it is called here."""
    reply = Resource(emulator, "v1").http.post(RESPONSES, json={**body(), **changes})
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert (error["param"], said in error["message"]) == (param, True), error


def test_what_is_refused_is_an_error_line_of_its_own(emulator: RunningEmulator) -> None:
    """The other requests of the batch are answered."""
    resource = Resource(emulator)
    lines = [line("bad", seed=1), line("good")]
    batch = resource.reach(resource.create(*lines, endpoint=URL), "completed")
    (refused,) = resource.lines_of(batch["error_file_id"])
    assert refused["response"]["body"]["error"]["code"] == "unknown_parameter"
    assert [one["custom_id"] for one in resource.lines_of(batch["output_file_id"])] == ["good"]


@pytest.mark.parametrize(
    ("style", "endpoint", "fails"),
    [
        ("openai", "/v1/chat/completions", True),
        # Azure reads the lines, whatever endpoint the batch names.
        ("v1", "/chat/completions", False),
        ("v1", "/v1/responses", False),
    ],
)
def test_lines_and_batch_agree_as_far_as_the_service_wants(
    emulator: RunningEmulator, style: str, endpoint: str, fails: bool
) -> None:
    """OpenAI holds them to each other."""
    resource = Resource(emulator, style)
    batch = resource.reach(resource.create(line("a"), endpoint=endpoint))
    assert batch["status"] == ("failed" if fails else "completed")
    if fails:
        assert batch["errors"]["data"][0]["code"] == "url_mismatch"
    # A line without what its endpoint asks fails the batch, as elsewhere.
    chat = json.loads(line("a"))
    chat["body"] = {"model": "any", "messages": [{"role": "user", "content": "x"}]}
    assert resource.failed(json.dumps(chat), endpoint=endpoint)["code"] in (
        "invalid_request",
        "url_mismatch",
    )


def test_the_official_clients_read_it(emulator: RunningEmulator) -> None:
    """By their own typed methods, in all three styles."""
    clients: list[openai.OpenAI] = [
        openai.AzureOpenAI(
            azure_endpoint=emulator.url, api_key=emulator.api_key, api_version=DATED
        ),
        openai.OpenAI(base_url=f"{emulator.url}/openai/v1/", api_key=emulator.api_key),
        openai.OpenAI(base_url=f"{emulator.url}/v1", api_key=emulator.api_key),
    ]
    form: Any = {"format": FORMAT}
    for client in clients:
        answer = client.responses.create(
            model="any", input="hello", instructions="Be short.", text=form
        )
        assert json.loads(answer.output_text) == {"topic": "topic: hello"}
        assert answer.status == "completed"
        assert answer.usage
        assert answer.usage.output_tokens > 0
        client.close()


def test_a_model_server_is_asked_the_same(tmp_path: Path) -> None:
    """At its own `/responses`, with the body as it came; its reply is passed on as it is."""
    reply = {"object": "response", "output": [], "usage": {"input_tokens": 1, "output_tokens": 1}}
    with model_server() as server:
        server.usual = lambda call: call.send(200, {**reply, "path": call.path})
        responder = UpstreamResponder(UpstreamOptions(server.url))
        with running_emulator(tmp_path, responder=responder) as emulator:
            resource = Resource(emulator)
            asked = line("a", "row", model="small", reasoning={"effort": "low"})
            batch = resource.reach(resource.create(asked, endpoint=URL), "completed")
            (found,) = resource.lines_of(batch["output_file_id"])
        assert found["response"]["body"] == {**reply, "path": "/v1/responses"}
        assert server.bodies == [body("row", model="small", reasoning={"effort": "low"})]


def test_a_conversation_is_put_to_a_model_as_chat_completions_have_it() -> None:
    """Parts, pictures, form, limit and effort; an error goes back as it is."""
    request = ChatRequest(
        0,
        "a",
        {
            "model": "m",
            "instructions": "Be short.",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "What is it?"}]},
                {"type": "reasoning", "summary": []},
                {"role": "assistant", "content": [{"type": "output_text", "text": "A cat."}]},
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "input_image",
                            "image_url": "data:image/png;base64,",
                            "detail": "low",
                        }
                    ],
                },
            ],
            "text": {"format": FORMAT, "verbosity": "low"},
            "reasoning": {"effort": "high"},
            "max_output_tokens": 20,
            "store": False,
        },
        RESPONSES,
    )
    assert as_chat(request).body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": [{"type": "text", "text": "What is it?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
            {
                "role": "user",
                "content": [
                    {
                        "type": "image_url",
                        "image_url": {"url": "data:image/png;base64,", "detail": "low"},
                    }
                ],
            },
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "row", "strict": True, "schema": SCHEMA},
        },
        "verbosity": "low",
        "reasoning_effort": "high",
        "max_completion_tokens": 20,
    }
    error = ChatReply(429, {"error": {"message": "busy"}})
    assert in_form_of(request, error) is error
