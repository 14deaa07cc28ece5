"""How the answers of an output column are spread, counted by SQL over the enriched table."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb

from dbt_enrich.report.contents import Bin, ColumnReport, Count, Crossing, Histogram, Pair
from dbt_enrich.sql import identifier, literal
from dbt_enrich.task.schema import OutputColumn, is_number
from dbt_enrich.task.types import (
    ArrayType,
    DataType,
    EnumType,
    ListType,
    ScalarType,
    StructType,
)

TOP_VALUES = 15
_PAIRED_VALUES = 10
# Of more enumerated columns than five, each by each, few readers look at all charts.
_MOST_CROSSINGS = 10
_BOOLEAN = ScalarType("boolean")
_BINS = 20
# So many whole numbers have a bar each.
_MOST_WHOLE_NUMBERS = 40
# Of a text with more different values than this, the values say nothing: each is its own.
_MOST_NAMES = 200
_VALUE_CHARACTERS = 120
_TIMES = {
    "date",
    "timestamp",
    "timestamp with time zone",
    "timestamp_s",
    "timestamp_ms",
    "timestamp_ns",
}


def column_reports(
    connection: duckdb.DuckDBPyConnection, table: str, output: OutputColumn
) -> Iterator[ColumnReport]:
    """Yield the report of an output column, or one for each field of a struct.

    Args:
        connection: The warehouse.
        table: Table expression of the answered rows.
        output: The column.
    """
    source = f"(select {identifier(output.name)} as value from {table} as answered)"
    yield from _reports(connection, source, output.name, output.type, output.description)


def crossings(
    connection: duckdb.DuckDBPyConnection, table: str, outputs: Sequence[OutputColumn]
) -> Iterator[tuple[str, Crossing]]:
    """Yield the name of an enum or boolean column, and how it goes with a later one.

    Args:
        connection: The warehouse.
        table: Table expression of the answered rows.
        outputs: The output columns.
    """
    few = [o.name for o in outputs if isinstance(o.type, EnumType) or o.type == _BOOLEAN]
    for one, other in itertools.islice(itertools.combinations(few, 2), _MOST_CROSSINGS):
        pairs = _crossed(connection, table, one, other)
        if pairs:
            yield one, Crossing(other, pairs)


def _reports(
    connection: duckdb.DuckDBPyConnection,
    values: str,
    name: str,
    kind: DataType,
    description: str | None,
) -> Iterator[ColumnReport]:
    for path, value, leaf in _leaves(name, "answered.value", kind):
        source = f"(select {value} as value from {values} as answered)"
        yield _report(connection, source, path, leaf, description)
        if isinstance(leaf, ListType) and isinstance(leaf.item, StructType):
            items = f"(select unnest(value) as value from {source})"
            yield from _reports(connection, items, f"{path}[]", leaf.item, None)


def _leaves(name: str, value: str, kind: DataType) -> Iterator[tuple[str, str, DataType]]:
    if not isinstance(kind, StructType):
        yield name, value, kind
        return
    for field, inner in kind.fields:
        yield from _leaves(f"{name}.{field}", f"struct_extract({value}, {literal(field)})", inner)


def _report(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    name: str,
    kind: DataType,
    description: str | None,
) -> ColumnReport:
    filled, empty = _row(connection, f"select count(value), count(*) - count(value) from {source}")
    found = ColumnReport(name, kind.sql, description, int(filled), int(empty))
    if not filled or isinstance(kind, ArrayType):
        # Of a vector no number means anything by itself.
        return found
    if not isinstance(kind, ListType):
        return _with_values(connection, found, source, kind)
    sizes = _histogram(connection, f"(select len(value) as number from {source})", "items")
    items = f"(select unnest(value) as value from {source})"
    with_values = _with_values(connection, found, items, kind.item)
    named = isinstance(kind.item, EnumType) or bool(with_values.values)
    pairs = _pairs(connection, source) if named else ()
    return ColumnReport(**{**vars(with_values), "sizes": sizes, "pairs": pairs})


def _with_values(
    connection: duckdb.DuckDBPyConnection, found: ColumnReport, source: str, kind: DataType
) -> ColumnReport:
    """Add the values' distribution to a report, whichever suits their type."""
    if is_number(kind):
        numbers = f"(select try_cast(value as double) as number from {source})"
        return _replaced(found, histogram=_histogram(connection, numbers, "number"))
    if isinstance(kind, ScalarType) and kind.name in _TIMES:
        numbers = f"(select epoch(cast(value as timestamp)) as number from {source})"
        return _replaced(found, histogram=_histogram(connection, numbers, "seconds"))
    if isinstance(kind, ListType | StructType):
        return found
    distinct, total = _row(connection, f"select count(distinct value), count(value) from {source}")
    is_free = kind == ScalarType("varchar")
    lengths = None
    if is_free:
        numbers = f"(select length(value) as number from {source})"
        lengths = _histogram(connection, numbers, "characters")
    if is_free and (distinct > _MOST_NAMES or distinct * 2 > total):
        return _replaced(found, distinct=int(distinct), histogram=lengths)
    values = tuple(
        Count(str(value), int(rows))
        for value, rows in connection.execute(
            f"select left(cast(value as varchar), {_VALUE_CHARACTERS}) as shown, count(*) as rows "
            f"from {source} where value is not null group by shown "
            f"order by rows desc, shown limit {TOP_VALUES}"
        ).fetchall()
    )
    others = int(total) - sum(count.rows for count in values)
    return _replaced(found, distinct=int(distinct), values=values, others=others, histogram=lengths)


