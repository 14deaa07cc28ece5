"""What the service refuses of a `/responses` body before a model sees it.

The body is held to its model whole; what concerns several of its parts is here. The texts are
OpenAI's, as users reported them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from batch_server.bodies import JsonForm
from batch_server.errors import WireError, refused
from batch_server.images import images_problem
from batch_server.refusals import Refusal, read_body
from batch_server.responses_bodies import ResponsesBody, SchemaFormat
from batch_server.schema_rules import schema_problem

# Parameters of chat completions, with what they are called here.
_MOVED = {
    "messages": "input",
    "response_format": "text.format",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
}
_UNKNOWN = ("n", "seed", "stop", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs")


def responses_problem(body: Mapping[str, Any], *, azure: bool, batch: bool) -> WireError | None:
    """Return the reply to a body that the service refuses, or None if a model may answer it.

    Args:
        body: The body of a `/responses` request.
        azure: Whether strict schemas are held to Azure's list of keywords.
        batch: Whether it is a line of a batch, which cannot be streamed.
    """
    problem = _misplaced(body)
    if problem is None:
        read = read_body(ResponsesBody, body)
        if isinstance(read, Refusal):
            problem = read
        else:
            problem = (
                _stream_problem(read, batch=batch)
                or images_problem(body, azure=azure)
                or _form_problem(read, body, azure=azure)
            )
    return refused(problem, of_a_model=True) if problem else None


def _misplaced(body: Mapping[str, Any]) -> Refusal | None:
    for name, moved in _MOVED.items():
        if name in body:
            return Refusal(
                f"Unsupported parameter: '{name}'. In the Responses API, this parameter has moved "
                f"to '{moved}'. Try again with the new parameter. See the API documentation for "
                "more information: https://platform.openai.com/docs/api-reference/responses/create.",
                name,
                "unsupported_parameter",
            )
    for name in _UNKNOWN:
        if name in body:
            return Refusal(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    return None


def _stream_problem(body: ResponsesBody, *, batch: bool) -> Refusal | None:
    for name in ("stream", "background"):
        if getattr(body, name):
            where = "in a batch" if batch else "by this server"
            return Refusal(f"'{name}' is not supported {where}.", name, "unsupported_value")
    return None


def _form_problem(body: ResponsesBody, raw: Mapping[str, Any], *, azure: bool) -> Refusal | None:
    form = body.text.format if body.text else None
    if isinstance(form, SchemaFormat):
        return _schema_problem(form, azure=azure)
    if not isinstance(form, JsonForm) or "json" in _text_of(raw["input"]):
        return None
    return Refusal(
        "Response input messages must contain the word 'json' in some form to use 'text.format' "
        "of type 'json_object'.",
        "input",
    )


def _text_of(value: object) -> str:
    return json.dumps(value, ensure_ascii=False).lower()


def _schema_problem(form: SchemaFormat, *, azure: bool) -> Refusal | None:
    name = "text.format.schema"
    if form.schema_ is None:
        return Refusal(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    problem = schema_problem(form.schema_, strict=bool(form.strict), azure=azure)
    if problem is None:
        return None
    return Refusal(
        f"Invalid schema for response_format '{form.name}': {problem}", name, "invalid_json_schema"
    )
