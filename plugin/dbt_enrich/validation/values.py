"""A validated JSON object as a typed value: read, normalised, and held to the columns' rules.

Reading is one call of `from_json` for the whole object. What it cannot read exactly is read as text
or JSON first, and cast afterwards.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from dbt_enrich.sql import Names, literal
from dbt_enrich.task.schema import OutputColumn, innermost, leaves
from dbt_enrich.task.type_names import INTEGER_RANGES
from dbt_enrich.task.types import (
    ArrayType,
    DataType,
    EnumType,
    ListType,
    ScalarType,
    StructType,
)
from dbt_enrich.validation.problems import key_path

# Types whose values `to_json` writes as the model would, so that reading and writing an object
# gives the same text if, and only if, nothing was coerced.
_EXACT = frozenset({"varchar", "boolean", "double", "date", *INTEGER_RANGES})
# Parquet has no integers of 128 bits, and DuckDB writes doubles in their place.
_NOT_IN_PARQUET = frozenset({"hugeint", "uhugeint"})
# Longest list in which repeated elements are looked for one by one; longer ones are sorted.
_SHORT_LIST = 32
_LARGEST_FLOAT = 3.4028234e38


def answer_struct_type(outputs: Sequence[OutputColumn]) -> str:
    """Return the type of a whole answer: a struct with a field for each output column."""
    return StructType(tuple((output.name, output.held_type) for output in outputs)).sql


def parquet_answer_sql(answer: str, outputs: Sequence[OutputColumn]) -> str:
    """Build what is written to Parquet of a typed answer: texts of what Parquet would round.

    Args:
        answer: SQL expression of the answer.
        outputs: The output columns.
    """
    if is_storable(outputs):
        return answer
    kept = StructType(tuple((output.name, _in_parquet(output.held_type)) for output in outputs))
    return f"cast({answer} as {kept.sql})"


def _in_parquet(kind: DataType) -> DataType:
    match kind:
        case ListType():
            return ListType(_in_parquet(kind.item))
        case StructType():
            return StructType(tuple((name, _in_parquet(part)) for name, part in kind.fields))
    return ScalarType("varchar") if kind.sql in _NOT_IN_PARQUET else kind


def structure_literal(outputs: Sequence[OutputColumn]) -> str:
    """Build the structure, as `from_json` takes it, in which an object is read first."""
    structure = {output.name: _structure(output.type, lower=output.lower) for output in outputs}
    return literal(json.dumps(structure, ensure_ascii=False))


def reads_exactly(outputs: Sequence[OutputColumn]) -> bool:
    """Return whether an object that `to_json` gives back unchanged has the right types."""
    return all(
        not output.lower if isinstance(leaf, EnumType) else leaf.name in _EXACT
        for output in outputs
        for leaf in leaves(output.type)
    )


def is_storable(outputs: Sequence[OutputColumn]) -> bool:
    """Return whether Parquet gives back each answer as it was, with its enums as texts."""
    return all(
        leaf.sql not in _NOT_IN_PARQUET for output in outputs for leaf in leaves(output.type)
    )


def unaltered_sql(read: str, answer: str, outputs: Sequence[OutputColumn]) -> str:
    """Build whether normalising an object that was read exactly left it as it was.

    Args:
        read: SQL name of the struct that was read.
        answer: SQL name of the normalised answer.
        outputs: The output columns.
    """
    normalised = [output.name for output in outputs if output.lower or output.unique_items]
    same = [f"{_field(read, name)} = {_field(answer, name)}" for name in normalised]
    return " and ".join([f"{answer} is not null", *same])


def signed_zero_sql(text: str, outputs: Sequence[OutputColumn]) -> str:
    """Build whether an object may hold a negative zero, which Parquet's dictionaries take for 0.

    Args:
        text: SQL expression of the object's text.
        outputs: The output columns.
    """
    names = {leaf.sql for output in outputs for leaf in leaves(output.type)}
    return f"contains({text}, '-0.0')" if names & {"double", "float"} else "false"


def stored_answer_sql(stored: str, outputs: Sequence[OutputColumn]) -> str:
    """Build the typed answer from one that was read from Parquet, whose fields may lie otherwise.

    Args:
        stored: SQL name of the struct that was read.
        outputs: The output columns.
    """
    values = [(output.name, _field(stored, output.name)) for output in outputs]
    return f"cast({_struct_literal(values)} as {answer_struct_type(outputs)})"


def doubtful_sql(text: str, outputs: Sequence[OutputColumn]) -> str:
    """Build the condition that an object which is given back unchanged may still be wrong.

    It errs on the side of doubt: it looks at the text as a whole.

    Args:
        text: SQL expression of the object's text, without white space.
        outputs: The output columns.
    """
    names = {leaf.sql for output in outputs for leaf in leaves(output.type)}
    doubts = [f"contains({text}, 'null')"]
    if "double" in names:
        doubts += [f"contains({text}, 'NaN')", f"contains({text}, 'Infinity')"]
    if "date" in names:
        # DuckDB's dates go beyond JSON Schema's: infinity, 0044-03-15 (BC), 12024-01-01.
        doubts.append(rf"regexp_matches({text}, 'infinity|\(BC\)|[0-9]{{5}}-')")
    return " or ".join(doubts)


def answer_sql(read: str, outputs: Sequence[OutputColumn]) -> str:
    """Build the typed, normalised answer from an object that was read by `structure_literal`.

    Args:
        read: SQL name of the struct that was read.
        outputs: The output columns.
    """
    names = Names()
    values = [
        (output.name, _normalised(_field(read, output.name), output, names)) for output in outputs
    ]
    return (
        f"case when {read} is not null "
        f"then cast({_struct_literal(values)} as {answer_struct_type(outputs)}) end"
    )


def rule_problem_sql(answer: str, outputs: Sequence[OutputColumn]) -> str:
    """Build the expression of the first rule that a typed answer breaks, NULL where it breaks none.

    Args:
        answer: SQL name of the typed, normalised answer.
        outputs: The output columns.
    """
    problems = [
        problem
        for output in outputs
        for problem in _rule_problems(_field(answer, output.name), output)
    ]
    return f"coalesce({', '.join(problems)}, null)" if problems else "cast(null as varchar)"


def _structure(kind: DataType, *, lower: bool) -> Any:
    match kind:
        case ListType(item) | ArrayType(item):
            return [_structure(item, lower=lower)]
        case StructType(fields):
            return {name: _structure(field, lower=lower) for name, field in fields}
        case EnumType() if lower:
            return "varchar"
        case ScalarType("decimal"):
            # What is read as a decimal is rounded to its scale, which hides what was lost.
            return "json"
        case _:
            return kind.sql


def _normalised(value: str, output: OutputColumn, names: Names) -> str:
    value = _converted(value, output.type, names, lower=output.lower)
    return _distinct(value, names) if output.unique_items else value


def _converted(value: str, kind: DataType, names: Names, *, lower: bool) -> str:
    """Bring what was read to its type; returns `value` itself where it is there already."""
    match kind:
        case ListType(item):
            element = names("item")
            converted = _converted(element, item, names, lower=lower)
            if converted == element:
                return value
            return f"list_transform({value}, lambda {element}: {converted})"
        case StructType(fields):
            values = [
                (name, _converted(_field(value, name), field, names, lower=lower))
                for name, field in fields
            ]
            if all(given == _field(value, name) for name, given in values):
                return value
            return f"case when {value} is not null then {_struct_literal(values)} end"
        case EnumType() if lower:
            return f"try_cast(lower({value}) as {kind.sql})"
        case ScalarType("varchar") if lower:
            return f"lower({value})"
        case ScalarType("decimal"):
            return f"try_cast(({value} ->> '$') as {kind.sql})"
        case _:
            return value


def _distinct(value: str, names: Names) -> str:
    """Drop repeated elements of a list, keeping the first of each and the order.

    Comparing each with each is quickest for the few elements that answers have, but a list of
    100,000 would take minutes, so a long one is sorted by value and place, and back by place.
    """
    element, place = names("item"), names("place")
    whole, pair, pairs, kept = names("list"), names("pair"), names("pairs"), names("kept")
    short = (
        f"list_filter({whole}, lambda {element}, {place}: "
        f"list_position({whole}, {element}) = {place})"
    )
    placed = (
        f"list_sort(list_transform({whole}, lambda {element}, {place}: "
        f"{{'value': {element}, 'place': {place}}}))"
    )
    firsts = (
        f"list_filter({pairs}, lambda {pair}, {place}: "
        f"{place} = 1 or {pairs}[{place} - 1].value <> {pair}.value)"
    )
    in_order = (
        f"list_sort(list_transform({firsts}, lambda {kept}: "
        f"{{'place': {kept}.place, 'value': {kept}.value}}))"
    )
    long = (
        f"list_transform(list_transform([{placed}], lambda {pairs}: {in_order})[1], "
        f"lambda {kept}: {kept}.value)"
    )
    return (
        f"list_transform([{value}], lambda {whole}: "
        f"case when len({whole}) <= {_SHORT_LIST} then {short} else {long} end)[1]"
    )


def _rule_problems(value: str, output: OutputColumn) -> list[str]:
    path = "$" + key_path(output.name)
    problems = []
    if output.max_items is not None:
        message = literal(f"{path} must have at most {output.max_items} items, got ")
        problems.append(
            f"case when len({value}) > {output.max_items} then {message} || len({value}) end"
        )
    if output.min is not None:
        problems.append(_bound_problem(value, output.type, output.min, ">=", path))
    if output.max is not None:
        problems.append(_bound_problem(value, output.type, output.max, "<=", path))
    return problems


def _bound_problem(value: str, kind: DataType, bound: float, sign: str, path: str) -> str:
    number = int(bound) if float(bound).is_integer() else float(bound)
    must = "must have elements" if isinstance(kind, ListType) else "must be"
    # Of a list, its smallest or largest element is the one that can break the bound.
    worst = value
    if isinstance(kind, ListType):
        while isinstance(kind.item, ListType):
            worst, kind = f"flatten({worst})", kind.item
        worst = f"{'list_min' if sign == '>=' else 'list_max'}({worst})"
    return (
        f"case when not ({_compared(worst, innermost(kind), bound, sign)}) "
        f"then {literal(f'{path} {must} {sign} {number}, got ')} || {worst} end"
    )


def _compared(value: str, kind: DataType, bound: float, sign: str) -> str:
    low, high = INTEGER_RANGES.get(kind.sql, (0, 2**127))
    if high < 2**64:
        whole = math.ceil(bound) if sign == ">=" else math.floor(bound)
        return f"{value} {sign} {max(low - 1, min(whole, high + 1))}"
    if kind.sql == "float" and abs(bound) <= _LARGEST_FLOAT:
        # A float of 0.1 is more than 0.1 as a double.
        return f"{value} {sign} cast('{float(bound)!r}' as float)"
    # A comparison of 128 bits or of a decimal with a literal of another type may overflow.
    return f"cast({value} as double) {sign} cast('{float(bound)!r}' as double)"


def _field(struct: str, name: str) -> str:
    return f"struct_extract({struct}, {literal(name)})"


def _struct_literal(values: Sequence[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{literal(name)}: {value}" for name, value in values) + "}"
