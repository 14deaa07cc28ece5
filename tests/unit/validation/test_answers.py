"""Validation of answers: verdicts, messages, normalisation, lenient reading and hostile texts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, NamedTuple

import duckdb
import pytest
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.validation.answers import (
    answer_struct_type,
    typed_answers_sql,
    validated_answers_sql,
)

MOVIE = [
    OutputColumn("categories", "varchar[]", max_items=4, unique_items=True, lower=True),
    OutputColumn("summary", "text"),
]
NOT_JSON = ("invalid_json", "the answer is not one valid JSON object")


class Verdict(NamedTuple):
    """What validation says of one text."""

    answer: Any
    clean_content: str | None
    kind: str | None
    mismatch: str | None


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """Give one private DuckDB to all tests, set up as the engine's is."""
    with duckdb.connect(config={"threads": 1, "autoload_known_extensions": False}) as opened:
        yield opened


def judge(
    connection: duckdb.DuckDBPyConnection, outputs: list[OutputColumn], *texts: str | None
) -> list[Verdict]:
    """Validate texts in one query and return their verdicts in order."""
    source = "(select unnest(?::varchar[]) as content, unnest(range(?)) as place)"
    rows = connection.execute(
        "select answer, clean_content, mismatch_kind, mismatch "
        f"from ({validated_answers_sql(source, outputs)}) order by place",
        [list(texts), len(texts)],
    ).fetchall()
    return [Verdict(*row) for row in rows]


def judge_value(
    connection: duckdb.DuckDBPyConnection, data_type: str, token: str, **rules: Any
) -> Verdict:
    """Validate one JSON value as the only output `x`."""
    return judge(connection, [OutputColumn("x", data_type, **rules)], f'{{"x":{token}}}')[0]


@pytest.mark.parametrize(
    ("data_type", "token", "value"),
    [
        ("varchar", '""', ""),
        ("varchar", r'"é\u00e9\ud83d\ude00\/\u2028"', "éé\U0001f600/\u2028"),
        ("varchar", r'"\u0000"', "\x00"),
        ("varchar", '"null"', "null"),
        ("boolean", "true", True),
        ("integer", "-2147483648", -(2**31)),
        ("integer", "1.0", 1),
        ("integer", "1e2", 100),
        ("hugeint", str(2**127 - 1), 2**127 - 1),
        ("uhugeint", str(2**128 - 1), 2**128 - 1),
        ("double", "8", 8.0),
        ("double", "1" * 40, 1.1111111111111112e39),
        ("float", "0.5", 0.5),
        ("decimal(10,2)", "12.30", Decimal("12.30")),
        ("decimal(38,20)", "0.3", Decimal("0.30000000000000000000")),
        ("decimal(10,8)", "1e-7", Decimal("0.00000010")),
        ("decimal(18,3)", "123456789012.345", Decimal("123456789012.345")),
        ("decimal(18,0)", "123456789012345678", Decimal(123456789012345678)),
        ("enum('a', 'it''s')", '"it\'s"', "it's"),
        ("date", '"2024-02-29"', date(2024, 2, 29)),
        ("time", '"23:59:59.5"', time(23, 59, 59, 500000)),
        ("timestamp", '"2024-01-01T10:00:00"', datetime(2024, 1, 1, 10)),  # noqa: DTZ001
        ("timestamp", '"2024-01-01 10:00:00Z"', datetime(2024, 1, 1, 10)),  # noqa: DTZ001
        ("timestamptz", '"2024-01-01T10:00:00+02:00"', datetime(2024, 1, 1, 8, tzinfo=UTC)),
        ("varchar[][]", '[["a"],[]]', [["a"], []]),
        ('struct("a.b" date)[]', '[{"a.b":"2024-01-01"}]', [{"a.b": date(2024, 1, 1)}]),
    ],
)
def test_a_fitting_value_is_typed(
    connection: duckdb.DuckDBPyConnection, data_type: str, token: str, value: object
) -> None:
    """A value that the type can hold as it is comes back typed, and typing it again agrees."""
    seen = judge_value(connection, data_type, token)
    assert seen.mismatch is None
    assert seen.answer == {"x": value}
    typed = typed_answers_sql("(select ? as clean_content)", [OutputColumn("x", data_type)])
    again = connection.execute(f"select answer from ({typed})", [seen.clean_content]).fetchone()
    assert again == (seen.answer,)


