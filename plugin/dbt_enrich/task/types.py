"""DuckDB types as dbt's `data_type` spells them, parsed and brought to one spelling.

Only what a strict JSON Schema can say is a type here: texts, numbers, booleans, dates, enums, lists
and structs; and `float[N]`, a vector, of which the service is asked otherwise. Everything else is
refused with the type to use in its place.

DuckDB's own parser (`duckdb.sqltype`) does not serve: it refuses some hundred words as names of
fields (`struct(from date, to date)`), which here are quoted; it says of most texts only that they
are no type; what it takes differs between its versions, and a type that is taken is identity.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from dbt_enrich.errors import ConfigurationError
from dbt_enrich.sql import identifier, literal
from dbt_enrich.task.type_names import FOLLOWERS, SCALARS, UNSUPPORTED

MAX_DEPTH = 32
MAX_DECIMAL_WIDTH = 38
# DuckDB's own limit.
MAX_ARRAY_SIZE = 100_000


class TypeSyntaxError(ConfigurationError):
    """The text is no DuckDB type."""


class UnsupportedTypeError(ConfigurationError):
    """The text is a DuckDB type that no JSON Schema of the service can describe."""


@dataclass(frozen=True)
class ScalarType:
    """A type without parts.

    Attributes:
        name: DuckDB's own name of it, in lower case, such as `varchar` or `timestamp`.
        width: Digits of a decimal, else None.
        scale: Digits of a decimal after the point, else None.
    """

    name: str
    width: int | None = None
    scale: int | None = None

    @property
    def sql(self) -> str:
        """The one spelling of the type."""
        return self.name if self.width is None else f"{self.name}({self.width},{self.scale})"


@dataclass(frozen=True)
class EnumType:
    """One text out of a fixed list.

    Attributes:
        members: The texts, in their order.
    """

    members: tuple[str, ...]

    @property
    def sql(self) -> str:
        """The one spelling of the type."""
        return f"enum({', '.join(literal(member) for member in self.members)})"


@dataclass(frozen=True)
class ListType:
    """A list of any length.

    Attributes:
        item: The type of each element.
    """

    item: DataType

    @property
    def sql(self) -> str:
        """The one spelling of the type."""
        return f"{self.item.sql}[]"


@dataclass(frozen=True)
class StructType:
    """Named fields.

    Attributes:
        fields: Name and type of each field, in their order.
    """

    fields: tuple[tuple[str, DataType], ...]

    @property
    def sql(self) -> str:
        """The one spelling of the type."""
        fields = ", ".join(f"{identifier(name)} {kind.sql}" for name, kind in self.fields)
        return f"struct({fields})"


@dataclass(frozen=True)
class ArrayType:
    """A list of one length: a vector.

    Attributes:
        item: The type of each element, `float`.
        size: How many there are.
    """

    item: ScalarType
    size: int

    @property
    def sql(self) -> str:
        """The one spelling of the type."""
        return f"{self.item.sql}[{self.size}]"

    @property
    def as_list(self) -> ListType:
        """The list of any length that holds it: DuckDB knows no CASE of arrays."""
        return ListType(self.item)


DataType = ScalarType | EnumType | ListType | StructType | ArrayType

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<quoted>"(?:[^"]|"")*")
      | (?P<text>'(?:[^']|'')*')
      | (?P<number>\d+)
      | (?P<word>[^\W\d]\w*)
      | (?P<mark>[()\[\],])
    )""",
    re.VERBOSE,
)


@lru_cache(maxsize=1024)
def parse_type(text: str) -> DataType:
    """Parse a DuckDB type.

    Case and aliases do not matter (`TEXT` is `varchar`, `int4` is `integer`); a length such as
    `varchar(10)` is dropped, as DuckDB drops it.

    Args:
        text: The type as SQL, such as `struct(name varchar, "born in" date)[]`.

    Raises:
        TypeSyntaxError: The text is no type.
        UnsupportedTypeError: A type in it has no JSON Schema.
    """
    return _Parser(text).parse()


def spelling(text: str) -> str | None:
    """Return the one spelling of a DuckDB type, None where it is no type of an output column.

    Args:
        text: The type as SQL, as `parse_type` takes it.
    """
    try:
        return parse_type(text).sql
    except (TypeSyntaxError, UnsupportedTypeError):
        return None


