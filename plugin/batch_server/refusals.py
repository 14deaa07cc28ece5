"""Why a body is refused, in the service's words: from pydantic's findings to its error replies.

The texts and codes are OpenAI's, as users reported them: `invalid_type`, `invalid_value`,
`missing_required_parameter`, `integer_below_min_value`, `string_above_max_length`, …
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from batch_server.bodies import Body
from batch_server.plain import NO_TEXT, odd_part, readable

_LONGEST_QUOTE = 100
# A step of pydantic's that is no step in the body.
_OF_THE_KEY = "[key]"
_EXPECTED = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a decimal",
    "bool_type": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_KINDS: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal number",
    list: "an array",
    dict: "an object",
    type(None): "null",
}
_BOUNDS = {
    "greater_than_equal": ("below minimum", "below_min", ">=", "ge"),
    "less_than_equal": ("above maximum", "above_max", "<=", "le"),
}
M = TypeVar("M", bound=Body)


@dataclass(frozen=True)
class Refusal:
    """Why a body is refused.

    Attributes:
        message: What the service says.
        param: The part that is wrong, such as `messages[0].role`; None for the whole.
        code: OpenAI's code for it, or None where it gives none.
    """

    message: str
    param: str | None = None
    code: str | None = None


def read_body(model: type[M], document: Any) -> M | Refusal:
    """Return parsed JSON as a body, or why it is none. It is held to the whole model."""
    refusal = odd_refusal(document)
    if refusal:
        return refusal
    try:
        return model.model_validate(document)
    except ValidationError as error:
        return refusal_of(error, document)


def refusal_of(error: ValidationError, document: Any) -> Refusal:
    """Return the first of the reasons why a parsed document is not what a model says."""
    return _refusal(error.errors(include_url=False)[0], document)


def odd_refusal(document: Any) -> Refusal | None:
    """Return why a document that is no plain data is refused, or None if it is."""
    oddity = odd_part(document)
    if oddity is None:
        return None
    param = parameter(oddity.path)
    place = f" '{param}'" if param else " body"
    return Refusal(f"Invalid{place}: {oddity.problem}.", param, "invalid_value")


def parameter(path: tuple[str | int, ...]) -> str | None:
    """Return a path as the service writes it, such as `messages[0].role`; None for the whole."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return readable(text.removeprefix("."))[: 2 * _LONGEST_QUOTE] or None


def quoted(value: object) -> str:
    """Return a value as it stands in an error's text: a text in quotes, and none for pages."""
    text = readable(str(value))
    text = f"{text[:_LONGEST_QUOTE]}…" if len(text) > _LONGEST_QUOTE else text
    return f"'{text}'" if isinstance(value, str) else text


def kind_of(value: object) -> str:
    """Return what JSON calls a value's type, with its article."""
    return _KINDS.get(type(value), "something else")


def _refusal(detail: ErrorDetails, document: Any) -> Refusal:
    path = _path_in(document, detail["loc"])
    param = parameter(path)
    kind = detail["type"]
    if kind == "missing":
        return missing(param)
    make = _MAKERS.get(kind)
    if make:
        return make(detail, param)
    if kind in _EXPECTED:
        return _wrong_type(_EXPECTED[kind], detail["input"], param)
    return Refusal(f"Invalid '{param}': {detail['msg']}.", param, "invalid_value")


def _path_in(document: Any, location: tuple[int | str, ...]) -> tuple[str | int, ...]:
    """Return the steps of a location that lead through the document; others name unions' forms."""
    path: list[str | int] = []
    value = document
    for place, step in enumerate(location):
        is_last = place == len(location) - 1
        if _leads_on(value, step):
            value = value[step]
        elif not is_last or not isinstance(value, Mapping) or step == _OF_THE_KEY:
            continue
        path.append(step)
    return tuple(path)


def _leads_on(value: Any, step: int | str) -> bool:
    if isinstance(step, str):
        return isinstance(value, Mapping) and step in value
    return isinstance(value, list) and step < len(value)


