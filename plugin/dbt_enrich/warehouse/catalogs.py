"""What the databases that we write to can hold: those of dbt-duckdb by DuckDB's name, and hosts.

Found by writing a column of every type to each and reading it back, with DuckDB 1.5.5, the
extensions of that version and Postgres 15; MotherDuck is as its documentation says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from duckdb import Error
from duckdb.sqltypes import DuckDBPyType

from dbt_enrich.errors import ConfigurationError
from dbt_enrich.sql import identifier, literal


class Catalog(StrEnum):
    """The type of a database, as `duckdb_databases()` says it, or a host."""

    DUCKDB = "duckdb"
    MOTHERDUCK = "motherduck"
    DUCKLAKE = "ducklake"
    DUCKLAKE_ON_POSTGRES = "ducklake on postgres"
    POSTGRES = "postgres"
    POSTGRES_SERVER = "postgres server"
    SQLITE = "sqlite"
    SPARK = "spark"

    @property
    def label(self) -> str:
        """What its makers call it."""
        return _LABELS[self]

    @property
    def has_indexes(self) -> bool:
        """Whether a table can have an index that dbt-duckdb makes and finds again.

        DuckDB lists the indexes of no database at all while one in SQLite is attached.
        """
        return self not in (*_LAKES, Catalog.SQLITE, Catalog.SPARK)

    @property
    def has_comments(self) -> bool:
        """Whether DuckDB can write a comment on a table or column."""
        return self not in (Catalog.POSTGRES, Catalog.SQLITE)

    @property
    def has_schemas(self) -> bool:
        """Whether DuckDB can make a schema."""
        return self != Catalog.SQLITE

    @property
    def has_own_indexes(self) -> bool:
        """Whether an index must be dropped before its table can be renamed."""
        return self in (Catalog.DUCKDB, Catalog.MOTHERDUCK)

    @property
    def has_one_writer(self) -> bool:
        """Whether transactions that write at once are in each other's way."""
        return self in (*_LAKES, Catalog.SQLITE)

    @property
    def merges(self) -> bool:
        """Whether DuckDB can `merge into` a table; in Postgres not where a column is JSON."""
        return self not in (*_POSTGRES, Catalog.SQLITE)

    @property
    def trouble_of_threads(self) -> str:
        """What several threads that work in it at once can meet (DuckDB 1.5.5); mostly nothing."""
        if self in _LAKES:
            return "can end the process where several threads write to it at once"
        if self == Catalog.SQLITE:
            return "refuses to be read or written by one thread while another one commits"
        return ""

    @property
    def name_bytes(self) -> int | None:
        """How long a name can be, or None where nothing cuts it off."""
        return 63 if self in _POSTGRES else None

    @property
    def holds_nul(self) -> bool:
        """Whether a text can hold the character NUL; a lake notes texts in its catalog too."""
        return self not in (*_POSTGRES, Catalog.DUCKLAKE_ON_POSTGRES)


# As DuckDB attaches it, and as a host.
_POSTGRES = (Catalog.POSTGRES, Catalog.POSTGRES_SERVER)
_LAKES = (Catalog.DUCKLAKE, Catalog.DUCKLAKE_ON_POSTGRES)
_LABELS = {
    Catalog.DUCKDB: "DuckDB",
    Catalog.MOTHERDUCK: "MotherDuck",
    Catalog.DUCKLAKE: "DuckLake",
    Catalog.DUCKLAKE_ON_POSTGRES: "DuckLake with its catalog in Postgres",
    Catalog.POSTGRES: "Postgres",
    Catalog.POSTGRES_SERVER: "Postgres (dbt-postgres)",
    Catalog.SQLITE: "SQLite",
    Catalog.SPARK: "Spark",
}


