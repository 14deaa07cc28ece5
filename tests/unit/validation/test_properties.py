"""The SQL verdict on answers, held against the `jsonschema` package on generated documents."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from dbt_enrich.validation.answers import typed_answers_sql, validated_answers_sql
from dbt_enrich.validation.values import is_storable
from hypothesis import given, settings
from hypothesis import strategies as st
from support.answer_strategies import documents, output_columns
from support.validation_oracle import verdict


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """Give one private DuckDB to all examples, set up as the engine's is."""
    with duckdb.connect(config={"threads": 1, "autoload_known_extensions": False}) as opened:
        yield opened


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for all examples."""
    return tmp_path_factory.mktemp("stored")


# They are the same each time, of two versions of DuckDB; who explores looks at more.
EXAMPLES = 1_000 if os.environ.get("HYPOTHESIS_PROFILE") == "explore" else 100


@given(data=st.data())
@settings(max_examples=EXAMPLES)
def test_the_verdict_is_that_of_jsonschema(
    connection: duckdb.DuckDBPyConnection, directory: Path, data: st.DataObject
) -> None:
    """Valid, nearly valid and broken answers get the verdict, and the value, of the oracle.

    Also where the text is read again, or the value was stored in Parquet; where the text is left
    out, the value gives it back.
    """
    outputs = data.draw(output_columns())
    texts = data.draw(documents(outputs))
    source = "(select unnest(?::varchar[]) as content, unnest(range(?)) as place)"
    connection.execute(
        f"create or replace temp table verdicts as {validated_answers_sql(source, outputs)}",
        [texts, len(texts)],
    )
    rows = connection.execute(
        "select place, answer, mismatch_kind, mismatch from verdicts order by place"
    ).fetchall()
    expected = [verdict(outputs, text) for text in texts]
    seen = [(kind, answer) for _, answer, kind, _ in rows]
    for text, wanted, got, (*_, message) in zip(texts, expected, seen, rows, strict=True):
        assert (text, message, *got) == (text, message, *wanted)
        assert (message is None) == (wanted[0] is None)
    valid = "(select place, clean_content from verdicts where mismatch_kind is null)"
    retyped = connection.execute(
        f"select answer from ({typed_answers_sql(valid, outputs)}) order by place"
    ).fetchall()
    assert [answer for (answer,) in retyped] == [a for kind, a in expected if kind is None]
    if not is_storable(outputs):
        return
    path = directory / "answers.parquet"
    connection.execute(
        "copy (select place, answer as stored, clean_content, is_given_back from verdicts "
        f"where mismatch_kind is null) to '{path}' (format parquet)"
    )
    unread = f"(select * replace (null::varchar as clean_content) from '{path}')"
    restored = connection.execute(
        f"select answer from ({typed_answers_sql(unread, outputs, stored='stored')}) order by place"
    ).fetchall()
    assert restored == retyped
    lost = f"select clean_content, cast(to_json(stored) as varchar) as text from '{path}'"
    lost += " where is_given_back and clean_content is distinct from text"
    assert connection.execute(lost).fetchall() == []
