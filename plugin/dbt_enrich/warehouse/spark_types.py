"""Spark's types as DuckDB's, and DuckDB's as Spark holds them.

Both have texts, integers with a sign, decimals, floats, booleans, dates, bytes, lists, structs and
maps. Spark's `timestamp` is an instant, DuckDB's `timestamp with time zone`; its `timestamp_ntz` is
DuckDB's `timestamp`. What Spark has no type for, it holds as a wider one or as a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from duckdb.sqltypes import DuckDBPyType

from dbt_enrich.errors import ConfigurationError
from dbt_enrich.sql import identifier
from dbt_enrich.warehouse.catalogs import Catalog, stored

if TYPE_CHECKING:
    import pyarrow as pa

_DUCKDB: Final[Mapping[str, str]] = {
    "string": "VARCHAR",
    "char": "VARCHAR",
    "varchar": "VARCHAR",
    "void": "VARCHAR",
    "tinyint": "TINYINT",
    "smallint": "SMALLINT",
    "int": "INTEGER",
    "bigint": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "timestamp_ntz": "TIMESTAMP",
    "binary": "BLOB",
}
"""DuckDB's types of Spark's, which have no parts, by what Spark calls them."""


def duckdb_type(kind: Any) -> str | None:
    """Return DuckDB's type of a Spark type, as it spells it, or None for one that only Spark has.

    Args:
        kind: A `pyspark.sql.types.DataType`.
    """
    found = _in_duckdb(kind)
    return None if found is None else str(DuckDBPyType(found))


def _in_duckdb(kind: Any) -> str | None:
    match kind.typeName():
        case "array":
            item = _in_duckdb(kind.elementType)
            return None if item is None else f"{item}[]"
        case "map":
            key, value = _in_duckdb(kind.keyType), _in_duckdb(kind.valueType)
            return None if key is None or value is None else f"MAP({key}, {value})"
        case "struct":
            fields = [(field.name, _in_duckdb(field.dataType)) for field in kind.fields]
            if any(part is None for _, part in fields):
                return None
            return f"STRUCT({', '.join(f'{identifier(name)} {part}' for name, part in fields)})"
        case "decimal":
            return f"DECIMAL({kind.precision},{kind.scale})"
    # A text with a collation or a length is a text.
    return _DUCKDB.get(kind.simpleString().partition("(")[0].partition(" collate")[0])


def held_type(kind: str) -> str | None:
    """Return the DuckDB type that Spark holds values of a type as, or None if it holds none.

    Args:
        kind: The type, as DuckDB describes it.
    """
    found = stored(Catalog.SPARK, kind)
    return None if found is None else found.type


def spark_type(kind: str) -> Any:
    """Return the `pyspark.sql.types.DataType` of a DuckDB type that Spark holds.

    Args:
        kind: The type, as `held_type` returns it.
    """
    return _spark(DuckDBPyType(kind))


def _spark(kind: DuckDBPyType) -> Any:
    from pyspark.sql import types

    match kind.id:
        case "list":
            return types.ArrayType(_spark(_parts(kind)["child"]))
        case "map":
            key, value = (_spark(part) for part in _parts(kind).values())
            return types.MapType(key, value)
        case "struct":
            parts = _parts(kind).items()
            return types.StructType([types.StructField(n, _spark(part)) for n, part in parts])
        case "decimal":
            numbers = dict(kind.children)
            return types.DecimalType(int(str(numbers["precision"])), int(str(numbers["scale"])))
    made: Mapping[str, Callable[[], Any]] = {
        "boolean": types.BooleanType,
        "tinyint": types.ByteType,
        "smallint": types.ShortType,
        "integer": types.IntegerType,
        "bigint": types.LongType,
        "float": types.FloatType,
        "double": types.DoubleType,
        "date": types.DateType,
        "timestamp": types.TimestampNTZType,
        "timestamp with time zone": types.TimestampType,
        "varchar": types.StringType,
        "blob": types.BinaryType,
    }
    return made[kind.id]()


def spark_schema(columns: Mapping[str, str]) -> Any:
    """Return the `pyspark.sql.types.StructType` of columns that Spark holds.

    Args:
        columns: Their types as `held_type` returns them, by name.
    """
    from pyspark.sql import types

    return types.StructType([types.StructField(n, spark_type(k)) for n, k in columns.items()])


def arrow_schema(columns: Mapping[str, str]) -> pa.Schema:
    """Return the Arrow schema of columns that Spark holds; a `timestamp` of Spark's is in UTC.

    Args:
        columns: Their types as `held_type` returns them, by name.
    """
    import pyarrow as pa

    return pa.schema([(name, _arrow(DuckDBPyType(kind))) for name, kind in columns.items()])


def _arrow(kind: DuckDBPyType) -> pa.DataType:
    import pyarrow as pa

    match kind.id:
        case "list":
            return pa.list_(_arrow(_parts(kind)["child"]))
        case "map":
            key, value = (_arrow(part) for part in _parts(kind).values())
            return pa.map_(key, value)
        case "struct":
            return pa.struct([(name, _arrow(part)) for name, part in _parts(kind).items()])
        case "decimal":
            numbers = dict(kind.children)
            return pa.decimal128(int(str(numbers["precision"])), int(str(numbers["scale"])))
    return {
        "boolean": pa.bool_(),
        "tinyint": pa.int8(),
        "smallint": pa.int16(),
        "integer": pa.int32(),
        "bigint": pa.int64(),
        "float": pa.float32(),
        "double": pa.float64(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us"),
        "timestamp with time zone": pa.timestamp("us", tz="UTC"),
        "varchar": pa.string(),
        "blob": pa.binary(),
    }[kind.id]


def refuse_types(model: str, schema: Any, names: Iterable[str]) -> None:
    """Refuse a column that the task names of a type that only Spark has, before a row is staged.

    Args:
        model: What is enriched, for the message.
        schema: The rows' `pyspark.sql.types.StructType`.
        names: The columns that the task names; those that are not there are refused elsewhere.

    Raises:
        ConfigurationError: DuckDB, which renders the rows, has no such type.
    """
    kinds = {field.name.lower(): field.dataType for field in schema.fields}
    for name in names:
        kind = kinds.get(name.lower())
        if kind is not None and duckdb_type(kind) is None:
            raise ConfigurationError(
                f"{model}: the task names the column '{name}', whose type "
                f"{kind.simpleString()} has no fixed rendering as text",
                fix=f"cast it to string in the DataFrame: cast({name} as string)",
            )


def _parts(kind: DuckDBPyType) -> dict[str, DuckDBPyType]:
    """Return the types that a type is made of, by name."""
    return {name: part for name, part in kind.children if isinstance(part, DuckDBPyType)}
