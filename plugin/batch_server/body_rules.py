"""What the service refuses of a chat request's body before a model sees it.

The body is held to its model whole; what concerns several of its parts is here. Sources: OpenAI's
openapi.yaml, Azure's guides to structured outputs and JSON mode, and errors that users reported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from batch_server.bodies import ChatBody, FunctionTool, SchemaForm, SchemaHolder
from batch_server.errors import WireError, refused
from batch_server.images import images_problem
from batch_server.refusals import Refusal, read_body
from batch_server.schema_rules import schema_problem


def body_problem(body: Mapping[str, Any], *, azure: bool, batch: bool) -> WireError | None:
    """Return the reply to a body that the service refuses, or None if a model may answer it.

    Args:
        body: The body of a `chat/completions` request.
        azure: Whether strict schemas are held to Azure's list of keywords.
        batch: Whether it is a line of a batch, which cannot be streamed.
    """
    read = read_body(ChatBody, body)
    if isinstance(read, Refusal):
        return refused(read, of_a_model=True)
    problem = (
        _stream_problem(read, batch=batch)
        or images_problem(body, azure=azure)
        or _conversation_problem(body["messages"])
        or _tool_problem(read, azure=azure)
        or _form_problem(read, body, azure=azure)
    )
    return refused(problem, of_a_model=True) if problem else None


def _stream_problem(body: ChatBody, *, batch: bool) -> Refusal | None:
    if batch and body.stream:
        return Refusal("Streaming is not supported in a batch.", "stream", "unsupported_value")
    if body.stream_options is not None and not body.stream:
        return Refusal(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            "stream_options",
        )
    return None


def _conversation_problem(messages: list[dict[str, Any]]) -> Refusal | None:
    """Return which message does not go with those around it, or None."""
    # The calls that the next messages must answer, and whether there are any to answer here.
    owed: set[str] = set()
    called = False
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        if message["role"] == "tool":
            if not called:
                return Refusal(
                    "Invalid parameter: messages with role 'tool' must be a response to a "
                    "preceeding message with 'tool_calls'.",
                    f"{where}.role",
                )
            owed.discard(message["tool_call_id"])
            continue
        if owed:
            return _unanswered_calls(owed, place)
        calls = message.get("tool_calls") if message["role"] == "assistant" else None
        called = bool(calls)
        owed = {call["id"] for call in calls or ()}
        if message["role"] == "assistant" and _says_nothing(message):
            return Refusal(
                "Invalid value for 'content': expected a string, got null.", f"{where}.content"
            )
    return _unanswered_calls(owed, len(messages)) if owed else None


def _says_nothing(message: Mapping[str, Any]) -> bool:
    parts = ("content", "refusal", "audio", "tool_calls", "function_call")
    return all(message.get(part) is None for part in parts)


def _unanswered_calls(owed: set[str], place: int) -> Refusal:
    return Refusal(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to "
        "each 'tool_call_id'. The following tool_call_ids did not have response messages: "
        f"{', '.join(sorted(owed))[:200]}",
        f"messages[{place}].role",
    )


def _tool_problem(body: ChatBody, *, azure: bool) -> Refusal | None:
    if body.tools is None:
        if body.tool_choice in (None, "none"):
            return None
        return Refusal(
            "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are "
            "specified.",
            "tool_choice",
        )
    for place, tool in enumerate(body.tools):
        if not isinstance(tool, FunctionTool) or tool.function.parameters is None:
            continue
        function = tool.function
        strict = bool(function.strict)
        problem = schema_problem(tool.function.parameters or {}, strict=strict, azure=azure)
        if problem:
            return Refusal(
                f"Invalid schema for function '{function.name}': {problem}",
                f"tools[{place}].function.parameters",
                "invalid_function_parameters",
            )
    return None


def _form_problem(body: ChatBody, raw: Mapping[str, Any], *, azure: bool) -> Refusal | None:
    form = body.response_format
    if form is None or form.type == "text":
        return None
    if isinstance(form, SchemaForm):
        return _schema_problem(form.json_schema, azure=azure)
    if "json" in json.dumps(raw["messages"], ensure_ascii=False).lower():
        return None
    return Refusal(
        "'messages' must contain the word 'json' in some form, to use 'response_format' of "
        "type 'json_object'.",
        "messages",
    )


def _schema_problem(form: SchemaHolder, *, azure: bool) -> Refusal | None:
    if form.schema_ is None:
        name = "response_format.json_schema.schema"
        return Refusal(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    problem = schema_problem(form.schema_, strict=bool(form.strict), azure=azure)
    if problem is None:
        return None
    return Refusal(
        f"Invalid schema for response_format '{form.name}': {problem}", "response_format"
    )