@pytest.mark.parametrize(
    ("data_type", "token", "mismatch"),
    [
        ("varchar", "12", "$.x must be a string, got integer"),
        ("varchar", "null", "$.x must be a string, got null"),
        ("varchar", "{}", "$.x must be a string, got object"),
        ("boolean", '"true"', "$.x must be true or false, got string"),
        ("boolean", "1", "$.x must be true or false, got integer"),
        ("integer", "1.7", "$.x must be an integer, got 1.7"),
        ("integer", '"12"', "$.x must be an integer, got string"),
        ("integer", "true", "$.x must be an integer, got boolean"),
        ("integer", "1e999", "$.x must be an integer, got 1e999"),
        ("integer", "NaN", "$.x must be an integer, got NaN"),
        ("tinyint", "128", "$.x must be an integer from -128 to 127, got 128"),
        ("utinyint", "-1.0", "$.x must be an integer from 0 to 255, got -1.0"),
        ("hugeint", "9" * 40, f"$.x must be an integer from {-(2**127)} to {2**127 - 1}, got 9999"),
        ("double", '"1"', "$.x must be a number, got string"),
        ("double", "1e999", "$.x must be a finite number that double can hold, got 1e999"),
        ("double", "NaN", "$.x must be a finite number that double can hold, got NaN"),
        ("double", "-Infinity", "$.x must be a finite number that double can hold, got -Inf"),
        ("float", "1e39", "$.x must be a finite number that float can hold, got 1e39"),
        ("decimal(4,1)", "12.34", "$.x must be a number that fits decimal(4,1), got 12.34"),
        (
            "decimal(18,3)",
            "12345678901234.567",
            "$.x must be a number of at most 15 digits, got 12345678901234.566",
        ),
        ("decimal(4,1)", "1000", "$.x must be a number that fits decimal(4,1), got 1000"),
        ("decimal(4,1)", '"1"', "$.x must be a number, got string"),
        ("enum('a', 'b')", '"c"', "$.x must be one of 'a', 'b', got \"c\""),
        ("enum('a', 'b')", "1", "$.x must be one of 'a', 'b', got integer"),
        ("date", '"2024-02-30"', '$.x must be a date as YYYY-MM-DD, got "2024-02-30"'),
        ("date", '"infinity"', '$.x must be a date as YYYY-MM-DD, got "infinity"'),
        ("date", '"0000-01-01"', '$.x must be a date as YYYY-MM-DD, got "0000-01-01"'),
        ("date", '"12024-01-01"', '$.x must be a date as YYYY-MM-DD, got "12024-01-01"'),
        ("date", '"0044-03-15 (BC)"', "$.x must be a date as YYYY-MM-DD, got"),
        ("date", "20240101", "$.x must be a date as YYYY-MM-DD, got integer"),
        ("time", '"24:00:00"', '$.x must be a time as HH:MM:SS, got "24:00:00"'),
        ("timestamp", '"2024-01-01"', "$.x must be a date and time as YYYY-MM-DDTHH:MM:SS, got"),
        ("timestamp", '"2024-01-01T10:00:00+02:00"', "$.x must be a date and time as"),
        ("timestamptz", '"2024-01-01T10:00:00"', "$.x must be a date and time with its offset"),
        ("timestamptz", '"2024-02-30T10:00:00Z"', "$.x must be a date and time with its offset"),
        ("varchar[]", '"a"', "$.x must be an array, got string"),
        ("varchar[]", '["a","b",5]', "$.x[2] must be a string, got integer"),
        ("varchar[]", '["a",null]', "$.x[1] must be a string, got null"),
        ("varchar[][]", '[[],["a",[]]]', "$.x[1][1] must be a string, got array"),
        ("struct(a int, b int)", '{"a":1}', "missing key b in $.x"),
        ("struct(a int)", '{"a":1,"c":2}', "unknown key c in $.x"),
        ("struct(a int)", '{"a":1,"a":1}', "duplicate key a in $.x"),
        ('struct("a.b" int)[]', '[{"a.b":1},{"a.b":"1"}]', '$.x[1]."a.b" must be an integer'),
    ],
)
def test_a_value_of_another_kind_is_a_named_mismatch(
    connection: duckdb.DuckDBPyConnection, data_type: str, token: str, mismatch: str
) -> None:
    """Nothing is coerced: the message says where the value is, what it must be and what it is."""
    seen = judge_value(connection, data_type, token)
    assert seen.kind == "schema_mismatch"
    assert str(seen.mismatch).startswith(mismatch)
    assert seen.answer is None
    assert seen.clean_content is not None