def catalog_of(kind: str, database: str, path: str | None = None) -> Catalog:
    """Return the catalog that a database is.

    Args:
        kind: Its type, as `duckdb_databases()` says it.
        database: Its name, for the message.
        path: Where it is, likewise, or None where that has no place.

    Raises:
        ConfigurationError: Nothing is published there.
    """
    if kind == "quack":
        raise refused_server(f"the database '{database}' is a DuckDB server reached through Quack")
    hosts = (Catalog.POSTGRES_SERVER, Catalog.SPARK)
    if kind not in tuple(Catalog) or kind in hosts:
        known = ", ".join(c.label for c in Catalog if c not in hosts)
        raise ConfigurationError(
            f"the database '{database}' is of the type {kind}, to which enriched tables are not "
            f"published (only to {known})",
            fix="let the enrichment go to a DuckDB file (config database), and copy its table with "
            "a model of your own",
        )
    if kind == Catalog.DUCKLAKE and (path or "").startswith("postgres"):
        return Catalog.DUCKLAKE_ON_POSTGRES
    return Catalog(kind)


def refused_server(what: str) -> ConfigurationError:
    """Return the error for a server that no enriched table is published to."""
    return ConfigurationError(
        f"{what}, which keeps what a transaction has written when it is rolled back, so a failed "
        "run would leave half a table; nothing is published there",
        fix="let the enrichment go to a database that DuckDB opens itself (path or attach in the "
        "profile, config database of the model)",
    )


@dataclass(frozen=True)
class Stored:
    """How a catalog holds the values of a type.

    Attributes:
        type: The type of the column there, as DuckDB describes it.
        is_json: Whether its values are written as JSON.
    """

    type: str
    is_json: bool = False

    def written(self, value: str, kind: str, *, holds_nul: bool = True) -> str:
        """Build the expression of what is stored of a value.

        Args:
            value: SQL of the value.
            kind: Its type.
            holds_nul: Whether texts are stored with NUL; it becomes U+FFFD where not.
        """
        if self.is_json:
            value = f"to_json({value})"
        elif not _is_same(self.type, kind):
            value = f"cast({value} as {self.type})"
        if not holds_nul and not self.is_json:
            value = _without_nul(value, self.type)
        return value if not self.is_json else f"cast({value} as {self.type})"

    def read(self, column: str, kind: str) -> str:
        """Build the expression of a value that is stored; NULL where the type has no such value.

        Args:
            column: SQL of the column.
            kind: The type that the value had.
        """
        value = f"try_cast({column} as json)" if self.is_json else column
        return f"try_cast({value} as {kind})"


# NUL as JSON writes it, behind no backslash of its own. Of two in a row it finds the first.
_NUL_IN_JSON = r"((?:^|[^\\])(?:\\\\)*)\\u0000"


def _without_nul(value: str, kind: str) -> str:
    """Build the expression of a value whose texts hold U+FFFD in place of NUL."""
    if _is_same(kind, "VARCHAR"):
        return f"replace({value}, chr(0), chr(65533))"
    if not holds_text(kind):
        return value
    document = nul_replaced_in_json(f"cast(to_json({value}) as varchar)")
    return (
        f"if(contains(cast({value} as varchar), chr(0)), "
        f"cast(cast({document} as json) as {kind}), {value})"
    )


def nul_replaced_in_json(document: str) -> str:
    """Build the expression of a JSON document whose texts hold U+FFFD in place of NUL.

    Args:
        document: SQL of the document, a text.
    """
    for _ in range(2):
        document = f"regexp_replace({document}, {literal(_NUL_IN_JSON)}, '\\1\ufffd', 'g')"
    return document


def holds_text(kind: str) -> bool:
    """Whether a value of a type can hold the character NUL."""
    return "VARCHAR" in str(_parsed(kind))


def _is_same(one: str, other: str) -> bool:
    return one == other or (_parsed(one) is not None and str(_parsed(one)) == str(_parsed(other)))


@lru_cache(maxsize=1024)
def _parsed(kind: str) -> DuckDBPyType | None:
    """Parse a type, or return None for one that only its own database knows."""
    try:
        return DuckDBPyType(kind)
    except (Error, ValueError):
        return None


def same_types(one: str, other: str) -> bool:
    """Whether two spellings are one type."""
    return _is_same(one, other)