def _replaced(found: ColumnReport, **changes: Any) -> ColumnReport:
    return ColumnReport(**{**vars(found), **changes})


def _histogram(connection: duckdb.DuckDBPyConnection, numbers: str, unit: str) -> Histogram | None:
    """Return the histogram of `number`, or None where there is none; infinite ones are left out."""
    finite = f"(select number from {numbers} where isfinite(number))"
    low, middle, high, whole = _row(
        connection,
        "select min(number), approx_quantile(number, 0.5), max(number), "
        f"bool_and(number = floor(number)) from {finite}",
    )
    if low is None:
        return None
    low, middle, high = float(low), float(middle), float(high)
    width = bin_width(low, high, whole=bool(whole))
    start = math.floor(low / width) * width
    bins = max(int((high - start) // width) + 1, 1)
    counts = dict(
        connection.execute(
            f"select cast(least(greatest(floor((number - {start!r}) / {width!r}), 0), {bins - 1}) "
            f"as integer) as bin, count(*) from {finite} group by bin"
        ).fetchall()
    )
    return Histogram(
        unit,
        tuple(
            Bin(start + i * width, start + (i + 1) * width, int(counts.get(i, 0)))
            for i in range(bins)
        ),
        minimum=low,
        median=middle,
        maximum=high,
        whole=bool(whole) and width == 1.0,
    )


def bin_width(low: float, high: float, *, whole: bool) -> float:
    """Return a round width (1, 2 or 5 times a power of ten) that makes about `_BINS` bins."""
    span = high - low
    if not span or not math.isfinite(span):
        return 1.0 if math.isfinite(span) and abs(low) < 1e15 else max(abs(low), abs(high))
    if whole and span < _MOST_WHOLE_NUMBERS:
        return 1.0
    rough = span / _BINS
    power = 10.0 ** math.floor(math.log10(rough))
    width = next((step * power for step in (1, 2, 5) if step * power >= rough), 10 * power)
    # Below the precision of the numbers a bin would be narrower than the step between two of them.
    width = max(width, abs(high) * 1e-13, abs(low) * 1e-13)
    return max(width, 1.0) if whole else width


def _pairs(connection: duckdb.DuckDBPyConnection, source: str) -> tuple[Pair, ...]:
    """Return which of the most frequent items stand in one list, and in how many."""
    rows = connection.execute(
        f"""
        with numbered as (
            select row_number() over () as place, list_distinct(value) as value from {source}
            where len(value) > 0
        ),
        items as (select place, left(cast(unnest(value) as varchar), {_VALUE_CHARACTERS}) as item
            from numbered),
        frequent as (
            select item from items where item is not null
            group by item order by count(*) desc, item limit {_PAIRED_VALUES}
        ),
        kept as (select distinct place, item from items where item in (from frequent))
        select one.item, other.item, count(*) as rows
        from kept as one
        join kept as other on one.place = other.place and one.item < other.item
        group by all
        order by rows desc, one.item, other.item
        """
    ).fetchall()
    return tuple(Pair(str(one), str(other), int(count)) for one, other, count in rows)


def _crossed(
    connection: duckdb.DuckDBPyConnection, table: str, one: str, other: str
) -> tuple[Pair, ...]:
    """Return how many rows have which of the most frequent values of two columns."""
    rows = connection.execute(
        f"""
        with answers as (
            select
                left(cast({identifier(one)} as varchar), {_VALUE_CHARACTERS}) as one,
                left(cast({identifier(other)} as varchar), {_VALUE_CHARACTERS}) as other
            from {table} as answered
        ),
        counted as (
            select one, other, count(*) as rows from answers
            where one is not null and other is not null group by one, other
        ),
        ones as (
            select one from counted group by one order by sum(rows) desc, one
            limit {_PAIRED_VALUES}
        ),
        others as (
            select other from counted group by other order by sum(rows) desc, other
            limit {_PAIRED_VALUES}
        )
        select one, other, rows from counted
        where one in (from ones) and other in (from others)
        order by rows desc, one, other
        """
    ).fetchall()
    return tuple(Pair(str(value), str(with_), int(count)) for value, with_, count in rows)


def _row(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    row = connection.execute(sql).fetchone()
    return () if row is None else tuple(row)
