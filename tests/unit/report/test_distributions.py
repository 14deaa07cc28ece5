"""Distributions of nested and of whole values, in a real DuckDB."""

from __future__ import annotations

import duckdb
from dbt_enrich.report.charts import bin_rows, histogram_chart
from dbt_enrich.report.contents import ColumnReport
from dbt_enrich.report.distributions import column_reports
from dbt_enrich.schema import OutputColumn


def reports(values: str, data_type: str) -> dict[str, ColumnReport]:
    """The reports of one column whose values a SELECT yields."""
    with duckdb.connect() as connection:
        connection.execute(f"create table answers as select value::{data_type} as found {values}")
        output = OutputColumn(name="found", data_type=data_type, description="What was found")
        return {report.name: report for report in column_reports(connection, "answers", output)}


def test_a_list_of_structs_is_shown_by_field() -> None:
    """Sizes of the lists, and each field over all their items."""
    found = reports(
        "from (values ([{'name': 'a', 'score': 1}, {'name': 'b', 'score': 3}]), "
        "([{'name': 'a', 'score': 2}, {'name': 'a', 'score': 2}]), (null)) as t(value)",
        "struct(name varchar, score integer)[]",
    )
    assert set(found) == {"found", "found[].name", "found[].score"}
    assert (found["found"].filled, found["found"].empty) == (2, 1)
    assert found["found"].sizes
    assert [(c.value, c.rows) for c in found["found[].name"].values] == [("a", 3), ("b", 1)]
    assert found["found[].score"].histogram
    assert found["found[].score"].histogram.median == 2


def test_whole_numbers_have_a_bar_each() -> None:
    """A rating from 1 to 30 is not cut into bins of two."""
    found = reports("from range(1, 31) as t(value)", "integer")["found"]
    assert found.histogram
    assert bin_rows(found.histogram) == [(str(i), 1) for i in range(1, 31)]
    assert "<svg" in histogram_chart(found.histogram)


def test_many_whole_numbers_share_bars() -> None:
    """As they would have no room."""
    found = reports("from range(1000) as t(value)", "integer")["found"]
    assert found.histogram
    assert len(found.histogram.bins) <= 21
    assert " to " in bin_rows(found.histogram)[0][0]


def test_fractions_between_whole_ends_are_no_whole_numbers() -> None:
    """A bar then stands for all that lies between two whole numbers, and says so."""
    found = reports("from (values (0.0), (3.5), (20.0)) as t(value)", "double")["found"]
    assert found.histogram
    assert not found.histogram.whole
    assert bin_rows(found.histogram) == [("0 to 1", 1), ("3 to 4", 1), ("20 to 21", 1)]
