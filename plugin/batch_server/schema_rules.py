"""What the service takes as a JSON Schema, and what of it in strict mode.

Sources: Azure's guide to structured outputs (keywords that strict mode does not take, one hundred
properties, five levels of nesting, every property required), JSON Schema 2020-12 (what each
keyword holds), and errors that users reported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from pydantic_core import to_json

_MOST_PROPERTIES = 100
_MOST_LEVELS = 5
_MOST_ENUM_VALUES = 500
_LONGEST_QUOTE = 80
_REMEMBERED = 64
_TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")
_REFUSED_KEYWORDS = frozenset(
    {
        "minLength", "maxLength", "pattern", "format",
        "minimum", "maximum", "multipleOf", "exclusiveMinimum", "exclusiveMaximum",
        "patternProperties", "unevaluatedProperties", "propertyNames", "minProperties",
        "maxProperties", "unevaluatedItems", "contains", "minContains", "maxContains",
        "minItems", "maxItems", "uniqueItems", "allOf", "oneOf", "not", "if", "then", "else",
    }
)  # fmt: skip
_SCHEMAS_BY_NAME = ("properties", "$defs", "definitions", "patternProperties")
_SCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMAS = ("items", "additionalProperties", "not", "if", "then", "else", "contains",
            "propertyNames", "unevaluatedItems", "unevaluatedProperties")  # fmt: skip
_TEXTS = ("title", "description", "$ref", "$id", "$schema", "$anchor", "$comment", "pattern",
          "format")  # fmt: skip
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties",
           "minContains", "maxContains")  # fmt: skip
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_NAMING = frozenset({"type", "anyOf", "$ref", "enum", "const"})

Path = tuple[str, ...]


def schema_problem(schema: Mapping[str, Any], *, strict: bool, azure: bool) -> str | None:
    """Return why a schema is refused, or None; the verdict on each text is remembered.

    Args:
        schema: The schema, plain data.
        strict: Whether it is to be held to strict mode.
        azure: Whether strict mode is held to Azure's list of keywords.
    """
    return _verdict(to_json(schema), strict, azure)


@lru_cache(_REMEMBERED)
def _verdict(text: bytes, strict: bool, azure: bool) -> str | None:
    schema = json.loads(text)
    if strict and schema.get("type") != "object":
        return (
            "schema must be a JSON Schema of 'type: \"object\"', got 'type: "
            f"{_shown(schema.get('type'))}'."
        )
    for path, _, node in _nodes(schema, (), 0):
        problem = _keyword_problem(node)
        if problem:
            return f"In context={path!r}, {problem}"
    return _strict_problem(schema, azure=azure) if strict else None


def _keyword_problem(node: Any) -> str | None:
    """Return which keyword of a schema holds something else than it may, or None."""
    if isinstance(node, bool):
        return None
    if not isinstance(node, dict):
        return f"{_shown(node)} is not of type 'object', 'boolean'."
    for keyword, value in node.items():
        test = _TESTS.get(keyword)
        problem = test(value) if test else None
        if problem:
            return f"'{keyword}': {_shown(value)} {problem}."
    return None


def _strict_problem(schema: dict[str, Any], *, azure: bool) -> str | None:
    properties = enum_values = 0
    for path, level, node in _nodes(schema, (), 0):
        place = f"In context={path!r}, "
        if not isinstance(node, dict):
            return f"{place}schema must have a 'type' key."
        if level > _MOST_LEVELS:
            return f"{place}{level} levels of nesting exceeds limit of {_MOST_LEVELS}."
        problem = _strict_node_problem(node, schema, azure=azure)
        if problem:
            return place + problem
        enum_values += len(node.get("enum", ()))
        properties += len(node.get("properties", ()))
    if properties > _MOST_PROPERTIES:
        return f"{properties} properties exceed the limit of {_MOST_PROPERTIES}."
    if enum_values > _MOST_ENUM_VALUES:
        return f"{enum_values} enum values exceed the limit of {_MOST_ENUM_VALUES}."
    return None


def _strict_node_problem(
    node: dict[str, Any], schema: dict[str, Any], *, azure: bool
) -> str | None:
    refused = _REFUSED_KEYWORDS & node.keys() if azure else set()
    if refused:
        return f"'{min(refused)}' is not permitted."
    if not _NAMING & node.keys():
        return "schema must have a 'type' key."
    if "$ref" in node and not _leads_somewhere(node["$ref"], schema):
        return (
            "reference can only point to definitions defined at the top level of the schema, not "
            f"to {_shown(node['$ref'])}."
        )
    kinds = node.get("type", ())
    if "array" in kinds and "items" not in node:
        return "array schema missing items."
    return _object_problem(node) if "object" in kinds else None


def _object_problem(node: dict[str, Any]) -> str | None:
    if node.get("additionalProperties") is not False:
        return "'additionalProperties' is required to be supplied and to be false."
    properties, required = set(node.get("properties", ())), set(node.get("required", ()))
    if properties == required:
        return None
    missing, extra = sorted(properties - required), sorted(required - properties)
    reason = f"Missing '{missing[0]}'." if missing else f"Extra required key '{extra[0]}' supplied."
    return (
        "'required' is required to be supplied and to be an array including every key in "
        f"properties. {reason}"
    )


def _leads_somewhere(reference: str, schema: dict[str, Any]) -> bool:
    if not reference.startswith("#"):
        return False
    node: Any = schema
    for step in reference[1:].split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, dict) or name not in node:
            return False
        node = node[name]
    return isinstance(node, dict)


def _nodes(node: Any, path: Path, level: int) -> Iterator[tuple[Path, int, Any]]:
    """Yield each schema within a schema, with the number of objects and arrays around it.

    A keyword that holds no schemas where it should is passed over: it is found at its own node.
    """
    yield path, level, node
    if not isinstance(node, dict):
        return
    for keyword in _SCHEMAS_BY_NAME:
        children = node.get(keyword)
        for name, child in children.items() if isinstance(children, dict) else ():
            yield from _nodes(child, (*path, keyword, name), level + 1)
    for keyword in _SCHEMA_LISTS:
        children = node.get(keyword)
        for number, child in enumerate(children if isinstance(children, list) else ()):
            yield from _nodes(child, (*path, keyword, str(number)), level)
    for keyword in _SCHEMAS:
        child = node.get(keyword)
        if child is not None and not isinstance(child, bool):
            yield from _nodes(child, (*path, keyword), level + (keyword == "items"))


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return f"{text[:_LONGEST_QUOTE]}…" if len(text) > _LONGEST_QUOTE else text


# What each keyword holds: the rest of the sentence about a value that it may not hold


def _type_problem(value: object) -> str | None:
    kinds = value if isinstance(value, list) else [value]
    if kinds and all(isinstance(kind, str) and kind in _TYPES for kind in kinds):
        return None
    return "is not valid under any of the given schemas"


def _names_problem(value: object) -> str | None:
    if not isinstance(value, list):
        return "is not of type 'array'"
    if not all(isinstance(name, str) for name in value):
        return "has an entry that is not of type 'string'"
    return None if len(set(value)) == len(value) else "has non-unique elements"


def _list_problem(value: object) -> str | None:
    if not isinstance(value, list):
        return "is not of type 'array'"
    return None if value else "should be non-empty"


def _mapping_problem(value: object) -> str | None:
    return None if isinstance(value, dict) else "is not of type 'object'"


def _schema_place_problem(value: object) -> str | None:
    return None if isinstance(value, dict | bool) else "is not of type 'object', 'boolean'"


def _text_problem(value: object) -> str | None:
    return None if isinstance(value, str) else "is not of type 'string'"


def _count_problem(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return "is not of type 'integer'"
    return None if value >= 0 else "is less than the minimum of 0"


def _number_problem(value: object) -> str | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if is_number else "is not of type 'number'"


def _boolean_problem(value: object) -> str | None:
    return None if isinstance(value, bool) else "is not of type 'boolean'"


_TESTS: dict[str, Callable[[object], str | None]] = {
    "type": _type_problem,
    "required": _names_problem,
    "enum": _list_problem,
    "uniqueItems": _boolean_problem,
    **dict.fromkeys(_SCHEMA_LISTS, _list_problem),
    **dict.fromkeys(_SCHEMAS_BY_NAME, _mapping_problem),
    **dict.fromkeys(_SCHEMAS, _schema_place_problem),
    **dict.fromkeys(_TEXTS, _text_problem),
    **dict.fromkeys(_COUNTS, _count_problem),
    **dict.fromkeys(_NUMBERS, _number_problem),
}