def is_stored(there: str, held: Stored) -> bool:
    """Whether a column that is there has the type that a catalog stores values as.

    Args:
        there: Its type, as DuckDB describes it; it calls Postgres's JSON a text.
        held: How the values are stored.
    """
    is_json = held.is_json or _is_same(held.type, "JSON")
    return _is_same(there, held.type) or (is_json and _is_same(there, "VARCHAR"))


def loses_quotes(kind: str) -> bool:
    """Whether DuckLake 1.5.5 loses quotes of a type's texts that it keeps in Postgres itself."""
    parsed = _parsed(kind)
    return parsed is not None and parsed.id == "struct" and holds_text(kind)


@lru_cache(maxsize=1024)
def stored(catalog: Catalog, kind: str) -> Stored | None:
    """Return how a catalog holds a type without losing anything, or None if it cannot.

    Args:
        catalog: The catalog.
        kind: The type, as DuckDB describes it.
    """
    if catalog in (Catalog.DUCKDB, Catalog.MOTHERDUCK):
        return Stored(kind)
    parsed = _parsed(kind)
    if parsed is None:
        return None
    if catalog in _LAKES:
        # Parquet would round it; `place` looks for numbers of 39 digits.
        found = "DECIMAL(38,0)" if parsed.id == "hugeint" else _in_lake(parsed)
        return None if found is None else Stored(found)
    if catalog == Catalog.SPARK:
        found = _mapped(parsed, _scalar_in_spark)
        return None if found is None else Stored(str(DuckDBPyType(found)))
    return _in_postgres(parsed) if catalog in _POSTGRES else _in_sqlite(parsed)


def changed_columns(catalog: Catalog, columns: Mapping[str, str]) -> dict[str, str]:
    """Say of the columns that are stored as another type what they are stored as.

    A number or time that only gets a wider type is none of them.

    Args:
        catalog: The catalog.
        columns: Their types, by name; each can be held.
    """
    changed = {}
    for name, kind in columns.items():
        found = stored(catalog, kind)
        if found is None or _is_same(found.type, kind):
            continue
        if found.is_json:
            changed[name] = "JSONB" if catalog == Catalog.POSTGRES_SERVER else "JSON"
        elif "VARCHAR" in found.type or kind.upper() == "BOOLEAN":
            changed[name] = found.type.lower()
    return changed


_NOT_IN_LAKE = frozenset({"bit", "bignum", "union", "hugeint", "uhugeint"})
# Those that a Parquet file of DuckDB's would not give back exactly, or not at all.
_NOT_IN_PARQUET = frozenset(
    {"bit", "bignum", "hugeint", "uhugeint", "interval", "time with time zone", "time_ns"}
)


def in_parquet(kind: str) -> str | None:
    """Return the type that values are written to Parquet as, from which a cast brings them back.

    Args:
        kind: Their type.

    Returns:
        The type, or None where there is none.
    """
    parsed = _parsed(kind)
    return None if parsed is None else _mapped(parsed, _scalar_in_parquet)


def _in_lake(kind: DuckDBPyType) -> str | None:
    return _mapped(kind, _scalar_in_lake)


def _scalar_in_lake(kind: DuckDBPyType) -> str | None:
    if kind.id == "enum":
        return "VARCHAR"
    return None if kind.id in _NOT_IN_LAKE else str(kind)


def _scalar_in_parquet(kind: DuckDBPyType) -> str | None:
    if kind.id == "enum" or kind.id in _NOT_IN_PARQUET:
        return "VARCHAR"
    return None if kind.id in ("union", "variant", "geometry") else str(kind)


def _mapped(kind: DuckDBPyType, scalar: Callable[[DuckDBPyType], str | None]) -> str | None:
    """Return a type with others in place of the scalar ones that it is made of, or None."""
    match kind.id:
        case "list" | "array":
            item = _mapped(_child(kind), scalar)
            return None if item is None else f"{item}[]"
        case "map":
            key, value = (_mapped(part, scalar) for part in _parts(kind).values())
            return None if key is None or value is None else f"MAP({key}, {value})"
        case "struct":
            fields = [(name, _mapped(part, scalar)) for name, part in _parts(kind).items()]
            if any(part is None for _, part in fields):
                return None
            return f"STRUCT({', '.join(f'{identifier(name)} {part}' for name, part in fields)})"
    return scalar(kind)


