"""Output columns, and answers to them as a model may write them: valid, nearly valid and broken."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Context, Decimal
from typing import Any

from dbt_enrich.task.schema import OutputColumn, innermost, is_number, is_text, leaves
from dbt_enrich.task.type_names import INTEGER_RANGES
from dbt_enrich.task.types import (
    ArrayType,
    DataType,
    EnumType,
    ListType,
    ScalarType,
    StructType,
    parse_type,
)
from hypothesis import strategies as st

DOCUMENTS = 40
EXACT = Context(prec=400)
KEYS = ["a", "b", "a.b", 'x"y', "[z]", "k/~", "ü", "select", "it's", "$", "*", "a\\b", "0", "é ü"]
SCALARS = [
    *INTEGER_RANGES,
    *("varchar", "varchar", "varchar", "boolean", "double", "float"),
    *("date", "time", "timestamp", "timestamp with time zone"),
    *("decimal(4,1)", "decimal(18,3)", "decimal(9,0)", "decimal(38,10)"),
]


@dataclass(frozen=True)
class Raw:
    """A JSON token as it is written."""

    text: str


class Pairs(list[tuple[str, Any]]):
    """A JSON object whose keys may be there twice."""


# What a model may write in the place of a text, of a number, and of anything.
TEXTS = [
    *("", "a", "null", "12", "true", "1.5", "NaN", "x" * 300, "\x00", "\U0001f600", "A"),
    *("2024-01-01", "2024-02-29", "2023-02-29", "0000-01-01", "2024-1-1", "infinity", "epoch"),
    *("12024-01-01", "0044-03-15 (BC)", "20240101", "2024-W01-1", "2024-01-01T00:00:00"),
    *("2024-01-01T00:00:00Z", "2024-01-01T00:00:00+02:00", "2024-01-01T24:00:00", "10:00:00"),
    *("2024-01-01 10:00:00.123", "10:00", "25:00:00", "2024-01-01T10:00", "23:59:60"),
]
NUMBERS = [
    *(0, 1, -1, 1.5, -0.0, 2.0, 255, 256, -129, 2**31, 2**63, 2**64, -(2**63), 2**127, 10**40),
    *(12.345, 0.1, 1e-7, 1e22, 123456.75, 3.5e38),
    *map(Raw, ["1e2", "1E5", "1.0", "-0", "1e999", "-1e999", "NaN", "-Infinity", "1e30", "1.0e0"]),
]
ANYTHING = [
    *TEXTS,
    *NUMBERS,
    *(None, True, False),
    *([], ["a"], [None], [1], [[]], [1, 1, 1, 1, 1], Pairs(), Pairs([("a", 1)])),
]


def data_types(depth: int = 2) -> st.SearchStrategy[DataType]:
    """Generate supported types, nested at most `depth` deep."""
    members = st.lists(st.text("abc' ü", max_size=4), min_size=1, max_size=4, unique=True)
    flat = st.sampled_from(SCALARS).map(parse_type) | members.map(lambda m: EnumType(tuple(m)))
    if not depth:
        return flat
    below = data_types(depth - 1)
    names = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3, unique_by=str.lower)
    structs = names.flatmap(
        lambda keys: st.tuples(*([below] * len(keys))).map(
            lambda kinds: StructType(tuple(zip(keys, kinds, strict=True)))
        )
    )
    return flat | below.map(ListType) | structs


@st.composite
def output_columns(draw: st.DrawFn) -> list[OutputColumn]:
    """Generate output columns with rules that fit their types."""
    columns = []
    for name in draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=4, unique=True)):
        kind = draw(data_types())
        rules: dict[str, Any] = {"nullable": draw(st.booleans())}
        if isinstance(kind, ListType):
            rules["max_items"] = draw(st.none() | st.integers(1, 4))
            rules["unique_items"] = draw(st.booleans())
        if is_number(innermost(kind)):
            rules["min"] = draw(st.sampled_from([None, None, -1, 0.5]))
            rules["max"] = draw(st.sampled_from([None, None, 2, 2.0**100]))
        if any(is_text(leaf) for leaf in leaves(kind)):
            rules["lower"] = draw(st.booleans())
        columns.append(OutputColumn(name, kind.sql, **rules))
    return columns


def json_values(kind: DataType) -> st.SearchStrategy[Any]:
    """Generate JSON values that fit a type."""
    match kind:
        case ListType(item):
            return st.lists(json_values(item), max_size=4)
        case ArrayType(item, size):
            return st.lists(json_values(item), min_size=size, max_size=size)
        case StructType(fields):
            values = st.tuples(*(json_values(field) for _, field in fields))
            names = [name for name, _ in fields]
            return values.map(lambda given: Pairs(zip(names, given, strict=True)))
        case EnumType(members):
            return st.sampled_from(members)
        case ScalarType("decimal", width, scale):
            assert width is not None
            assert scale is not None
            digits = 10 ** min(width, 15)
            return st.integers(1 - digits, digits - 1).map(
                lambda n: Raw(format(EXACT.scaleb(Decimal(n), -scale), "f"))
            )
    return _scalar_values(kind)


def _scalar_values(kind: ScalarType) -> st.SearchStrategy[Any]:
    if kind.name in INTEGER_RANGES:
        low, high = INTEGER_RANGES[kind.name]
        whole = st.integers(max(low, -(2**52)), min(high, 2**52)).map(lambda n: Raw(f"{n}.0"))
        return st.integers(low, high) | st.integers(max(low, -2), 2) | whole
    moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1))  # noqa: DTZ001
    offsets = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
    separators = st.sampled_from("T ")
    return {
        "varchar": st.text("ab Ü\"'\\/\n\t\x00\u2028é\U0001f600{}[]", max_size=8),
        "boolean": st.booleans(),
        "double": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70),
        "float": st.floats(width=32, allow_nan=False, allow_infinity=False),
        "date": st.dates().map(date.isoformat),
        "time": st.times().map(time.isoformat),
        "timestamp": st.builds(
            lambda moment, separator, zulu: moment.isoformat(separator) + zulu,
            moments,
            separators,
            st.sampled_from(["", "Z"]),
        ),
        "timestamp with time zone": st.builds(
            lambda moment, separator, offset: moment.replace(tzinfo=offset).isoformat(separator),
            moments,
            separators,
            offsets,
        ),
    }[kind.name]


@st.composite
def documents(draw: st.DrawFn, outputs: Sequence[OutputColumn]) -> list[str]:
    """Generate answers to `outputs`: valid ones, ones with one thing wrong, and broken ones."""
    values = []
    for output in outputs:
        plain = json_values(output.type)
        values.append((plain | st.none()) if output.nullable else plain)
    whole = st.tuples(*values).map(
        lambda given: Pairs(zip([output.name for output in outputs], given, strict=True))
    )
    seeds = draw(st.lists(whole, min_size=3, max_size=5))
    chance = random.Random(draw(st.integers(0, 2**32)))
    return [_written(_mutated(chance.choice(seeds), chance), chance) for _ in range(DOCUMENTS)]


def _mutated(value: Any, chance: random.Random) -> Any:
    """Return a copy of `value` in which at most two things are changed."""
    copy = _copied(value)
    for _ in range(chance.choice([0, 1, 1, 1, 2])):
        places = list(_places(copy))
        if not places:
            break
        container, index = chance.choice(places)
        if isinstance(container, Pairs):
            _mutate_object(container, index, chance)
        else:
            container[index] = _awkward(container[index], chance)
    return copy


def _mutate_object(container: Pairs, index: int, chance: random.Random) -> None:
    key, value = container[index]
    match chance.randrange(10):
        case 0:
            del container[index]
        case 1:
            container.append((chance.choice([*KEYS, "", "A", "categories"]), _copied(value)))
        case 2:
            container.append((key, _awkward(value, chance)))
        case 3 | 4:
            chance.shuffle(container)
        case 5 if isinstance(value, list) and value and not isinstance(value, Pairs):
            value.append(_copied(value[0]))
        case _:
            container[index] = (key, _awkward(value, chance))


def _awkward(value: Any, chance: random.Random) -> Any:
    """Return something else than `value`, of its own kind every other time."""
    alike = TEXTS if isinstance(value, str) else NUMBERS
    scalar = isinstance(value, (str, int, float, Raw)) and not isinstance(value, bool)
    return _copied(chance.choice(alike if scalar and chance.random() < 0.5 else ANYTHING))


def _copied(value: Any) -> Any:
    if isinstance(value, Pairs):
        return Pairs((key, _copied(item)) for key, item in value)
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _places(value: Any) -> Iterator[tuple[Any, int]]:
    for index, item in enumerate(value if isinstance(value, list) else ()):
        yield value, index
        yield from _places(item[1] if isinstance(value, Pairs) else item)


def _written(value: Any, chance: random.Random) -> str:
    text = _encoded(value, chance.choice(["", "", " ", "\n  "]), chance.random() < 0.5)
    return text[: chance.randrange(len(text))] if chance.random() < 0.03 else text


def _encoded(value: Any, space: str, ascii_only: bool) -> str:
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Pairs):
        items = [
            f"{json.dumps(key, ensure_ascii=ascii_only)}:{space}"
            + _encoded(item, space, ascii_only)
            for key, item in value
        ]
        return "{" + space + f",{space}".join(items) + space + "}"
    if isinstance(value, list):
        return "[" + f"{space},".join(_encoded(v, space, ascii_only) for v in value) + space + "]"
    return json.dumps(value, ensure_ascii=ascii_only)