class _Parser:
    """Recursive descent over the tokens of one type."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._tokenise(text))
        self._position = 0

    def parse(self) -> DataType:
        kind = self._type(0)
        if self._peek()[0]:
            raise self._error(f"'{self._peek()[1]}' is one too many")
        return kind

    def _tokenise(self, text: str) -> Iterator[tuple[str, str]]:
        position = 0
        end = len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None or "\x00" in match.group():
                raise self._error(f"'{text[position:end].lstrip()[:20]}' cannot be read")
            yield str(match.lastgroup), match.group().strip()
            position = match.end()

    def _type(self, depth: int) -> DataType:
        self._check_depth(depth)
        kind = self._base(depth)
        while self._accept("["):
            if self._peek()[0] == "number":
                return self._vector(kind, int(self._next()[1]))
            self._expect("]")
            kind = ListType(kind)
            depth += 1
            self._check_depth(depth)
        return kind

    def _vector(self, kind: DataType, size: int) -> ArrayType:
        """Return the type of a vector, which is no part of another type."""
        self._expect("]")
        if kind != ScalarType("float") or self._position < len(self._tokens):
            is_vector = kind in (ScalarType("float"), ScalarType("double"))
            own = f", or float[{size}] and endpoint: embeddings" if is_vector else ""
            raise UnsupportedTypeError(
                f"the type '{self._text}' has an array of fixed length [{size}], which the "
                "answer's schema cannot demand",
                fix=f"use {kind.sql}[] and max_items: {size}{own}",
            )
        if not 1 <= size <= MAX_ARRAY_SIZE:
            raise self._error(f"an array has 1 to {MAX_ARRAY_SIZE:,} elements")
        return ArrayType(ScalarType("float"), size)

    def _check_depth(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise UnsupportedTypeError(
                f"the type '{self._text[:60]}…' is nested more than {MAX_DEPTH} levels deep",
                fix="flatten it",
            )

    def _base(self, depth: int) -> DataType:
        name = self._type_name()
        if name in ("struct", "row"):
            return self._struct(depth)
        if name == "enum":
            return self._enum()
        if name in UNSUPPORTED:
            raise UnsupportedTypeError(
                f"the type '{self._text}' holds {name}, which has no JSON Schema",
                fix=UNSUPPORTED[name],
            )
        if name not in SCALARS:
            raise self._error(f"'{name}' is no type of DuckDB")
        return self._scalar(SCALARS[name])

    def _type_name(self) -> str:
        kind, word = self._next()
        if kind == "quoted":
            return word[1:-1].replace('""', '"').lower()
        if kind != "word":
            raise self._error(
                f"a type's name is missing before '{word}'" if kind else "it ends early"
            )
        words = [word.lower()]
        followers = FOLLOWERS.get(words[0], ())
        while self._peek()[0] == "word" and self._peek()[1].lower() in followers:
            words.append(self._next()[1].lower())
        return " ".join(words)

    def _scalar(self, name: str) -> ScalarType:
        numbers = self._numbers()
        if name == "decimal":
            return self._decimal(numbers)
        if numbers and name not in ("varchar", "timestamp", "timestamp with time zone", "time"):
            raise self._error(f"{name} takes no length")
        # timestamp(3) would be a type of its own precision.
        if numbers and name != "varchar" and numbers != [6]:
            raise UnsupportedTypeError(
                f"the type '{self._text}' has a precision that JSON dates do not carry",
                fix=f"use {name}",
            )
        if len(numbers) > 1:
            raise self._error(f"{name} takes one length")
        return ScalarType(name)

    def _decimal(self, numbers: list[int]) -> ScalarType:
        if len(numbers) > 2:
            raise self._error("decimal takes a width and a scale")
        # DuckDB's defaults: decimal is decimal(18,3), decimal(10) is decimal(10,0).
        width = numbers[0] if numbers else 18
        scale = numbers[1] if len(numbers) == 2 else (0 if numbers else 3)
        if not 1 <= width <= MAX_DECIMAL_WIDTH or scale > width:
            raise self._error(
                f"a decimal's width is 1 to {MAX_DECIMAL_WIDTH} and its scale at most its width"
            )
        return ScalarType("decimal", width, scale)

    def _numbers(self) -> list[int]:
        if not self._accept("("):
            return []
        numbers = [int(self._expect_kind("number", "a number"))]
        while self._accept(","):
            numbers.append(int(self._expect_kind("number", "a number")))
        self._expect(")")
        return numbers

    def _struct(self, depth: int) -> StructType:
        self._expect("(")
        fields: list[tuple[str, DataType]] = []
        while True:
            name = self._field_name()
            if any(name.lower() == other.lower() for other, _ in fields):
                raise self._error(f"the field '{name}' is there twice, and case does not matter")
            fields.append((name, self._type(depth + 1)))
            if not self._accept(","):
                break
        self._expect(")")
        return StructType(tuple(fields))

    def _field_name(self) -> str:
        kind, word = self._next()
        if kind == "quoted" and len(word) > 2:
            return word[1:-1].replace('""', '"')
        if kind != "word":
            raise self._error("a struct is written struct(name type, …)")
        return word

    def _enum(self) -> EnumType:
        self._expect("(")
        members = [self._member()]
        while self._accept(","):
            members.append(self._member())
        self._expect(")")
        if len(set(members)) < len(members):
            raise self._error("the enum has a member twice")
        return EnumType(tuple(members))

    def _member(self) -> str:
        return self._expect_kind("text", "a quoted text")[1:-1].replace("''", "'")

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._position] if self._position < len(self._tokens) else ("", "")

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        self._position += 1
        return token

    def _accept(self, mark: str) -> bool:
        if self._peek() != ("mark", mark):
            return False
        self._position += 1
        return True

    def _expect(self, mark: str) -> None:
        if not self._accept(mark):
            raise self._error(f"'{mark}' is missing")

    def _expect_kind(self, kind: str, what: str) -> str:
        found, word = self._next()
        if found != kind:
            raise self._error(f"{what} is missing")
        return word

    def _error(self, problem: str) -> TypeSyntaxError:
        shown = self._text if len(self._text) <= 80 else self._text[:79] + "…"
        return TypeSyntaxError(
            f"'{shown}' is no DuckDB type: {problem}",
            fix="write it as in SQL, such as varchar, integer, date, enum('a', 'b'), varchar[] or "
            "struct(a varchar, b integer)",
        )
