"""Vectors in a Parquet file of our own making, as other readers of Parquet see them."""

from __future__ import annotations

import math
from array import array
from pathlib import Path

import duckdb
import pytest
from dbt_enrich.workspace import vector_file
from dbt_enrich.workspace.vector_file import VectorFile
from hypothesis import given, settings
from hypothesis import strategies as st

FLOATS = st.floats(width=32, allow_nan=False)
VECTORS = st.lists(st.lists(FLOATS, max_size=9), max_size=40)


def written(path: Path, vectors: list[list[float]]) -> list[tuple[int, int, list[float]]]:
    """Write vectors, and return what the file is to hold."""
    with VectorFile(path) as file:
        for number, vector in enumerate(vectors):
            file.add(number * 2**31, number, array("f", vector).tobytes())
    return [(n * 2**31, n, list(array("f", v))) for n, v in enumerate(vectors)]


@settings(max_examples=50, deadline=None)
@given(VECTORS)
def test_each_reader_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, vectors: list[list[float]]
) -> None:
    """DuckDB and Arrow, bit by bit, empty vectors and empty files included."""
    path = tmp_path_factory.mktemp("vectors") / "v.parquet"
    expected = written(path, vectors)
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(path).to_pylist()
    assert [(row["line"], row["place"], row["vector"]) for row in rows] == expected
    assert duckdb.sql(f"select * from '{path}'").fetchall() == expected


def test_many_row_groups_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers see the rows of all of them, and filter by their columns."""
    monkeypatch.setattr(vector_file, "_GROUP_BYTES", 64)
    path = tmp_path / "v.parquet"
    expected = written(path, [[float(n)] * (n % 20) for n in range(500)])
    found = duckdb.sql(f"select * from '{path}' order by place").fetchall()
    assert found == expected
    groups = f"select count(distinct row_group_id) from parquet_metadata('{path}')"
    assert duckdb.sql(groups).fetchall()[0][0] > 15
    one = f"select len(vector) from '{path}' where place = 319"
    assert duckdb.sql(one).fetchall() == [(19,)]


def test_what_no_float_of_a_number_is_stays_as_it_came(tmp_path: Path) -> None:
    """NaN and infinity are judged by their reader."""
    written(tmp_path / "v.parquet", [[math.nan, math.inf, -0.0]])
    ((vector,),) = duckdb.sql(f"select vector from '{tmp_path}/v.parquet'").fetchall()
    assert math.isnan(vector[0])
    assert math.isinf(vector[1])
    assert math.copysign(1, vector[2]) == -1