@pytest.mark.parametrize(
    ("text", "mismatch"),
    [
        ('{"summary":"x"}', "missing key categories"),
        ('{"categories":[],"summary":"x","foo":1}', "unknown key foo"),
        ('{"Categories":[],"summary":"x"}', "missing key categories"),
        ('{"categories":[],"summary":"x","summary":"x"}', "duplicate key summary"),
        ('[{"categories":[],"summary":"x"}]', "$ must be an object, got array"),
        ('"{}"', "$ must be an object, got string"),
        ("null", "$ must be an object, got null"),
    ],
)
def test_the_object_has_exactly_the_columns_as_keys(
    connection: duckdb.DuckDBPyConnection, text: str, mismatch: str
) -> None:
    """A key too few, too many or there twice is a mismatch, and so is what is no object."""
    (seen,) = judge(connection, MOVIE, text)
    assert (seen.kind, seen.mismatch) == ("schema_mismatch", mismatch)


def test_the_order_of_keys_and_white_space_do_not_matter(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    """An object is the same in any order of its keys; the answer has the order of the columns."""
    text = '{\n "summary" : "x",\n "categories" : ["a"] }'
    (seen,) = judge(connection, MOVIE, text)
    assert list(seen.answer) == ["categories", "summary"]
    assert seen.clean_content == '{"summary":"x","categories":["a"]}'


@pytest.mark.parametrize(
    ("rules", "data_type", "token", "outcome"),
    [
        ({"lower": True}, "varchar", '"ÀB"', "àb"),
        ({"lower": True}, "varchar[][]", '[["A"],["B"]]', [["a"], ["b"]]),
        ({"lower": True}, "struct(a varchar, b int)", '{"a":"A","b":1}', {"a": "a", "b": 1}),
        ({"lower": True}, "enum('a', 'b')[]", '["A","b"]', ["a", "b"]),
        ({"unique_items": True}, "varchar[]", '["b","a","b","B"]', ["b", "a", "B"]),
        ({"unique_items": True}, "double[]", "[1,1.0,2]", [1.0, 2.0]),
        ({"unique_items": True}, "struct(a int)[]", '[{"a":1},{"a":1}]', [{"a": 1}]),
        ({"unique_items": True, "lower": True}, "varchar[]", '["A","a"]', ["a"]),
        ({"unique_items": True, "max_items": 2}, "varchar[]", '["a","a","b"]', ["a", "b"]),
        ({"max_items": 2}, "varchar[]", '["a","a","b"]', "$.x must have at most 2 items, got 3"),
        ({"min": 1900}, "integer", "1900", 1900),
        ({"min": 1900}, "integer", "1899", "$.x must be >= 1900, got 1899"),
        ({"max": 0.1}, "float", "0.1", pytest.approx(0.1)),
        ({"max": 0.5}, "double", "0.6", "$.x must be <= 0.5, got 0.6"),
        ({"min": 0.5}, "integer", "0", "$.x must be >= 0.5, got 0"),
        ({"max": 5}, "decimal(3,1)", "5.1", "$.x must be <= 5, got 5.1"),
        ({"min": 1, "max": 5}, "integer[]", "[3,6,0]", "$.x must have elements >= 1, got 0"),
        ({"max": 5}, "integer[][]", "[[],[3,6]]", "$.x must have elements <= 5, got 6"),
        ({"max": 5}, "integer[]", "[]", []),
        ({"min": -1e300, "max": 1e300}, "uhugeint", str(2**128 - 1), 2**128 - 1),
        ({"nullable": True, "max_items": 1, "unique_items": True}, "varchar[]", "null", None),
        ({"nullable": True, "min": 1}, "integer", "null", None),
        ({"nullable": True}, "varchar[]", "[null]", "$.x[0] must be a string, got null"),
        ({"nullable": True}, "struct(a int)", '{"a":null}', "$.x.a must be an integer, got null"),
    ],
)
def test_rules_normalise_first_and_judge_then(
    connection: duckdb.DuckDBPyConnection,
    rules: dict[str, Any],
    data_type: str,
    token: str,
    outcome: object,
) -> None:
    """`lower` and `unique_items` fix the answer; the other rules judge what they made of it."""
    seen = judge_value(connection, data_type, token, **rules)
    if seen.mismatch is None:
        assert seen.answer == {"x": outcome}
    else:
        assert (seen.kind, seen.mismatch) == ("schema_mismatch", outcome)


def test_a_long_list_is_deduplicated_in_order(connection: duckdb.DuckDBPyConnection) -> None:
    """A list of 100,000 elements loses its repetitions, in order, in moments."""
    outputs = [OutputColumn("x", "integer[]", unique_items=True)]
    items = [(7 * n) % 50_000 for n in range(100_000)]
    (seen,) = judge(connection, outputs, json.dumps({"x": items}))
    assert seen.answer == {"x": items[:50_000]}


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"categories":["a"],"summary":"x"}\n```',
        '```\n{"categories":["a"],"summary":"x"}```',
        'Here it is:\n\n{"categories":["a"],"summary":"x"}\n\nAnything else?',
        '\ufeff{"categories":["a"],"summary":"x"}',
        'As {asked}:\n```json\n{"categories":["a"],"summary":"x"}\n```\nSo {it} is.',
        'From the set {1, 2}: {"categories":["a"],"summary":"x"}',
        '{"categories":["a",],"summary":"x",}',
    ],
)
def test_what_stands_around_one_object_is_dropped(
    connection: duckdb.DuckDBPyConnection, text: str
) -> None:
    """A fence, prose, a byte order mark or a last comma does not make an answer invalid."""
    (seen,) = judge(connection, MOVIE, text)
    assert seen.answer == {"categories": ["a"], "summary": "x"}
    assert seen.clean_content == '{"categories":["a"],"summary":"x"}'


@pytest.mark.parametrize(
    ("text", "mismatch"),
    [
        (None, ("invalid_json", "the answer is empty")),
        ("  ", ("invalid_json", "the answer is empty")),
        ("I cannot answer this.", NOT_JSON),
        ('{"categories":["a"],"summary":"x', NOT_JSON),
        ('{"categories":["a"],"summary":"x"} {"categories":[],"summary":"y"}', NOT_JSON),
        ('```json\n{"summary":"x"}\n```\n```json\n{"summary":"y"}\n```', NOT_JSON),
        ("{'categories': [], 'summary': 'x'}", NOT_JSON),
        ('{"categories":[],"summary":"a\nb"}', NOT_JSON),
        (r'{"categories":[],"summary":"\ud800"}', NOT_JSON),
        ('{"categories":[],"summary":"\x00"}', NOT_JSON),
        ("[" * 10_000, NOT_JSON),
        ('{"a":' * 10_000, NOT_JSON),
        ("{" * 1_000_000, NOT_JSON),
        ('```json{"' * 50_000, NOT_JSON),
    ],
)
def test_what_is_not_one_object_is_invalid_json(
    connection: duckdb.DuckDBPyConnection, text: str | None, mismatch: tuple[str, str]
) -> None:
    """No object, a broken one and several are invalid JSON, and there is no clean content."""
    (seen,) = judge(connection, MOVIE, text)
    assert seen == (None, None, *mismatch)


