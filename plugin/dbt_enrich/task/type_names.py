"""The names of DuckDB's types: which are supported, their aliases, and what to use instead."""

from __future__ import annotations

# Smallest and largest value of each integer type.
INTEGER_RANGES = {
    **{
        name: (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        for name, bits in (
            ("tinyint", 8),
            ("smallint", 16),
            ("integer", 32),
            ("bigint", 64),
            ("hugeint", 128),
        )
    },
    **{
        name: (0, 2**bits - 1)
        for name, bits in (
            ("utinyint", 8),
            ("usmallint", 16),
            ("uinteger", 32),
            ("ubigint", 64),
            ("uhugeint", 128),
        )
    },
}
NUMBER_NAMES = frozenset({*INTEGER_RANGES, "float", "double", "decimal"})

# DuckDB's names and aliases: https://duckdb.org/docs/stable/sql/data_types/overview
ALIASES = {
    "varchar": ["bpchar", "char", "character", "character varying", "nvarchar", "string", "text"],
    "boolean": ["bool", "logical"],
    "tinyint": ["int1"],
    "smallint": ["int2", "int16", "short"],
    "integer": ["int", "int4", "int32", "integral", "signed"],
    "bigint": ["int8", "int64", "long", "oid"],
    "hugeint": ["int128"],
    "utinyint": ["uint8"],
    "usmallint": ["uint16"],
    "uinteger": ["uint32"],
    "ubigint": ["uint64"],
    "uhugeint": ["uint128"],
    "float": ["float4", "real"],
    "double": ["float8", "double precision"],
    "decimal": ["dec", "numeric"],
    "date": [],
    "time": ["time without time zone"],
    "timestamp": ["datetime", "timestamp without time zone", "timestamp_us"],
    "timestamp with time zone": ["timestamptz"],
}
SCALARS = {alias: name for name, aliases in ALIASES.items() for alias in (name, *aliases)}
UNSUPPORTED = {
    "array": "write a list as T[]",
    "bignum": "use hugeint or varchar",
    "bit": "use varchar",
    "bitstring": "use varchar",
    "blob": "use varchar",
    "bytea": "use varchar",
    "binary": "use varchar",
    "varbinary": "use varchar",
    "interval": "use a number of seconds, minutes or days, or varchar",
    "json": "write the fields as struct(a T, b U), or use varchar",
    "list": "write a list as T[]",
    "map": "use struct(key varchar, value T)[]",
    "null": "use varchar",
    "time with time zone": "use time or timestamptz",
    "timestamp_ms": "use timestamp",
    "timestamp_ns": "use timestamp",
    "timestamp_s": "use timestamp",
    "timetz": "use time or timestamptz",
    "union": "use a struct with one field for each member",
    "uuid": "use varchar",
    "guid": "use varchar",
    "variant": "write the fields as struct(a T, b U), or use varchar",
    "geometry": "use varchar",
}
# Words that go on after the first one of a type's name.
FOLLOWERS = {
    "character": ("varying",),
    "double": ("precision",),
    "time": ("with", "without", "time", "zone"),
    "timestamp": ("with", "without", "time", "zone"),
}
