"""The rows of a Spark DataFrame as Parquet files of this machine, and such files back in Spark.

Nothing here needs a JVM beside the client, RDDs, or a directory that Spark and this machine share.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbt_enrich.warehouse.spark_types import arrow_schema, spark_schema

if TYPE_CHECKING:
    import pyarrow as pa

# Few, as rows may be long, and DuckDB reads a row group at a time.
_ROW_GROUP: Final = 4_096
# So many bytes of rows are sent to Spark in one piece. Spark Connect takes 128 MB in a message, and
# has what is larger than 64 MB (Spark 4.0; 1 MB in 4.1) uploaded as a file first.
_SENT_BYTES: Final = 16_777_216
_READ_ROWS: Final = 8_192


def arrow_tables(frame: Any) -> Generator[pa.Table, None, None]:
    """Yield the rows of a DataFrame, a few thousand at a time.

    Over Spark Connect by `SparkConnectClient.to_table_as_iterator` (PySpark 4.0 and later), which
    yields each Arrow batch as it arrives; `DataFrame.toLocalIterator` reads it too, and makes
    Python objects of it. Where there is none, as in a session with its own JVM, `mapInArrow` packs
    each batch into one binary value, so that `toLocalIterator` brings batches and no rows.

    Args:
        frame: The `pyspark.sql.DataFrame`.
    """
    # A session with a JVM has no client, and fails where it is asked for one.
    plan: Any = getattr(frame, "_plan", None)
    client: Any = None if plan is None else frame.sparkSession.client
    if not hasattr(client, "to_table_as_iterator"):
        yield from _packed_tables(frame)
        return
    found = client.to_table_as_iterator(plan.to_proto(client), plan.observations)
    # What comes first is the schema.
    yield from (part for part in found if hasattr(part, "num_rows"))


def _packed_tables(frame: Any) -> Iterator[pa.Table]:
    import pyarrow as pa

    def pack(batches: Iterable[Any]) -> Iterator[Any]:
        # Runs in Spark's own workers, which have no dbt_enrich.
        import pyarrow as pa

        for batch in batches:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as stream:
                stream.write_batch(batch)
            yield pa.RecordBatch.from_pydict({"packed": [sink.getvalue().to_pybytes()]})

    for row in frame.mapInArrow(pack, "packed binary").toLocalIterator():
        with pa.ipc.open_stream(bytes(row["packed"])) as stream:
            yield stream.read_all()


def write_parquet(frame: Any, columns: Mapping[str, str], directory: Path) -> tuple[Path, ...]:
    """Write the rows of a DataFrame to a Parquet file, no more than a part of them in memory.

    Args:
        frame: The `pyspark.sql.DataFrame`.
        columns: Its columns' types as DuckDB has them, by name, in order.
        directory: Where the file goes; it is there.

    Returns:
        The file, or none of no rows.
    """
    import pyarrow.parquet as pq

    schema = arrow_schema(columns)
    path = directory / "rows.parquet"
    rows = 0
    # The file holds the rows' texts: it is the user's alone from its first byte.
    path.touch(mode=0o600)
    with (
        closing(arrow_tables(frame)) as tables,
        pq.ParquetWriter(path, schema, compression="lz4") as writer,
    ):
        for table in _gathered(tables):
            writer.write_table(table.cast(schema), row_group_size=_ROW_GROUP)
            rows += table.num_rows
    if not rows:
        path.unlink()
    return (path,) if rows else ()


def _gathered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield tables of a few thousand rows, where those that arrive are smaller."""
    import pyarrow as pa

    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(part.num_rows for part in held) >= _ROW_GROUP:
            yield pa.concat_tables(held)
            held = []
    if any(part.num_rows for part in held):
        yield pa.concat_tables(held)


def frames_of(spark: Any, files: Sequence[Path], columns: Mapping[str, str]) -> Iterator[Any]:
    """Yield the rows of Parquet files as DataFrames that hold a part of them each.

    Args:
        spark: The session.
        files: The files.
        columns: The types of the columns to read, as Spark holds them, by name, in order.
    """
    schema, names = arrow_schema(columns), spark_schema(columns)
    for table in _parts(files, schema):
        yield spark.createDataFrame(table, schema=names)


def _parts(files: Sequence[Path], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the rows of files in tables of at most so many bytes, or of a single row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    held: list[pa.Table] = []
    size = 0
    for path in files:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_READ_ROWS, columns=schema.names):
                table = pa.Table.from_batches([batch]).select(schema.names).cast(schema)
                for part in _pieces(table):
                    if held and size + part.nbytes > _SENT_BYTES:
                        yield pa.concat_tables(held)
                        held, size = [], 0
                    held.append(part)
                    size += part.nbytes
    if held:
        yield pa.concat_tables(held)


def _pieces(table: pa.Table) -> Iterator[pa.Table]:
    """Yield a table in halves of halves, until each is small enough or a single row."""
    if table.nbytes <= _SENT_BYTES or table.num_rows < 2:
        yield table
        return
    middle = table.num_rows // 2
    yield from _pieces(table.slice(0, middle))
    yield from _pieces(table.slice(middle))