def test_hostile_values_are_judged_and_stop_nothing(connection: duckdb.DuckDBPyConnection) -> None:
    """Depth, size and odd keys end in a verdict of their own row; the others go on."""
    deep_list = "[" * 10_000 + "]" * 10_000
    deep_object = '{"a":' * 10_000 + "1" + "}" * 10_000
    many_keys = "{" + ",".join(f'"k{n}":1' for n in range(50_000)) + "}"
    large = json.dumps({"categories": ["x" * 1_000_000], "summary": "y" * 1_000_000})
    fine = '{"categories":["a"],"summary":"x"}'
    seen = judge(
        connection,
        MOVIE,
        f'{{"categories":{deep_list},"summary":"x"}}',
        f'{{"categories":[],"summary":{deep_object}}}',
        f'{{"categories":[],"summary":"x","{"k" * 500}":1}}',
        f'{{"categories":[{fine}],"summary":"x"}}',
        many_keys,
        large,
        fine,
    )
    assert [verdict.mismatch for verdict in seen] == [
        "$.categories[0] must be a string, got array",
        "$.summary must be a string, got object",
        "unknown key " + "k" * 80,
        "$.categories[0] must be a string, got object",
        "missing key categories",
        None,
        None,
    ]
    assert len(seen[5].answer["summary"]) == 1_000_000
    assert seen[6].answer == {"categories": ["a"], "summary": "x"}


def test_names_need_no_quoting_by_the_user(connection: duckdb.DuckDBPyConnection) -> None:
    """Names with quotes, dots, brackets and slashes are found as they are, in any place."""
    names = ["a.b", 'x"y', "[z]", "/q~0~1", "$", "*", "it's", "a\\b", "ключ", "select", "place"]
    outputs = [OutputColumn(name, "integer") for name in names]
    valid = {name: place for place, name in enumerate(names)}
    backwards = dict(reversed(valid.items()))
    wrong = {**valid, 'x"y': "1"}
    seen = judge(connection, outputs, *(json.dumps(d) for d in (valid, backwards, wrong)))
    assert seen[0].answer == seen[1].answer == valid
    assert seen[2].mismatch == '$."x\\"y" must be an integer, got string'