def missing(param: str | None) -> Refusal:
    """A part that must be there and is not."""
    return Refusal(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")


def _tag_of(detail: ErrorDetails) -> str | None:
    """Return the key that distinguishes a union's members, or None if it is by the value's type."""
    name = str(detail.get("ctx", {}).get("discriminator", "")).strip("'")
    return name if name.isidentifier() else None


def _wrong_type(expected: str, given: Any, param: str | None) -> Refusal:
    place = f"'{param}'" if param else "the body"
    return Refusal(
        f"Invalid type for {place}: expected {expected}, but got {kind_of(given)} instead.",
        param,
        "invalid_type",
    )


def _unnamed(detail: ErrorDetails, param: str | None) -> Refusal:
    given, tag = detail["input"], _tag_of(detail)
    if tag and isinstance(given, Mapping):
        return missing(f"{param}.{tag}" if param else tag)
    if tag:
        return _wrong_type("an object", given, param)
    if given is None:
        return Refusal("Invalid value for 'content': expected a string, got null.", param)
    return _wrong_type("one of a string or an array", given, param)


def _unknown_tag(detail: ErrorDetails, param: str | None) -> Refusal:
    tag = _tag_of(detail) or ""
    place = f"{param}.{tag}" if param else tag
    given = detail["input"].get(tag) if isinstance(detail["input"], Mapping) else None
    if not isinstance(given, str):
        return _wrong_type("a string", given, place)
    known = str(detail.get("ctx", {}).get("expected_tags", "")).split(", ")
    return _unknown_value(given, known, place)


def _unknown_literal(detail: ErrorDetails, param: str | None) -> Refusal:
    given = detail["input"]
    if not isinstance(given, str):
        return _wrong_type("a string", given, param)
    expected = str(detail.get("ctx", {}).get("expected", "")).replace(" or ", ", ")
    return _unknown_value(given, expected.split(", "), param)


def _unknown_value(given: str, known: list[str], param: str | None) -> Refusal:
    *others, last = known
    joined = f"{', '.join(others)}, and {last}" if len(others) > 1 else " and ".join(known)
    return Refusal(
        f"Invalid value: {quoted(given)}. Supported values are: {joined}.", param, "invalid_value"
    )


def _out_of_bounds(detail: ErrorDetails, param: str | None) -> Refusal:
    words, code, sign, name = _BOUNDS[detail["type"]]
    bound = detail.get("ctx", {}).get(name)
    kind, shown = ("decimal", f"{bound:g}") if isinstance(bound, float) else ("integer", f"{bound}")
    return Refusal(
        f"Invalid '{param}': {kind} {words} value. Expected a value {sign} {shown}, but got "
        f"{quoted(detail['input'])} instead.",
        param,
        f"{kind}_{code}_value",
    )


def _wrong_length(detail: ErrorDetails, param: str | None) -> Refusal:
    given, context = detail["input"], detail.get("ctx", {})
    kind = "array" if isinstance(given, list) else "object" if isinstance(given, dict) else "string"
    if "min_length" in context:
        side, word, limit = "empty", "minimum", context["min_length"]
    else:
        side, word, limit = "too long", "maximum", context["max_length"]
    code = {
        ("array", "empty"): "empty_array",
        ("string", "empty"): "empty_string",
        ("array", "too long"): "array_above_max_length",
        ("object", "too long"): "object_above_max_properties",
    }.get((kind, side), "string_above_max_length")
    if kind == "object":
        return Refusal(
            f"Invalid '{param}': too many properties. Expected an object with at most {limit} "
            f"properties, but got an object with {len(given)} properties instead.",
            param,
            code,
        )
    phrase = f"empty {kind}" if side == "empty" else f"{kind} too long"
    article = "an" if kind == "array" else "a"
    got = f"an empty {kind}" if not given else f"{article} {kind} with length {len(given)}"
    return Refusal(
        f"Invalid '{param}': {phrase}. Expected {article} {kind} with {word} length {limit}, but "
        f"got {got} instead.",
        param,
        code,
    )


def _no_unicode(_: ErrorDetails, param: str | None) -> Refusal:
    return Refusal(f"Invalid '{param}': {NO_TEXT}.", param, "invalid_value")


def _wrong_pattern(detail: ErrorDetails, param: str | None) -> Refusal:
    pattern = detail.get("ctx", {}).get("pattern")
    return Refusal(
        f"Invalid '{param}': string does not match pattern. Expected a string that matches the "
        f"pattern '{pattern}'.",
        param,
        "invalid_value",
    )


_MAKERS: dict[str, Callable[[ErrorDetails, str | None], Refusal]] = {
    "union_tag_not_found": _unnamed,
    "union_tag_invalid": _unknown_tag,
    "literal_error": _unknown_literal,
    **dict.fromkeys(_BOUNDS, _out_of_bounds),
    **dict.fromkeys(("too_short", "too_long", "string_too_short", "string_too_long"),
                    _wrong_length),
    "string_unicode": _no_unicode,
    "string_pattern_mismatch": _wrong_pattern,
}  # fmt: skip
