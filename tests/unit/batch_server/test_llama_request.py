"""A chat body as a request to llama.cpp's server, and its words as the service's reply."""

from __future__ import annotations

from typing import Any

import pytest
from batch_server.body_rules import body_problem
from batch_server.responders.llama_reply import (
    bad_request_reply,
    completion_reply,
    error_reply,
    schema_reply,
)
from batch_server.responders.llama_request import (
    DEFAULT_MAX_TOKENS,
    BadRequest,
    parse_request,
    unknown_keyword,
)
from batch_server.responders.transcript import STOP
from support.pictures import data_address, png

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"about": {"type": "string"}},
    "required": ["about"],
    "additionalProperties": False,
}


def body(**changes: Any) -> dict[str, Any]:
    """Return a chat body with changes to it."""
    form = {"type": "json_schema", "json_schema": {"name": "row", "strict": True, "schema": SCHEMA}}
    return {
        "model": "any",
        "messages": [{"role": "user", "content": "A dog."}],
        "response_format": form,
        **changes,
    }


def test_a_base_model_gets_a_transcript_and_the_schema() -> None:
    """Without a chat template the messages are one prompt, and the schema is the grammar."""
    request = parse_request(body()).body(has_chat_template=False)
    assert request["prompt"] == "Input: A dog.\nOutput:\n"
    assert request["json_schema"]["properties"] == SCHEMA["properties"]
    assert request["cache_prompt"] is True
    assert "messages" not in request


def test_a_chat_model_gets_the_messages_and_the_schema() -> None:
    """With a chat template the messages stay as they are."""
    request = parse_request(body()).body(has_chat_template=True)
    assert request["messages"] == [{"role": "user", "content": "A dog."}]
    schema = request["response_format"]["json_schema"]["schema"]
    assert schema["properties"] == SCHEMA["properties"]
    assert "prompt" not in request


def test_json_mode_is_a_grammar_of_any_object() -> None:
    """`json_object` holds the answer to one JSON object."""
    request = parse_request(body(response_format={"type": "json_object"}))
    assert request.schema is not None
    assert request.schema["type"] == "object"


@pytest.mark.parametrize("form", [None, {"type": "text"}])
def test_free_text_of_a_base_model_ends_before_the_next_input(form: object) -> None:
    """Without a schema nothing but a stop sequence ends what a base model writes."""
    request = parse_request(body(response_format=form)).body(has_chat_template=False)
    assert request["stop"] == [STOP]
    assert "json_schema" not in request


def test_parameters_are_passed_on() -> None:
    """Sampling, limits and stops of the request are the server's."""
    options = parse_request(
        body(temperature=0, top_p=0.5, seed=7, max_tokens=9, stop="END", user="somebody")
    ).options
    assert options == {
        "temperature": 0,
        "top_p": 0.5,
        "seed": 7,
        "max_tokens": 9,
        "stop": ["END"],
    }


def test_defaults_are_the_services_and_a_bound_on_the_answer() -> None:
    """Temperature and top_p are 1 where nothing is said, and no answer runs for ever."""
    options = parse_request(body(temperature=None)).options
    assert options == {"temperature": 1.0, "top_p": 1.0, "max_tokens": DEFAULT_MAX_TOKENS}


def test_max_completion_tokens_goes_before_max_tokens() -> None:
    """The newer name wins where both are given."""
    options = parse_request(body(max_tokens=9, max_completion_tokens=5)).options
    assert options["max_tokens"] == 5


@pytest.mark.parametrize("seed", [-1, 2**32 - 1, 2**63])
def test_any_seed_is_brought_into_the_samplers_range(seed: int) -> None:
    """Seeds of the service may be larger than the sampler's, and are never its sign for random."""
    assert 0 <= parse_request(body(seed=seed)).options["seed"] < 2**32 - 1


def test_content_in_parts_is_one_text_and_developer_is_system() -> None:
    """Both ways to write a text message are taken."""
    parts = [{"type": "text", "text": "A "}, {"type": "text", "text": "dog."}]
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    assert parse_request(body(messages=messages)).messages == (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "A dog."},
    )


def test_a_lone_surrogate_does_not_reach_the_server() -> None:
    """JSON can spell half a character, which has no UTF-8."""
    messages = [{"role": "user", "content": "half \ud83d"}]
    assert parse_request(body(messages=messages)).messages[0]["content"] == "half ?"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0]"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": True}, "top_p"),
        ({"seed": 1.5}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream": True}, "stream"),
        ({"stop": [1]}, "stop"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ],
)
def test_a_wrong_value_does_not_reach_the_model(changes: dict[str, Any], param: str) -> None:
    """The error says which key it is."""
    problem = body_problem(body(**changes), azure=False, batch=True)
    assert problem is not None
    assert problem.status == 400
    assert str(problem.param).startswith(param)


_PICTURE = {"type": "image_url", "image_url": {"url": data_address(png())}}


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"n": 2}, "n"),
        (
            {"messages": [{"role": "function", "name": "f", "content": "x"}]},
            "messages[0].role",
        ),
        ({"messages": [{"role": "user", "content": [_PICTURE]}]}, "messages[0].content"),
    ],
)
def test_what_the_model_cannot_do_is_a_bad_request(changes: dict[str, Any], param: str) -> None:
    """The service could: the body is in order."""
    asked = body(**changes)
    assert body_problem(asked, azure=False, batch=True) is None
    with pytest.raises(BadRequest) as problem:
        parse_request(asked)
    assert problem.value.param == param
    reply = bad_request_reply(problem.value)
    assert reply.status_code == 400
    assert reply.body["error"]["type"] == "invalid_request_error"


def test_a_keyword_that_the_grammar_lacks_is_named_wherever_it_stands() -> None:
    """The keyword is found below properties and items, and names of properties are no keywords."""
    schema = {
        "type": "object",
        "properties": {
            "uniqueItems": {"type": "string"},
            "list": {"anyOf": [{"type": "array", "uniqueItems": True}, {"type": "null"}]},
        },
    }
    assert unknown_keyword(schema) == "uniqueItems"
    assert unknown_keyword(SCHEMA) is None
    reply = schema_reply(schema)
    assert reply.status_code == 400
    assert "'uniqueItems' is not permitted" in reply.body["error"]["message"]


def test_the_reply_has_the_services_shape() -> None:
    """Every key of a chat completion is there, with what the server counted."""
    last = {
        "choices": [{"text": "", "index": 0, "finish_reason": "length"}],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 5},
        },
    }
    reply = completion_reply(last, text='{"about"', model="weights.gguf")
    assert reply.status_code == 200
    assert reply.body["object"] == "chat.completion"
    assert reply.body["model"] == "weights.gguf"
    assert reply.body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": '{"about"', "refusal": None},
            "finish_reason": "length",
            "logprobs": None,
        }
    ]
    assert reply.body["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 5},
    }


def test_a_prompt_that_is_too_long_is_named_as_the_service_does() -> None:
    """The code is context_length_exceeded, so that a client treats it as on the service."""
    error = {
        "code": 400,
        "type": "exceed_context_size_error",
        "message": "request exceeds the available context size",
        "n_prompt_tokens": 6417,
        "n_ctx": 4096,
    }
    reply = error_reply(error)
    assert reply.status_code == 400
    assert reply.body["error"]["code"] == "context_length_exceeded"
    assert "6417" in reply.body["error"]["message"]


def test_other_errors_of_the_server_keep_their_side() -> None:
    """What the request caused is a 400, what the model caused a 500."""
    assert error_reply({"code": 400, "message": "no"}).status_code == 400
    assert error_reply({"code": 503, "message": "loading"}).status_code == 500
