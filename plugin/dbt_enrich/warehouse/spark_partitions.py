"""The rows of a Spark DataFrame, worked on in its partitions by `mapInArrow`.

Spark runs a task again when its machine is gone, and twice where it is slow; what it yields
counts once. dbt-enrich, with its extra `remote`, is installed on the machines of the cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from dbt_enrich import errors
from dbt_enrich.errors import ConfigurationError, EnrichmentError
from dbt_enrich.task.result_columns import KEY
from dbt_enrich.warehouse.parted_rows import PART
from dbt_enrich.warehouse.spark_types import arrow_schema, duckdb_type, held_type, spark_schema

if TYPE_CHECKING:
    import pyarrow as pa

    from dbt_enrich.warehouse.parted_rows import PartedRows, Work

PART_ROWS: Final = 100_000
"""Rows of a part, about: as many requests as one file of the service may hold."""
# Each part fetches the keys of all answers to the task, 1.9 MB for 100,000: of many rows there are
# fewer parts than that, with more rows each, but not more than a disk holds of one.
_FEW_PARTS, _MOST_PART_ROWS = 200, 1_000_000
# So many response files are read by one job at most: each is a part of it.
_MOST_AT_ONCE = 32
_ERROR = re.compile(r"dbt_enrich\.errors\.(\w+): (.*)")
_SLOTS = re.compile(r"requires \d+ worker task slots, but the configured maximum is (\d+)")
_NOT_INSTALLED = re.compile(r"No module named '(dbt_enrich|batch_server|duckdb|obstore)")


def parts_of(rows: int, rows_of_part: int) -> int:
    """Return in how many parts so many rows lie.

    Args:
        rows: The rows.
        rows_of_part: How many of them lie in a part at most, about.
    """
    usual = min(max(PART_ROWS, -(-rows // _FEW_PARTS)), _MOST_PART_ROWS)
    return max(1, -(-rows // max(1, min(usual, rows_of_part))))


class SparkRows:
    """The rows of a DataFrame, for `PartedRows`.

    Args:
        frame: The `pyspark.sql.DataFrame`; its rows are the same whenever they are read, as those
            of a table are.
        parts: How many parts there are; by default as many as `PART_ROWS` asks for.

    Raises:
        ConfigurationError: A column has a type that only Spark has.
    """

    def __init__(self, frame: Any, *, parts: int | None = None) -> None:
        self._frame = frame
        self.columns = _columns(frame.schema)
        self.parts = parts or parts_of(frame.count(), PART_ROWS)

    @property
    def at_once(self) -> int:
        """How many parts are worked on at once, about."""
        return min(self.parts, _MOST_AT_ONCE)

    def held(self, kind: str) -> str | None:
        """Return the type that Spark holds values of a type as, or None if it holds none."""
        return held_type(kind)

    def first(self, rows: int) -> SparkRows:
        """Return so many of the rows, in one part."""
        return SparkRows(self._frame.limit(rows), parts=1)

    def answers(self, keyed: Work, table: PartedRows) -> SparkRows:
        """Return those rows of a table that answer a request of these rows; see `PartedRows`."""
        keys = self._frame.mapInArrow(_as_it_is(keyed), f"{KEY} string").distinct()
        other: Any = table
        return SparkRows(other.data.join(keys, KEY, "left_semi"), parts=self.parts)

    @property
    def data(self) -> Any:
        """The `pyspark.sql.DataFrame`."""
        return self._frame

    def results(
        self, keyed: Work, work: Work, columns: Mapping[str, str]
    ) -> list[Mapping[str, Any]]:
        """Do a piece of work in each part, and bring home what it yields; see `PartedRows`.

        Sail begins no job with more parts than its workers have slots for tasks: it says how many
        they are, and from then on there are as many parts.
        """
        try:
            return _collected(self.frame(keyed, work, columns))
        except _TooManyPartsError as error:
            if error.slots >= self.parts:
                raise
            self.parts = error.slots
            return _collected(self.frame(keyed, work, columns))

    def frame(self, keyed: Work, work: Work, columns: Mapping[str, str]) -> Any:
        """Return what a piece of work yields as a DataFrame; see `PartedRows`."""
        from pyspark.sql import types

        schema = types.StructType([*self._frame.schema.fields])
        keyed_rows = self._frame.mapInArrow(
            _as_it_is(keyed), schema.add(types.StructField(PART, types.StringType()))
        )
        parted = keyed_rows.repartition(self.parts, PART)
        return parted.mapInArrow(_typed(work, columns), spark_schema(columns))

    def each(
        self, names: Sequence[str], work: Work, columns: Mapping[str, str]
    ) -> list[Mapping[str, Any]]:
        """Do a piece of work for each of some names; see `PartedRows`."""
        spark = self._frame.sparkSession
        frame = spark.createDataFrame([(name,) for name in names], "name string")
        parted = frame.repartition(min(len(names), self.at_once))
        return _collected(parted.mapInArrow(_typed(work, columns), spark_schema(columns)))


class _TooManyPartsError(EnrichmentError):
    """A job has more parts than all workers have slots.

    Attributes:
        slots: How many slots they have.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        super().__init__(
            f"Spark could not carry out a job: its workers have slots for {slots} tasks",
            fix="give them more, such as SAIL_CLUSTER__WORKER_TASK_SLOTS. Nothing was sent",
        )


def _columns(schema: Any) -> dict[str, str]:
    columns = {}
    for field in schema.fields:
        kind = duckdb_type(field.dataType)
        if kind is None:
            raise ConfigurationError(
                f"the column '{field.name}' has the type {field.dataType.simpleString()}, which "
                "only Spark has",
                fix=f"cast it to string, or leave it out: drop('{field.name}')",
            )
        columns[field.name] = kind
    return columns


def _as_it_is(work: Work) -> Work:
    """Return a piece of work as Spark pickles and calls it."""

    def done(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from work(batches)

    return done


def _typed(work: Work, columns: Mapping[str, str]) -> Work:
    """Return a piece of work that yields what Spark was told that it yields."""

    def done(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        schema = arrow_schema(columns)
        for batch in work(batches):
            yield from pa.Table.from_batches([batch]).cast(schema).to_batches()

    return done


def _collected(frame: Any) -> list[Mapping[str, Any]]:
    """Bring rows home; what was raised there is raised here by its own name."""
    from pyspark.errors import PySparkException

    try:
        return [row.asDict() for row in frame.collect()]
    except PySparkException as error:
        raise _named(error) from error


def _named(error: Exception) -> EnrichmentError:
    text = str(error)
    slots = _SLOTS.search(text)
    if slots:
        return _TooManyPartsError(int(slots[1]))
    missing = _NOT_INSTALLED.search(text)
    if missing:
        return ConfigurationError(
            f"the machines of the Spark cluster have no Python package {missing[1]}",
            fix="install there what this machine has: pip install 'dbt-enrich[remote]'",
        )
    found = _ERROR.search(text)
    kind = getattr(errors, found[1], EnrichmentError) if found else EnrichmentError
    if found and isinstance(kind, type) and issubclass(kind, EnrichmentError):
        return kind(found[2].strip())
    said = text.strip().splitlines() or [type(error).__name__]
    return EnrichmentError(
        f"Spark could not carry out a job ({said[0][:300]})",
        fix="see the log of its tasks, then run again: nothing that was written is paid for",
    )