_IN_SPARK = {
    **{
        name: name
        for name in (
            "boolean", "tinyint", "smallint", "integer", "bigint", "float", "double", "varchar",
            "blob", "date", "timestamp", "timestamp with time zone",
        )
    },
    "utinyint": "smallint",
    "usmallint": "integer",
    "uinteger": "bigint",
    "ubigint": "decimal(20,0)",
    "timestamp_s": "timestamp",
    "timestamp_ms": "timestamp",
    **dict.fromkeys(
        ("enum", "uuid", "hugeint", "uhugeint", "bignum", "bit", "time", "time_ns",
         "time with time zone", "timestamp_ns", "interval"),
        "varchar",
    ),
}  # fmt: skip


def _scalar_in_spark(kind: DuckDBPyType) -> str | None:
    name = str(kind) if kind.id == "decimal" else _IN_SPARK.get(kind.id)
    return None if name is None else name.upper()


_IN_POSTGRES = {
    **{
        name: name
        for name in (
            "boolean", "smallint", "integer", "bigint", "float", "double", "date", "time",
            "time with time zone", "timestamp", "timestamp with time zone", "interval", "uuid",
            "blob",
        )
    },
    "tinyint": "smallint",
    "utinyint": "smallint",
    "usmallint": "integer",
    "uinteger": "bigint",
    "ubigint": "decimal(20,0)",
    # Which holds all of them but those of 39 digits; `Placement` looks for those.
    "hugeint": "decimal(38,0)",
    "timestamp_s": "timestamp",
    "timestamp_ms": "timestamp",
    **dict.fromkeys(
        ("enum", "bit", "uhugeint", "bignum", "timestamp_ns", "time_ns"), "varchar"
    ),
}  # fmt: skip


def _in_postgres(kind: DuckDBPyType) -> Stored | None:
    if kind.id in ("list", "array"):
        # Postgres wants the lists in a list to be of one length.
        item = _in_postgres(_child(kind)) if _child(kind).id not in ("list", "array") else None
        if item is not None and not item.is_json and item.type != "JSON":
            return Stored(f"{item.type}[]")
    if kind.id in _NESTED:
        return Stored("JSON", is_json=True) if _fits_json(kind) else None
    if kind.id in ("varchar", "decimal"):
        return Stored(str(kind))
    name = _IN_POSTGRES.get(kind.id)
    return None if name is None else Stored(name.upper())


_IN_SQLITE = {
    **dict.fromkeys(
        ("boolean", "tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint",
         "uinteger"),
        "bigint",
    ),
    "float": "double",
    "double": "double",
    "blob": "blob",
}  # fmt: skip
_NESTED = frozenset({"list", "array", "struct", "map"})


def _in_sqlite(kind: DuckDBPyType) -> Stored | None:
    if kind.id in _NESTED:
        return Stored("VARCHAR", is_json=True) if _fits_json(kind) else None
    if kind.id in ("union", "variant", "geometry"):
        return None
    return Stored(_IN_SQLITE.get(kind.id, "varchar").upper())


def _fits_json(kind: DuckDBPyType) -> bool:
    """Whether values of a type can be written as JSON and read again."""
    match kind.id:
        case "list" | "array":
            return _fits_json(_child(kind))
        case "struct":
            return all(_fits_json(part) for part in _parts(kind).values())
        case "map":
            key, value = _parts(kind).values()
            return key.id == "varchar" and _fits_json(value)
    return kind.id not in ("blob", "bit", "bignum", "interval", "union", "variant", "geometry")


def _child(kind: DuckDBPyType) -> DuckDBPyType:
    return _parts(kind)["child"]


def _parts(kind: DuckDBPyType) -> dict[str, DuckDBPyType]:
    """Return the types that a type is made of, by name."""
    return {name: part for name, part in kind.children if isinstance(part, DuckDBPyType)}
