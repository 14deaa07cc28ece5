"""The first thing wrong with a JSON value, as a SQL expression built from its type.

The expressions look at JSON values as the model wrote them, before any cast, since a cast forgives:
1.7 becomes 2, "12" becomes 12 and 12 becomes '12'. Each is NULL for a value that fits. CASE and
COALESCE evaluate a branch only for the rows that reach it, so a message costs nothing for a row
that needs none, and no part of an expression raises, whatever the value is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from dbt_enrich.sql import Names, let_sql, literal, literals
from dbt_enrich.task.type_names import INTEGER_RANGES
from dbt_enrich.task.types import (
    ArrayType,
    DataType,
    EnumType,
    ListType,
    ScalarType,
    StructType,
)

_ROOT = "$"
_NUMBERS = "('UBIGINT', 'BIGINT', 'DOUBLE')"
_YEAR = "([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_DAY = f"{_YEAR}-[0-9]{{2}}-[0-9]{{2}}"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
# What a date or time looks like, and how a message names it; whether the day exists, a cast says.
_MOMENTS = {
    "date": (_DAY, "a date as YYYY-MM-DD"),
    "time": (_CLOCK, "a time as HH:MM:SS"),
    # DuckDB drops any other offset without a word, so only UTC is let through.
    "timestamp": (f"{_DAY}[T ]{_CLOCK}Z?", "a date and time as YYYY-MM-DDTHH:MM:SS"),
    "timestamp with time zone": (
        f"{_DAY}[T ]{_CLOCK}(Z|[+-][0-9]{{2}}(:[0-9]{{2}})?)",
        "a date and time with its offset, as YYYY-MM-DDTHH:MM:SS+00:00",
    ),
}
_SHOWN_MEMBERS = 20
_SHOWN_CHARACTERS = 80
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def object_problem_sql(
    value: str,
    fields: Sequence[tuple[str, DataType]],
    *,
    nullable: Collection[str] = (),
    lower: Collection[str] = (),
) -> str:
    """Build the expression of the first problem of a JSON object, NULL where there is none.

    Args:
        value: SQL expression of the object, of type JSON.
        fields: The keys that it must have, and their types.
        nullable: Those of them that may be null.
        lower: Those whose texts are brought to lower case before they are judged.
    """
    return _Problems().of_object(value, fields, literal(_ROOT), nullable=nullable, lower=lower)


def key_path(key: str) -> str:
    """Return the step of a JSON path that leads to `key`.

    >>> key_path('title'), key_path('a.b')
    ('.title', '."a.b"')
    """
    return f".{key}" if _PLAIN_KEY.fullmatch(key) else '."' + key.replace('"', '\\"') + '"'


class _Problems:
    """Builder of one expression; it gives each lambda in it a parameter of its own name."""

    def __init__(self) -> None:
        self._name = Names()

    def of_object(
        self,
        value: str,
        fields: Sequence[tuple[str, DataType]],
        path: str,
        *,
        nullable: Collection[str] = (),
        lower: Collection[str] = (),
    ) -> str:
        names = [name for name, _ in fields]
        # JSON pointers, as they take any key without a path's quoting.
        pointers = literals("/" + name.replace("~", "~0").replace("/", "~1") for name in names)

        def of_fields(parts: str) -> str:
            problems = [
                self._of(
                    f"{parts}[{position}]",
                    kind,
                    f"{path} || {literal(key_path(name))}",
                    nullable=name in nullable,
                    lower=name in lower,
                )
                for position, (name, kind) in enumerate(fields, start=1)
            ]
            return f"coalesce({', '.join(problems)}, null)"

        extracted = f"json_extract({value}, {pointers.removesuffix('::varchar[]')})"
        return f"""case
            when json_type({value}) <> 'OBJECT' then {_must_be("an object", _kind(value), path)}
            else coalesce({self._of_keys(value, names, path)}, {self._let(extracted, of_fields)})
        end"""

    def _of_keys(self, value: str, names: Sequence[str], path: str) -> str:
        expected = literals(names)
        where = "''" if path == literal(_ROOT) else f"' in ' || {path}"
        key, place = self._name("key"), self._name("place")

        def repeated(keys: str) -> str:
            return (
                f"list_filter({keys}, lambda {key}, {place}: "
                f"{place} > 1 and {keys}[{place} - 1] = {key})[1]"
            )

        def of_keys(keys: str) -> str:
            missing = f"list_filter({expected}, lambda {key}: not list_contains({keys}, {key}))[1]"
            unknown = f"list_filter({keys}, lambda {key}: not list_contains({expected}, {key}))[1]"
            return f"""coalesce(
                'duplicate key ' || {_cut(self._let(f"list_sort({keys})", repeated))} || {where},
                'missing key ' || {missing} || {where},
                'unknown key ' || {_cut(unknown)} || {where}
            )"""

        return f"""case
            when json_keys({value}) = {expected} then null
            else {self._let(f"json_keys({value})", of_keys)}
        end"""

    def _of(
        self, value: str, kind: DataType, path: str, *, nullable: bool = False, lower: bool = False
    ) -> str:
        problem = self._of_present(value, kind, path, lower=lower)
        if not nullable:
            return problem
        return f"case when json_type({value}) = 'NULL' then null else {problem} end"

    def _of_present(self, value: str, kind: DataType, path: str, *, lower: bool) -> str:
        match kind:
            case ListType(item) | ArrayType(item):
                return self._of_list(value, item, path, lower=lower)
            case StructType(fields):
                names = [name for name, _ in fields] if lower else []
                return self.of_object(value, fields, path, lower=names)
            case EnumType(members):
                return _of_enum(value, members, path, lower=lower)
            case _:
                return _of_scalar(value, kind, path)

    def _of_list(self, value: str, item: DataType, path: str, *, lower: bool) -> str:
        element, place, problem = self._name("item"), self._name("place"), self._name("problem")
        of_item = self._of(element, item, f"{path} || '[' || ({place} - 1) || ']'", lower=lower)
        return f"""case
            when json_type({value}) <> 'ARRAY' then {_must_be("an array", _kind(value), path)}
            else list_filter(
                list_transform(json_extract({value}, '$[*]'), lambda {element}, {place}: {of_item}),
                lambda {problem}: {problem} is not null
            )[1]
        end"""

    def _let(self, value: str, body: Callable[[str], str]) -> str:
        return let_sql(self._name("let"), value, body)


def _of_scalar(value: str, kind: ScalarType, path: str) -> str:
    if kind.name in INTEGER_RANGES:
        return _of_integer(value, kind, path)
    if kind.name == "decimal":
        return _of_decimal(value, kind, path)
    if kind.name in ("float", "double"):
        return _of_float(value, kind, path)
    if kind.name in _MOMENTS:
        return _of_moment(value, kind, path)
    json_type, what = ("BOOLEAN", "true or false") if kind.name == "boolean" else _TEXT
    return (
        f"case when json_type({value}) <> '{json_type}' "
        f"then {_must_be(what, _kind(value), path)} end"
    )


_TEXT = ("VARCHAR", "a string")


def _of_integer(value: str, kind: ScalarType, path: str) -> str:
    text = _json_text(value)
    double = f"try_cast({text} as double)"
    low, high = INTEGER_RANGES[kind.name]
    beyond = _must_be(f"an integer from {low} to {high}", _cut(text), path)
    return f"""case
        when json_type({value}) not in {_NUMBERS} then {_must_be("an integer", _kind(value), path)}
        when regexp_full_match({text}, '-?[0-9]+')
            then case when try_cast({text} as {kind.sql}) is null then {beyond} end
        when {double} = trunc({double}) and isfinite({double})
            then case when try_cast({double} as {kind.sql}) is null then {beyond} end
        else {_must_be("an integer", _cut(text), path)}
    end"""


def _of_float(value: str, kind: ScalarType, path: str) -> str:
    text = _json_text(value)
    return f"""case
        when json_type({value}) not in {_NUMBERS} then {_must_be("a number", _kind(value), path)}
        when isfinite(try_cast({text} as {kind.sql})) then null
        else {_must_be(f"a finite number that {kind.sql} can hold", _cut(text), path)}
    end"""


# DuckDB, as most readers of JSON, reads a fraction as a double, which keeps so many digits.
_FRACTION_DIGITS = 15


def _of_decimal(value: str, kind: ScalarType, path: str) -> str:
    text = _json_text(value)
    exact = f"cast(try_cast({text} as {kind.sql}) as double) = try_cast({text} as double)"
    digits = f"length(trim(replace(regexp_extract({text}, '[0-9.]+'), '.', ''), '0'))"
    return f"""case
        when json_type({value}) not in {_NUMBERS} then {_must_be("a number", _kind(value), path)}
        when not coalesce({exact}, false) then
            {_must_be(f"a number that fits {kind.sql}", _cut(text), path)}
        when {digits} > {_FRACTION_DIGITS} and regexp_matches({text}, '[.eE]') then
            {_must_be(f"a number of at most {_FRACTION_DIGITS} digits", _cut(text), path)}
    end"""


def _of_moment(value: str, kind: ScalarType, path: str) -> str:
    text = _string(value)
    pattern, what = _MOMENTS[kind.name]
    fits = f"try_cast({text} as {kind.sql}) is not null"
    return f"""case
        when json_type({value}) <> 'VARCHAR' then {_must_be(what, _kind(value), path)}
        when regexp_full_match({text}, {literal(pattern)}) and {fits} then null
        else {_must_be(what, _cut(_json_text(value)), path)}
    end"""


def _of_enum(value: str, members: Sequence[str], path: str, *, lower: bool) -> str:
    text = f"lower({_string(value)})" if lower else _string(value)
    named = ", ".join(literal(member) for member in members)
    more = ", …" if len(members) > _SHOWN_MEMBERS else ""
    what = "one of " + ", ".join(literal(member) for member in members[:_SHOWN_MEMBERS]) + more
    return f"""case
        when json_type({value}) <> 'VARCHAR' then {_must_be(what, _kind(value), path)}
        when {text} in ({named}) then null
        else {_must_be(what, _cut(_json_text(value)), path)}
    end"""


def _must_be(what: str, got: str, path: str) -> str:
    return f"{path} || {literal(f' must be {what}, got ')} || {got}"


def _kind(value: str) -> str:
    return f"""case json_type({value})
        when 'VARCHAR' then 'string'
        when 'UBIGINT' then 'integer'
        when 'BIGINT' then 'integer'
        when 'DOUBLE' then 'number'
        else lower(json_type({value}))
    end"""


def _json_text(value: str) -> str:
    return f"cast({value} as varchar)"


def _string(value: str) -> str:
    return f"({value} ->> '$')"


def _cut(text: str) -> str:
    return f"left({text}, {_SHOWN_CHARACTERS})"
