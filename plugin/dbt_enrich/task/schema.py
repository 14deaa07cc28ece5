"""Output columns: their types and rules, as a strict JSON Schema and as part of the identity."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dbt_enrich.errors import ConfigurationError
from dbt_enrich.task.type_names import INTEGER_RANGES, NUMBER_NAMES
from dbt_enrich.task.types import (
    ArrayType,
    DataType,
    EnumType,
    ListType,
    ScalarType,
    StructType,
    parse_type,
)

# What the service's strict mode accepts. Azure documents 100 properties and five levels of nesting;
# the limits of names and enums are those of OpenAI's own client libraries, which count a level for
# each property, each list's items and each branch of an anyOf. OpenAI has since raised its own
# limits; the tighter ones hold here, as one task may go to either.
# https://learn.microsoft.com/azure/ai-foundry/openai/how-to/structured-outputs
MAX_PROPERTIES = 100
MAX_LEVELS = 5
MAX_ENUM_MEMBERS = 500
MAX_CHARACTERS = 15_000
LONG_ENUM_MEMBERS = 250
LONG_ENUM_CHARACTERS = 7_500


@dataclass(frozen=True)
class OutputColumn:
    """One column of the answer: its type, what it means, and the rules that its values obey.

    Attributes:
        name: The column's name, and the key in the answer.
        data_type: A DuckDB type, such as `varchar[]`.
        description: What the column means; the model reads it.
        nullable: Whether the model may answer null. Elements of lists and fields of structs are
            never null.
        max_items: Most elements of a list, counted after repeated ones were dropped.
        unique_items: Whether repeated elements of a list are dropped; the first one stays.
        lower: Whether every text in the column is brought to lower case.
        min: Smallest value of a number, or of each number of a list.
        max: Largest value of a number, or of each number of a list.

    Raises:
        ConfigurationError: The type is none, or a rule does not fit it.
    """

    name: str
    data_type: str
    description: str | None = None
    nullable: bool = False
    max_items: int | None = None
    unique_items: bool = False
    lower: bool = False
    min: float | None = None
    max: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or "\x00" in self.name:
            raise ConfigurationError(
                f"an output column has the name {self.name!r}",
                fix="give it a text without NUL",
            )
        try:
            kind = parse_type(str(self.data_type))
        except ConfigurationError as error:
            raise ConfigurationError(
                f"the output column '{self.name}': {error.problem}", fix=error.fix
            ) from None
        self._check_flags()
        self._check_vector(kind)
        self._check_items(kind)
        self._check_bounds(kind)
        self._check_lower(kind)

    @cached_property
    def type(self) -> DataType:
        """The parsed type."""
        return parse_type(str(self.data_type))

    @property
    def held_type(self) -> DataType:
        """The type in which an answer is held until it is published: a vector as a list."""
        return self.type.as_list if isinstance(self.type, ArrayType) else self.type

    def _check_flags(self) -> None:
        for rule in ("nullable", "unique_items", "lower"):
            value = getattr(self, rule)
            if not isinstance(value, bool):
                raise self._error(rule, f"is {value!r}", "write true or false")

    def _check_vector(self, kind: DataType) -> None:
        if self.nullable and isinstance(kind, ArrayType):
            raise self._error(
                "nullable",
                f"is for answers that may be null, but a {kind.sql} never is",
                "remove it",
            )

    def _check_items(self, kind: DataType) -> None:
        if self.max_items is not None:
            if isinstance(self.max_items, bool) or not isinstance(self.max_items, int):
                raise self._error("max_items", f"is {self.max_items!r}", "write a whole number")
            if self.max_items < 1:
                raise self._error("max_items", f"is {self.max_items}", "write 1 or more")
        for rule, given in (("max_items", self.max_items), ("unique_items", self.unique_items)):
            if given and not isinstance(kind, ListType):
                raise self._error(
                    rule,
                    f"is for lists, but its type is {kind.sql}",
                    f"remove it or use {kind.sql}[]",
                )

    def _check_bounds(self, kind: DataType) -> None:
        for rule, bound in (("min", self.min), ("max", self.max)):
            if bound is None:
                continue
            if isinstance(bound, bool) or not isinstance(bound, (int, float)):
                raise self._error(rule, f"is {bound!r}", "write a number")
            if not math.isfinite(bound):
                raise self._error(rule, f"is {bound!r}", "write a finite number, or remove it")
            if not is_number(innermost(kind)):
                raise self._error(
                    rule, f"is for numbers, but its type is {kind.sql}", "remove it or use integer"
                )
        if self.min is not None and self.max is not None and self.min > self.max:
            raise self._error(
                "min", f"is {self.min:g}, more than its max {self.max:g}", "swap the two"
            )

    def _check_lower(self, kind: DataType) -> None:
        if not self.lower:
            return
        if not any(is_text(leaf) for leaf in leaves(kind)):
            raise self._error(
                "lower", f"is for texts, but its type is {kind.sql}", "remove it or use varchar"
            )
        for leaf in leaves(kind):
            for member in leaf.members if isinstance(leaf, EnumType) else ():
                if member != member.lower():
                    raise self._error(
                        "lower",
                        f"never lets its enum have '{member}'",
                        "write the members in lower case",
                    )

    def _error(self, rule: str, problem: str, fix: str) -> ConfigurationError:
        return ConfigurationError(f"the output column '{self.name}': {rule} {problem}", fix=fix)


def leaves(kind: DataType) -> Iterator[ScalarType | EnumType]:
    """Yield the scalars and enums that `kind` is made of."""
    match kind:
        case ListType(item) | ArrayType(item):
            yield from leaves(item)
        case StructType(fields):
            for _, field in fields:
                yield from leaves(field)
        case _:
            yield kind


def innermost(kind: DataType) -> DataType:
    """Return the element type of a list, however deep, or `kind` itself."""
    while isinstance(kind, ListType):
        kind = kind.item
    return kind


def is_number(kind: DataType) -> bool:
    """Return whether `kind` is a numeric type."""
    return isinstance(kind, ScalarType) and kind.name in NUMBER_NAMES


def is_text(kind: DataType) -> bool:
    """Return whether `kind` holds free text or a text out of a list."""
    return isinstance(kind, EnumType) or kind == ScalarType("varchar")


def json_schema(outputs: Sequence[OutputColumn]) -> dict[str, Any]:
    """Return the strict JSON Schema of one answer.

    Every property is required and no other is allowed. Azure's strict mode refuses minimum,
    maximum, minItems, maxItems, uniqueItems, pattern and format, so the rules that they would state
    are sentences of the description, and the same schema goes to every service.

    Args:
        outputs: The output columns, in the order in which the model writes them.

    Raises:
        ConfigurationError: The schema exceeds a limit of the service.
    """
    properties = {output.name: _output_schema(output) for output in outputs}
    schema = _object_schema(properties)
    _check_limits(schema)
    return schema


def canonical_outputs(outputs: Sequence[OutputColumn]) -> list[dict[str, Any]]:
    """Return the outputs as the document that identifies a task holds them.

    Only rules that are set are in it, so that a rule of a later version leaves keys as they are.

    Args:
        outputs: The output columns, in any order.
    """
    return [_canonical(output) for output in sorted(outputs, key=lambda output: output.name)]


def _canonical(output: OutputColumn) -> dict[str, Any]:
    flags = {rule: True for rule in ("nullable", "unique_items", "lower") if getattr(output, rule)}
    numbers = {
        rule: _plain(value)
        for rule in ("max_items", "min", "max")
        if (value := getattr(output, rule)) is not None
    }
    description = (output.description or "").removesuffix("\n") or None
    # That of a vector is sent nowhere: it may be written anew at no cost.
    return {
        "name": output.name,
        "type": output.type.sql,
        "description": None if isinstance(output.type, ArrayType) else description,
        **flags,
        **numbers,
    }


def _plain(number: float) -> float:
    return int(number) if float(number).is_integer() else float(number)


def _output_schema(output: OutputColumn) -> dict[str, Any]:
    schema = _type_schema(output.type)
    sentences = [(output.description or "").strip(), schema.get("description"), *_rules(output)]
    text = " ".join(_sentence(sentence) for sentence in sentences if sentence)
    schema = {**({"description": text} if text else {}), **_without(schema, "description")}
    return _nullable_schema(schema) if output.nullable else schema


def packed_schema(outputs: Sequence[OutputColumn]) -> dict[str, Any]:
    """Return the JSON Schema of the answers to several rows, each with its row's id.

    Raises:
        ConfigurationError: It is too deep or too large for strict mode.
    """
    row = _object_schema({"id": {"type": "integer"}, "answer": json_schema(outputs)})
    schema = _object_schema({"rows": {"type": "array", "items": row}})
    _check_limits(schema)
    return schema


def _type_schema(kind: DataType) -> dict[str, Any]:
    match kind:
        case ListType(item) | ArrayType(item):
            return {"type": "array", "items": _type_schema(item)}
        case StructType(fields):
            return _object_schema({name: _type_schema(field) for name, field in fields})
        case EnumType(members):
            return {"type": "string", "enum": list(members)}
        case _:
            note = _note(kind)
            return {"type": _json_type(kind), **({"description": note} if note else {})}


def _object_schema(properties: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _nullable_schema(schema: dict[str, Any]) -> dict[str, Any]:
    if schema["type"] in ("array", "object") or "enum" in schema:
        branches = [_without(schema, "description"), {"type": "null"}]
        return {**_only(schema, "description"), "anyOf": branches}
    return {**schema, "type": [schema["type"], "null"]}


def _json_type(kind: ScalarType) -> str:
    if kind.name in INTEGER_RANGES:
        return "integer"
    if kind.name in NUMBER_NAMES:
        return "number"
    return "boolean" if kind.name == "boolean" else "string"


def _note(kind: ScalarType) -> str | None:
    """Say what the JSON type alone leaves open, or None."""
    if kind.name == "decimal":
        return f"At most {kind.scale} decimals." if kind.scale else "A number without decimals."
    low, high = INTEGER_RANGES.get(kind.name, (-1, 2**64))
    if high < 2**16:
        return f"From {low} to {high}."
    if low == 0:
        return "Not negative."
    return {
        "date": "A date as YYYY-MM-DD.",
        "time": "A time of day as HH:MM:SS.",
        "timestamp": "A date and time as YYYY-MM-DDTHH:MM:SS, without an offset.",
        "timestamp with time zone": "A date and time as YYYY-MM-DDTHH:MM:SS+00:00.",
    }.get(kind.name)


def _rules(output: OutputColumn) -> list[str]:
    each = "Each at" if isinstance(output.type, ListType) else "At"
    return [
        *([f"At most {output.max_items} items"] if output.max_items is not None else []),
        *(["No item twice"] if output.unique_items else []),
        *(["Lower case"] if output.lower else []),
        *([f"{each} least {_plain(output.min)}"] if output.min is not None else []),
        *([f"{each} most {_plain(output.max)}"] if output.max is not None else []),
    ]


def _sentence(text: str) -> str:
    return text if text[-1] in ".!?:;" else text + "."


def _only(schema: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name == key}


def _without(schema: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}


def _check_limits(schema: dict[str, Any]) -> None:
    names = [name for part, _ in _parts(schema) for name in part.get("properties", ())]
    enums = [part["enum"] for part, _ in _parts(schema) if "enum" in part]
    members = [member for enum in enums for member in enum]
    longest = max(
        (sum(map(len, enum)) for enum in enums if len(enum) > LONG_ENUM_MEMBERS), default=0
    )
    limits: list[tuple[str, int, int, str]] = [
        (
            "levels of nesting",
            max(level for _, level in _parts(schema)),
            MAX_LEVELS,
            "flatten a struct or a list",
        ),
        ("properties", len(names), MAX_PROPERTIES, "ask for fewer columns or fields"),
        ("enum members", len(members), MAX_ENUM_MEMBERS, "use varchar for one of the enums"),
        (
            f"characters in an enum of more than {LONG_ENUM_MEMBERS} members",
            longest,
            LONG_ENUM_CHARACTERS,
            "shorten its members or use varchar",
        ),
        (
            "characters in names and enum members",
            sum(map(len, names + members)),
            MAX_CHARACTERS,
            "shorten names or use varchar for an enum",
        ),
    ]
    for what, count, limit, fix in limits:
        if count > limit:
            raise ConfigurationError(
                f"the output columns make a JSON Schema with {count} {what}, but the service takes "
                f"at most {limit}",
                fix=f"{fix}, or set response: json_object",
            )


def _parts(schema: dict[str, Any], level: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    yield schema, level
    below = [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
    for part in below + ([schema["items"]] if "items" in schema else []):
        yield from _parts(part, level + 1)
