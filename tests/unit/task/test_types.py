"""Types as users spell them: what is taken, under which one spelling, and what is refused how."""

from __future__ import annotations

import duckdb
import pytest
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.task.types import TypeSyntaxError, UnsupportedTypeError, parse_type

TAKEN = {
    "TEXT": "varchar",
    "varchar(10)": "varchar",
    "Character  Varying (10)": "varchar",
    '"VARCHAR"': "varchar",
    "INT8": "bigint",
    "signed": "integer",
    "uint8": "utinyint",
    "real": "float",
    "double precision": "double",
    "logical": "boolean",
    "decimal": "decimal(18,3)",
    "numeric(10)": "decimal(10,0)",
    "dec(10, 2)": "decimal(10,2)",
    "datetime": "timestamp",
    "timestamp(6)": "timestamp",
    "timestamptz": "timestamp with time zone",
    "time without time zone": "time",
    "enum('a' , 'b')": "enum('a', 'b')",
    "ENUM('it''s', 'B')": "enum('it''s', 'B')",
    "varchar [ ] []": "varchar[][]",
    "struct(A int, \"born in\" date)": 'struct("A" integer, "born in" date)',
    'row("a""b" text)': 'struct("a""b" varchar)',
    "struct(é int)": 'struct("é" integer)',
    "struct(a enum('x','y')[])[]": "struct(\"a\" enum('x', 'y')[])[]",
}  # fmt: skip
# Words that SQL keeps for itself are names of fields all the same: they are quoted where it counts.
KEPT = (
    "struct(from date, to date)",
    "struct(order int, desc text)",
    "struct(end time, column int)",
)
NO_TYPE = {
    "": "it ends early",
    "nonsense": "'nonsense' is no type of DuckDB",
    "varchar varchar": "'varchar' is one too many",
    "varchar; drop table x": "'; drop table x' cannot be read",
    "int(5)": "integer takes no length",
    "varchar(1,2)": "varchar takes one length",
    "varchar()": "a number is missing",
    "decimal(39,1)": "a decimal's width is 1 to 38 and its scale at most its width",
    "decimal(2,3)": "a decimal's width is 1 to 38 and its scale at most its width",
    "decimal(1,2,3)": "decimal takes a width and a scale",
    "enum": "'(' is missing",
    "enum()": "a quoted text is missing",
    "enum('a', 'a')": "the enum has a member twice",
    "struct(a int, A int)": "the field 'A' is there twice, and case does not matter",
    "struct()": "a struct is written struct(name type, …)",
    'struct("" int)': "a struct is written struct(name type, …)",
    "int array": "'array' is one too many",
}
UNSUPPORTED = {
    "varchar[3]": "use varchar[] and max_items: 3",
    "struct(a int[2])": "use integer[] and max_items: 2",
    "map(varchar, int)": "use struct(key varchar, value T)[]",
    "union(a int, b text)": "use a struct with one field for each member",
    "json": "write the fields as struct(a T, b U), or use varchar",
    "bitstring": "use varchar",
    "timestamp(3)": "use timestamp",
    "time with time zone": "use time or timestamptz",
    "int" + "[]" * 33: "flatten it",
    "struct(a " * 5_000 + "int" + ")" * 5_000: "flatten it",
}


@pytest.mark.parametrize("text", TAKEN)
def test_a_type_has_one_spelling(text: str) -> None:
    """DuckDB takes it for the same type, and it is its own spelling."""
    spelled = parse_type(text).sql
    assert spelled == TAKEN[text]
    assert parse_type(spelled).sql == spelled
    assert duckdb.sqltype(spelled) == duckdb.sqltype(text)


@pytest.mark.parametrize("text", KEPT)
def test_a_reserved_word_names_a_field(text: str) -> None:
    """DuckDB's own parser refuses it without quotation marks, and takes our spelling of it."""
    with pytest.raises(duckdb.Error):
        duckdb.sqltype(text)
    assert duckdb.sqltype(parse_type(text).sql).id == "struct"


@pytest.mark.parametrize("text", NO_TYPE)
def test_what_is_no_type_is_told_where(text: str) -> None:
    """With the way to write one."""
    with pytest.raises(TypeSyntaxError) as raised:
        parse_type(text)
    assert raised.value.problem == f"'{text}' is no DuckDB type: {NO_TYPE[text]}"
    assert raised.value.fix.startswith("write it as in SQL")


@pytest.mark.parametrize("text", UNSUPPORTED, ids=lambda text: text[:20])
def test_what_no_answer_can_have_is_told_what_to_use(text: str) -> None:
    """By the name that the user gave it."""
    with pytest.raises(UnsupportedTypeError) as raised:
        parse_type(text)
    assert isinstance(raised.value, ConfigurationError)
    assert raised.value.fix == UNSUPPORTED[text]
