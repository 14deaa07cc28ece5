"""Distributions of nested and of whole values, in a real DuckDB."""

from __future__ import annotations

import duckdb
from dbt_enrich.report.charts import bin_rows, crossing_chart, histogram_chart
from dbt_enrich.report.contents import ColumnReport
from dbt_enrich.report.distributions import column_reports, crossings
from dbt_enrich.report.documents import cross_table
from dbt_enrich.report.rows import shown_sql
from dbt_enrich.task.schema import OutputColumn


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


def test_columns_of_few_values_are_shown_by_each_other() -> None:
    """Enums and booleans in pairs, also where a name needs quoting; lists and texts are not."""
    kinds = {"kind": "enum('a', 'b', 'c')", "is done": "boolean", "mood": "enum('good', 'bad')",
             "tags": "varchar[]", "text": "varchar"}  # fmt: skip
    outputs = [OutputColumn(name, kind, "x") for name, kind in kinds.items()]
    with duckdb.connect() as connection:
        columns = ", ".join(f'cast(column{i} as {k}) as "{n}"' for i, (n, k) in
                            enumerate(kinds.items()))  # fmt: skip
        connection.execute(
            f"""create table answers as select {columns} from (values
            ('a', true, 'good', ['x'], 't'), ('a', true, 'bad', [], 't'),
            ('b', false, null, [], 't'), ('a', null, 'bad', [], 't'))
            as answers(column0, column1, column2, column3, column4)"""
        )
        found = list(crossings(connection, "answers", outputs))
        empty = list(crossings(connection, "(select * from answers where false)", outputs))
    assert {
        (one, crossing.other): [(p.one, p.other, p.rows) for p in crossing.pairs]
        for one, crossing in found
    } == {
        ("kind", "is done"): [("a", "true", 2), ("b", "false", 1)],
        ("kind", "mood"): [("a", "bad", 2), ("a", "good", 1)],
        ("is done", "mood"): [("true", "bad", 1), ("true", "good", 1)],
    }
    assert not empty
    assert cross_table("kind", found[0][1]).splitlines() == [
        "| kind by is done | false | true |",
        "| --- | --- | --- |",
        "| a | 0 | 2 |",
        "| b | 1 | 0 |",
    ]
    drawn = crossing_chart("kind", found[0][1])
    assert all(f">{text}<" in drawn for text in ("kind", "is done", "a", "b", "true", "false", "2"))


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


def test_a_vector_is_counted_and_shown_by_its_first_numbers() -> None:
    """No number of it means anything by itself."""
    found = reports("from (values ([1, 2, 3]), (null)) as t(value)", "float[3]")["found"]
    assert (found.filled, found.empty, found.histogram, found.sizes) == (1, 1, None, None)
    for size, text in ((3, "[1.0000, 1.0000, 1.0000] (3 numbers)"), (1_536, None)):
        shown = shown_sql("v", f"FLOAT[{size}]")
        vector = f"list_transform(range({size}), lambda n: 1)::float[{size}]"
        ((found_text,),) = duckdb.sql(f"select {shown} from (select {vector} as v)").fetchall()
        assert found_text == (text or "[1.0000, 1.0000, 1.0000, 1.0000, …] (1,536 numbers)")
