"""The verdict on an answer in plain Python: the `jsonschema` package and the documented rules."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any

from dbt_enrich.task.schema import OutputColumn, json_schema
from dbt_enrich.task.type_names import INTEGER_RANGES
from dbt_enrich.task.types import ArrayType, DataType, EnumType, ListType, ScalarType, StructType
from jsonschema import Draft202012Validator

EXACT = Context(prec=400)
_MOMENT = r"\d{4}-\d\d-\d\d[T ]([01]\d|2[0-3]):\d\d:\d\d(\.\d{1,9})?"
_PATTERNS = {
    "date": r"\d{4}-\d\d-\d\d",
    "time": r"([01]\d|2[0-3]):\d\d:\d\d(\.\d{1,9})?",
    "timestamp": _MOMENT + "Z?",
    "timestamp with time zone": _MOMENT + r"(Z|[+-]\d\d(:\d\d)?)",
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "double": float,
    "float": lambda value: struct.unpack("f", struct.pack("f", float(value)))[0],
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timestamp": lambda text: datetime.fromisoformat(text).replace(tzinfo=None),
    "timestamp with time zone": datetime.fromisoformat,
    **dict.fromkeys(INTEGER_RANGES, int),
}


def verdict(outputs: Sequence[OutputColumn], text: str) -> tuple[str | None, dict[str, Any] | None]:
    """Return the kind of mismatch, None where there is none, and the typed answer.

    Args:
        outputs: The output columns.
        text: The answer, one JSON object without anything around it.
    """
    try:
        document = _read(text)
    except json.JSONDecodeError:
        return "invalid_json", None
    except _RepeatedKeyError:
        return "schema_mismatch", None
    if isinstance(document, dict):
        for output in outputs:
            if output.lower and output.name in document:
                document[output.name] = _lowered(document[output.name], output.type)
    whole, rules = _validators(tuple(outputs))
    if not whole.is_valid(document):
        return "schema_mismatch", None
    answer = {}
    for output, rule in zip(outputs, rules, strict=True):
        value = document[output.name]
        if value is not None and not _fits(value, output.type):
            return "schema_mismatch", None
        answer[output.name] = _normalised(value, output)
        if not rule.is_valid(_as_json(answer[output.name])):
            return "schema_mismatch", None
    return None, answer


@lru_cache(maxsize=1)
def _validators(
    outputs: tuple[OutputColumn, ...],
) -> tuple[Draft202012Validator, list[Draft202012Validator]]:
    """Return what judges a document of the output columns, and the value of each of them."""
    rules = [Draft202012Validator(_rules_schema(output)) for output in outputs]
    return Draft202012Validator(json_schema(outputs)), rules


class _RepeatedKeyError(Exception):
    """An object has a key twice."""


def _read(text: str) -> Any:
    repeated = []

    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated.append(len({key for key, _ in pairs}) < len(pairs))
        return dict(pairs)

    document = json.loads(text, object_pairs_hook=read_object)
    if any(repeated):
        raise _RepeatedKeyError
    return document


def _normalised(value: Any, output: OutputColumn) -> Any:
    if value is None:
        return None
    typed = _typed(value, output.type)
    if not output.unique_items:
        return typed
    return [item for place, item in enumerate(typed) if item not in typed[:place]]


def _rules_schema(output: OutputColumn) -> dict[str, Any]:
    bounds = {"minimum": output.min, "maximum": output.max}
    schema: dict[str, Any] = {key: value for key, value in bounds.items() if value is not None}
    kind = output.type
    while isinstance(kind, ListType):
        kind, schema = kind.item, {"items": schema}
    return schema if output.max_items is None else {**schema, "maxItems": output.max_items}


def _as_json(typed: Any) -> Any:
    if isinstance(typed, list):
        return [_as_json(item) for item in typed]
    return float(typed) if isinstance(typed, Decimal) else typed


def _lowered(value: Any, kind: DataType) -> Any:
    match kind, value:
        case ListType(item), list():
            return [_lowered(element, item) for element in value]
        case StructType(fields), dict():
            kinds = dict(fields)
            return {k: _lowered(v, kinds[k]) if k in kinds else v for k, v in value.items()}
        case ((EnumType() | ScalarType("varchar")), str()):
            return value.lower()
    return value


def _fits(value: Any, kind: DataType) -> bool:
    """Return whether a value that the JSON Schema takes fits its DuckDB type."""
    match kind:
        case ListType(item):
            return all(_fits(element, item) for element in value)
        case ArrayType(item, size):
            return len(value) == size and all(_fits(element, item) for element in value)
        case StructType(fields):
            return all(_fits(value[name], field) for name, field in fields)
        case EnumType():
            return True
        case ScalarType("decimal", width, scale):
            return _fits_decimal(value, int(width or 0), int(scale or 0))
    if kind.name in INTEGER_RANGES:
        low, high = INTEGER_RANGES[kind.name]
        return bool(low <= int(value) <= high)
    if kind.name == "double":
        return math.isfinite(value)
    if kind.name == "float":
        return bool(abs(value) < 3.4028236e38)
    return _fits_moment(value, kind.name) if isinstance(value, str) else True


def _fits_decimal(value: float, width: int, scale: int) -> bool:
    if not math.isfinite(value):
        return False
    exact = Decimal(repr(value))
    if isinstance(value, float) and len(exact.normalize(EXACT).as_tuple().digits) > 15:
        return False
    rounded = EXACT.quantize(exact, EXACT.scaleb(Decimal(1), -scale))
    return exact == rounded and abs(exact) < Decimal(10 ** (width - scale))


def _fits_moment(value: str, name: str) -> bool:
    if name not in _PATTERNS:
        return True
    if not re.fullmatch(_PATTERNS[name], value, re.ASCII):
        return False
    if name == "date":
        return bool(Draft202012Validator.FORMAT_CHECKER.conforms(value, "date"))
    try:
        (time if name == "time" else datetime).fromisoformat(value)
    except ValueError:
        return False
    return True


def _typed(value: Any, kind: DataType) -> Any:
    match kind:
        case ListType(item):
            return [_typed(element, item) for element in value]
        case StructType(fields):
            return {name: _typed(value[name], field) for name, field in fields}
        case ScalarType("decimal", _, scale):
            return EXACT.quantize(Decimal(repr(value)), EXACT.scaleb(Decimal(1), -int(scale or 0)))
        case ScalarType(name) if name in _READERS:
            return _READERS[name](value)
    return value
