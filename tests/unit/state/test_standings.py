"""Which of a request's answers stands, against the same rule in Python."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dbt_enrich.state.answer_store import NO_ANSWERS, done_sql, standing_sql
from dbt_enrich.task.failures import FailureKind
from dbt_enrich.workspace.database import read_parquet
from dbt_enrich.workspace.key_ranges import key_parts
from hypothesis import given
from hypothesis import strategies as st

_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
(_WHOLE,) = key_parts(3)
_KEYS = [UUID(int=number) for number in range(3)]


class Answer(NamedTuple):
    """An answer in a file."""

    key: UUID
    attempt: int
    kind: str
    status_code: int | None


_KIND = st.sampled_from(["done", *map(str, FailureKind)])
_STATUS = st.none() | st.sampled_from([200, 400, 429, 503, 599])
_ANSWERS = st.lists(
    st.builds(
        Answer, st.sampled_from(_KEYS), st.integers(min_value=1, max_value=4), _KIND, _STATUS
    ),
    max_size=8,
    # A file holds a request once.
    unique_by=lambda answer: answer.key,
)


def _write(answers: list[Answer], path: Path) -> None:
    pq.write_table(
        pa.table(
            {
                "request_key": pa.array([str(answer.key) for answer in answers], pa.string()),
                "attempt": pa.array([answer.attempt for answer in answers], pa.int32()),
                "kind": pa.array([answer.kind for answer in answers], pa.string()),
                "status_code": pa.array([answer.status_code for answer in answers], pa.int32()),
                "received_at": pa.array(
                    [_BEGAN + timedelta(days=answer.attempt) for answer in answers],
                    pa.timestamp("us", tz="UTC"),
                ),
            }
        ),
        path,
    )


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """One for all examples."""
    with duckdb.connect() as opened:
        yield opened


@given(files=st.lists(_ANSWERS, max_size=4))
def test_a_done_answer_stands_and_else_the_newest_attempt(
    database: duckdb.DuckDBPyConnection, files: list[list[Answer]]
) -> None:
    """Of two the one in the first file; with its kind, its status and the file's number."""
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory) / f"{number}.parquet" for number in range(len(files))]
        for answers, path in zip(files, paths, strict=True):
            _write(answers, path)
        keys = ", ".join(f"('{key}'::uuid)" for key in _KEYS[:2])
        database.execute(
            f"create or replace table keys as select * from (values {keys}) as keys(request_key)"
        )
        source = f"(select *, file_index from {read_parquet(paths, empty=NO_ANSWERS)})"
        cast = f"(select * replace (request_key::uuid as request_key) from {source})"
        found = {
            row[0]: row[1:]
            for row in database.execute(
                "select request_key, attempts, truncations, kind, status_code, file_index "
                f"from ({standing_sql(cast, 'keys', part=_WHOLE)})"
            ).fetchall()
        }
        done = {row[0] for row in database.execute(done_sql(cast, "keys", part=_WHOLE)).fetchall()}
    expected = {}
    for key in _KEYS[:2]:
        given_answers = [
            (answer, number)
            for number, answers in enumerate(files)
            for answer in answers
            if answer.key == key
        ]
        if not given_answers:
            continue
        best, number = max(given_answers, key=lambda a: (a[0].kind == "done", a[0].attempt, -a[1]))
        expected[key] = (
            max(answer.attempt for answer, _ in given_answers),
            sum(answer.kind == "truncated" for answer, _ in given_answers),
            best.kind,
            best.status_code,
            number,
        )
    assert found == expected
    assert done == {key for key, value in expected.items() if value[2] == "done"}
