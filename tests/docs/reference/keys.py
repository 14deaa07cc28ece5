"""Keys of YAML as a page of the reference lists them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any

from docs.reference.markdown import attributes
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo


def _values(schema: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> str:
    """Say in words which values a JSON schema allows.

    Args:
        schema: It, or a part of it.
        known: What `$ref` names, of the whole schema.
    """
    known = schema.get("$defs", {}) if known is None else known
    if "$ref" in schema:
        return _values(known[schema["$ref"].rsplit("/", 1)[-1]], known)
    if "anyOf" in schema:
        some = [part for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(_values(part, known) for part in some)
    if "enum" in schema or "const" in schema:
        return either(schema.get("enum", [schema.get("const")]))
    match schema.get("type"):
        case "boolean":
            return "`true` or `false`"
        case "integer" | "number":
            noun = "whole number" if schema["type"] == "integer" else "number"
            return f"a {noun}{_bounds(schema)}"
        case "array":
            items = _values(schema["items"], known)
            return f"a list of {_several(items)}"
        case "object":
            inner = schema.get("additionalProperties")
            if isinstance(inner, dict) and inner:
                return f"a mapping of names to {_values(inner, known)}"
            return "a mapping"
    return {"path": "a path", "password": "text, never shown"}.get(schema.get("format", ""), "text")


def _several(values: str) -> str:
    return values if "`" in values else f"{values.removeprefix('a ')}s"


def either(values: Iterable[object]) -> str:
    """Name values that are alternatives."""
    members = [f"`{value}`" for value in values]
    return " or ".join(filter(None, [", ".join(members[:-1]), members[-1]]))


def _bounds(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f" from {least:g} to {most:g}"
    if schema.get("exclusiveMinimum") is not None:
        return f" above {schema['exclusiveMinimum']:g}"
    return "" if least is None else f", {least:g} or more"


def key(name: str, values: str, default: object, text: str) -> str:
    """Write a key: what it is, the values that it takes, and its default.

    Args:
        name: Its name.
        values: The values that it takes, in words.
        default: Its default; `...` where it is required.
        text: What it is; a default that it states in brackets is preferred to the value.
    """
    stated = re.search(r" ?\(default: ([^)]*)\)", text)
    if stated:
        text = text.replace(stated[0], "")
    text = re.sub(r"\bNone\b", "none", text)
    return f"### `{name}`\n\n{text}\n\n- {_sentence(values)}.\n- {_default(default, stated)}\n"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _default(default: object, stated: re.Match[str] | None) -> str:
    if default is ...:
        return "Required."
    if stated:
        return f"Default: {stated[1]}."
    if default is None or default in ((), {}):
        return "Default: none."
    if isinstance(default, bool):
        return f"Default: `{str(default).lower()}`."
    return f"Default: `{default:g}`." if isinstance(default, float) else f"Default: `{default}`."


def _field(name: str, field: FieldInfo, text: str) -> str:
    annotated: Any = Annotated[field.annotation, field]
    schema = TypeAdapter(annotated).json_schema()
    default = ... if field.is_required() else field.get_default(call_default_factory=True)
    shown = None if isinstance(default, BaseModel) else default
    return key(name, _values(schema), shown, text)


def keys(model: Any, *, without: Iterable[str] = ()) -> str:
    """Write the keys that a pydantic model declares itself."""
    texts = attributes(model)
    return "\n".join(
        _field(name, field, texts[name])
        for name, field in model.model_fields.items()
        if name in model.__annotations__ and name not in without
    )


def dataclass_keys(model: Any, *, without: Iterable[str] = ()) -> str:
    """Write the keys that are the fields of a dataclass."""
    texts = attributes(model)
    hints = inspect.get_annotations(model, eval_str=True)
    return "\n".join(
        key(
            field.name,
            _values(TypeAdapter(hints[field.name]).json_schema()),
            ... if field.default is MISSING else field.default,
            texts[field.name],
        )
        for field in fields(model)
        if field.name not in without
    )
