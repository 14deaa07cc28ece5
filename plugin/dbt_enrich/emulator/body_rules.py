"""What the service refuses of a chat request's body before a model sees it.

Sources: Azure's guides to structured outputs and JSON mode (keywords that strict mode does not
take, one hundred properties, five levels of nesting), and errors that users reported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from dbt_enrich.emulator.errors import WireError

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MOST_PROPERTIES = 100
_MOST_LEVELS = 5
_MOST_ENUM_VALUES = 500
_RANGES = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
_COUNTS = ("max_tokens", "max_completion_tokens", "n")
_REFUSED_KEYWORDS = frozenset(
    {
        "minLength", "maxLength", "pattern", "format",
        "minimum", "maximum", "multipleOf", "exclusiveMinimum", "exclusiveMaximum",
        "patternProperties", "unevaluatedProperties", "propertyNames", "minProperties",
        "maxProperties", "unevaluatedItems", "contains", "minContains", "maxContains",
        "minItems", "maxItems", "uniqueItems", "allOf", "oneOf", "not", "if", "then", "else",
    }
)  # fmt: skip


def body_problem(body: Mapping[str, Any], *, azure: bool, batch: bool) -> WireError | None:
    """Return the reply to a body that the service refuses, or None if a model may answer it.

    Args:
        body: The body of a `chat/completions` request.
        azure: Whether strict schemas are held to Azure's list of keywords.
        batch: Whether it is a line of a batch, which cannot be streamed.
    """
    problem = _parameter_problem(body, batch=batch) or _form_problem(body, azure=azure)
    if problem is None:
        return None
    parameter, message = problem
    return WireError(400, "invalid_request_error", message, param=parameter)


def _parameter_problem(body: Mapping[str, Any], *, batch: bool) -> tuple[str, str] | None:
    for name, (least, most) in _RANGES.items():
        value = body.get(name)
        if value is not None and not (_is_number(value) and least <= value <= most):
            return name, f"Invalid '{name}': it must be a number from {least} to {most}."
    for name in _COUNTS:
        value = body.get(name)
        if value is not None and not (_is_number(value) and value == int(value) and value > 0):
            return name, f"Invalid '{name}': it must be a positive whole number."
    if batch and body.get("stream"):
        return "stream", "Streaming is not supported in a batch."
    return None


def _form_problem(body: Mapping[str, Any], *, azure: bool) -> tuple[str, str] | None:
    form = body.get("response_format")
    if form is None:
        return None
    kind = form.get("type") if isinstance(form, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        spoken = json.dumps(body.get("messages"), ensure_ascii=False).lower()
        if "json" in spoken:
            return None
        return "messages", (
            "'messages' must contain the word 'json' in some form, to use 'response_format' of "
            "type 'json_object'."
        )
    if kind != "json_schema":
        return "response_format.type", f"Invalid value: '{kind}' is no type of response_format."
    return _schema_form_problem(form.get("json_schema"), azure=azure)


def _schema_form_problem(form: Any, *, azure: bool) -> tuple[str, str] | None:
    if not isinstance(form, dict) or not _NAME.fullmatch(str(form.get("name", ""))):
        return "response_format.json_schema.name", (
            "Invalid 'response_format.json_schema.name': it must match ^[a-zA-Z0-9_-]{1,64}$."
        )
    if not form.get("strict"):
        return None
    schema = form.get("schema")
    problem = _strict_problem(schema, azure=azure)
    if problem is None:
        return None
    return "response_format", f"Invalid schema for response_format '{form['name']}': {problem}"


def _strict_problem(schema: Any, *, azure: bool) -> str | None:
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return "schema must be a JSON Schema of 'type: \"object\"'."
    properties = enum_values = 0
    for path, level, node in _nodes(schema, (), 0):
        place = f"In context={path!r}, "
        if level > _MOST_LEVELS:
            return f"{place}{level} levels of nesting exceeds limit of {_MOST_LEVELS}."
        refused = _REFUSED_KEYWORDS & node.keys() if azure else set()
        if refused:
            return f"{place}'{min(refused)}' is not permitted."
        enum_values += len(node.get("enum") or [])
        if node.get("type") == "object":
            properties += len(node.get("properties") or {})
            problem = _object_problem(node)
            if problem:
                return place + problem
    if properties > _MOST_PROPERTIES:
        return f"{properties} properties exceed the limit of {_MOST_PROPERTIES}."
    if enum_values > _MOST_ENUM_VALUES:
        return f"{enum_values} enum values exceed the limit of {_MOST_ENUM_VALUES}."
    return None


def _object_problem(node: Mapping[str, Any]) -> str | None:
    if node.get("additionalProperties") is not False:
        return "'additionalProperties' is required to be supplied and to be false."
    missing = sorted(set(node.get("properties") or {}) - set(node.get("required") or []))
    if missing:
        return (
            "'required' is required to be supplied and to be an array including every key in "
            f"properties. Missing '{missing[0]}'."
        )
    return None


def _nodes(
    node: Mapping[str, Any], path: tuple[str, ...], level: int
) -> Iterator[tuple[tuple[str, ...], int, Mapping[str, Any]]]:
    """Yield each schema within a schema, with the number of objects and arrays around it."""
    yield path, level, node
    for name, child in (node.get("properties") or {}).items():
        if isinstance(child, dict):
            yield from _nodes(child, (*path, "properties", name), level + 1)
    items = node.get("items")
    if isinstance(items, dict):
        yield from _nodes(items, (*path, "items"), level + 1)
    for number, child in enumerate(node.get("anyOf") or []):
        if isinstance(child, dict):
            yield from _nodes(child, (*path, "anyOf", str(number)), level)
    for name, child in (node.get("$defs") or {}).items():
        if isinstance(child, dict):
            yield from _nodes(child, (*path, "$defs", name), level + 1)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