def test_other_columns_pass_through(connection: duckdb.DuckDBPyConnection) -> None:
    """The source's columns stay as they are, also where a lambda has such a name of its own."""
    source = """(select '{"x":["A","a"]}' as content, 1 as item_1, 2 as place, 3 as let_1)"""
    outputs = [OutputColumn("x", "varchar[]", lower=True, unique_items=True)]
    relation = connection.sql(validated_answers_sql(source, outputs))
    added = ["answer", "clean_content", "is_given_back", "mismatch_kind", "mismatch"]
    assert relation.columns == ["content", "item_1", "place", "let_1", *added]
    assert relation.fetchall() == [
        ('{"x":["A","a"]}', 1, 2, 3, {"x": ["a"]}, '{"x":["A","a"]}', False, None, None)
    ]


def test_the_answer_has_the_declared_type(connection: duckdb.DuckDBPyConnection) -> None:
    """The struct's type is that of the columns, so that a table can be made of no rows."""
    outputs = [
        OutputColumn("a.b", "enum('x', 'it''s')[]", lower=True),
        OutputColumn("c", 'struct("d e" decimal(9,3), f timestamptz)'),
    ]
    for sql in (
        validated_answers_sql("(select null::varchar as content)", outputs),
        typed_answers_sql("(select null::varchar as clean_content)", outputs),
    ):
        seen = connection.execute(f"select typeof(answer), answer from ({sql})").fetchone()
        declared = connection.execute(f"select typeof(null::{answer_struct_type(outputs)})")
        assert seen == (*(declared.fetchone() or ()), None)


def test_a_stored_answer_that_no_longer_fits_is_null(connection: duckdb.DuckDBPyConnection) -> None:
    """Typing without validation gives NULL for what cannot be read, and stops at nothing."""
    texts = ['{"categories":["A"],"summary":"x"}', '{"summary":"x"}', "[", None]
    sql = typed_answers_sql("(select unnest(?::varchar[]) as clean_content)", MOVIE)
    seen = connection.execute(f"select answer from ({sql})", [texts]).fetchall()
    assert [answer for (answer,) in seen] == [
        {"categories": ["a"], "summary": "x"},
        None,
        None,
        None,
    ]


def test_duckdbs_own_json_of_a_typed_value_can_be_read_back(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    """Answers that were rebuilt from an enriched table, by `to_json`, become the same values."""
    outputs = [
        OutputColumn("d", "date"),
        OutputColumn("t", "timestamp"),
        OutputColumn("z", "timestamptz"),
        OutputColumn("f", "float"),
        OutputColumn("n", "decimal(10,2)", nullable=True),
    ]
    kind = answer_struct_type(outputs)
    struct = (
        "{'d': date '2024-02-29', 't': timestamp '2024-02-29 10:00:00.5', "
        f"'z': timestamptz '2024-02-29 10:00:00+02', 'f': 0.1, 'n': 12.30}}::{kind}"
    )
    source = f"(select {struct} as previous, to_json({struct})::varchar as clean_content)"
    row = connection.execute(
        f"select previous = answer from ({typed_answers_sql(source, outputs)})"
    ).fetchone()
    assert row == (True,)


@pytest.mark.parametrize(
    ("kind", "text", "is_given_back"),
    [
        ("varchar", '{"x":"ä\\n"}', True),
        ("double", '{"x":0.5}', True),
        ("double", '{"x":-0.0}', False),
        ("float", '{"x":-0.0}', False),
        ("integer", '{"x":1}', True),
        ("integer", '{"x":1.0}', False),
        ("enum('a')", '{"x":"a"}', True),
        ("timestamp", '{"x":"2024-01-01T10:00:00"}', False),
    ],
)
def test_a_text_is_given_back_by_its_value_or_not(
    connection: duckdb.DuckDBPyConnection, kind: str, text: str, is_given_back: bool
) -> None:
    """Byte for byte; Parquet writes one zero for both."""
    source = f"(select '{text}' as content)"
    (found,) = connection.execute(
        "select mismatch, is_given_back "
        f"from ({validated_answers_sql(source, [OutputColumn('x', kind)])})"
    ).fetchall()
    assert found == (None, is_given_back)
