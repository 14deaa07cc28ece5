"""Postgres as a host: dbt-postgres stages and publishes, the command reads and writes by ADBC.

Rows come as COPY sends them, in binary, and results go the same way. What each type is held as was
found by writing values of every type to PostgreSQL 15 and reading them back, with
`adbc-driver-postgresql` 1.13.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dbt_enrich.errors import ConfigurationError, EnrichmentError
from dbt_enrich.extras import POSTGRES, require
from dbt_enrich.sql import identifier, literal
from dbt_enrich.warehouse.adbc_host import AdbcHost, HostColumn
from dbt_enrich.warehouse.catalogs import Catalog, nul_replaced_in_json
from dbt_enrich.warehouse.host import HostTable

# Those that come in binary, by their name in Postgres.
_NATIVE: Final = {
    "boolean": "BOOLEAN",
    "smallint": "SMALLINT",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "real": "FLOAT",
    "double precision": "DOUBLE",
    "time without time zone": "TIME",
    "interval": "INTERVAL",
    "bytea": "BLOB",
    "text": "VARCHAR",
}
# Those that come as text, and that DuckDB has; all others are texts in it too. Of a date or a
# timestamp that is infinite the driver makes one of 290,000 years ago.
_FROM_TEXT: Final = {
    **{kind: name for kind, name in _NATIVE.items() if kind != "bytea"},
    "date": "DATE",
    "json": "JSON",
    "jsonb": "JSON",
    "oid": "BIGINT",
    "time with time zone": "TIME WITH TIME ZONE",
    "timestamp without time zone": "TIMESTAMP",
    "timestamp with time zone": "TIMESTAMP WITH TIME ZONE",
    "uuid": "UUID",
}
_NUMERIC = re.compile(r"numeric\((\d+),(\d+)\)")
_PRECISION = re.compile(r"\(\d+\)")
_MODIFIER = re.compile(r"\([\d,]+\)")
_TEXT = re.compile(r"text|character varying(\(\d+\))?")
# Types whose values an index holds as they are. A text may be too long for one (2,704 bytes).
_SHORT: Final = frozenset(
    {
        "bigint", "boolean", "date", "double precision", "integer", "interval", "numeric", "oid",
        "real", "smallint", "time without time zone", "timestamp with time zone",
        "timestamp without time zone", "uuid",
    }
)  # fmt: skip
_MOST_DIGITS: Final = 38
# What a type that the catalog holds is called in Postgres, where that is not its own name.
_NAMES: Final = {
    "BLOB": "bytea",
    "DOUBLE": "double precision",
    "FLOAT": "real",
    "JSON": "jsonb",
    "TIME": "time without time zone",
    "TIMESTAMP": "timestamp without time zone",
    "VARCHAR": "text",
}
# Texts of values are the same whatever the server, the database or the user has set.
_SETTINGS: Final = {
    "bytea_output": "hex",
    "datestyle": "ISO",
    "extra_float_digits": "1",
    "intervalstyle": "postgres",
    "timezone": "UTC",
}
# libpq's names of what a target of dbt-postgres says.
_KEYS: Final = {
    "host": "host",
    "port": "port",
    "user": "user",
    "password": "password",
    "pass": "password",
    "dbname": "dbname",
    "database": "dbname",
    "sslmode": "sslmode",
    "sslcert": "sslcert",
    "sslkey": "sslkey",
    "sslrootcert": "sslrootcert",
    "connect_timeout": "connect_timeout",
    "keepalives_idle": "keepalives_idle",
}
# Seconds and milliseconds by which a network that is gone is found out.
_LIMITS: Final = {
    "application_name": "dbt-enrich",
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
# https://www.postgresql.org/docs/current/errcodes-appendix.html; a connection that is never made
# has no such code, and is known by the words of libpq or of the server.
_FIXES: Final = {
    r"password authentication failed|no password supplied|^28": (
        "check `user` and `pass` of the target in profiles.yml, and what they take from the "
        "environment"
    ),
    r'database ".*" does not exist|^3D': (
        "check `dbname` of the target in profiles.yml, or create the database"
    ),
    r'role ".*" does not exist': "check `user` and `role` of the target in profiles.yml",
    r"no pg_hba\.conf entry|SSL|certificate": (
        "check `sslmode` of the target in profiles.yml, and what the server lets in"
    ),
    r"^08|^57P|connection to server|could not translate host name|closed the connection|"
    r"no connection to the server": (
        "check that the server runs, and `host` and `port` of the target in profiles.yml, then run "
        "again: no answer is lost"
    ),
    r"permission denied|^42501": (
        "give the user or the `role` of the target the right to read and write in the schema, and "
        "to make tables in it"
    ),
    r"statement timeout|lock timeout|^57014|^55P03": (
        "give the user of the target a longer statement_timeout and lock_timeout (alter role ... "
        "set statement_timeout), then run again: no answer is lost"
    ),
    r"No space left|^53100": "make room on the server's disk, then run again: no answer is lost",
}


class PostgresHost(AdbcHost):
    """A Postgres server, as a target of dbt-postgres names it.

    Args:
        target: The target of the profile, its values as dbt has them.

    Raises:
        ConfigurationError: The extra `postgres` is not installed.
    """

    catalog = Catalog.POSTGRES_SERVER

    def __init__(self, target: Mapping[str, Any]) -> None:
        super().__init__()
        require(POSTGRES, "a target of the type postgres")
        self._conninfo = conninfo(target)
        self._secret = str(target.get("password") or target.get("pass") or "")
        self._role = target.get("role")

    def _connect(self) -> Any:
        from adbc_driver_postgresql import dbapi

        return dbapi.connect(self._conninfo, autocommit=True)

    def _beginning(self, *, reads: bool) -> Sequence[str]:
        # For the transaction alone: behind a pooler the next one may have another session.
        settings = [f"set local {name} = {literal(value)}" for name, value in _SETTINGS.items()]
        role = [f"set local role {identifier(str(self._role))}"] if self._role else []
        level = ["set transaction isolation level repeatable read, read only"] if reads else []
        return [*level, *role, *settings]

    def _turn(self, table: HostTable) -> Sequence[str]:
        # Of two that make a table at once one would fail.
        name = literal(f"dbt_enrich {self.relation(table)}")
        return (f"select pg_advisory_xact_lock(hashtextextended({name}, 0))",)

    def _seen(self, table: str) -> Sequence[str]:
        # Without it the planner takes a few rows for many, and reads the whole other table.
        return (f"analyze {table}",)

    def _lock(self, table: HostTable) -> Sequence[str]:
        # Readers go on; another writer would not find the rows of a key to put its own in place of.
        return (f"lock table {self.relation(table)} in share row exclusive mode",)

    def _digest(self, value: str, kind: str) -> str | None:
        return f"md5({value})" if _TEXT.fullmatch(kind) else None

    def _index(self, cursor: Any, table: HostTable, keys: Mapping[str, str]) -> None:
        columns = {self.quoted(key): kind for key, kind in keys.items()}
        # Of a value of another type an index may not be possible, or not be of the same equality.
        indexed = [
            self._digest(column, kind) or column
            for column, kind in columns.items()
            if _TEXT.fullmatch(kind) or _MODIFIER.sub("", kind) in _SHORT
        ]
        if not indexed:
            return
        cursor.execute(_unindexed_sql(table))
        if cursor.fetchall():
            cursor.execute(f"create index on {self.relation(table)} ({', '.join(indexed)})")
            for statement in self._seen(self.relation(table)):
                cursor.execute(statement)

    def _described(self, cursor: Any, table: HostTable) -> list[HostColumn]:
        cursor.execute(_columns_sql(table))
        return [_column(str(name), str(kind)) for name, kind in cursor.fetchall()]

    def _received(self, column: str, kind: str) -> str:
        if kind.startswith(("DATE", "TIMESTAMP")) and not kind.endswith("[]"):
            column = f"replace({column}, ' BC', ' (BC)')"
        return f"cast({column} as {kind})"

    def _type(self, kind: str) -> str:
        stem, brackets = (kind[:-2], "[]") if kind.endswith("[]") else (kind, "")
        name = _NAMES.get(stem.upper(), stem.lower().replace("decimal", "numeric"))
        return f"{name}{brackets}"

    def _sent(self, column: str, kind: str) -> str:
        match kind.upper():
            case "JSON":
                return nul_replaced_in_json(f"cast({column} as varchar)")
            case "VARCHAR":
                return f"replace(cast({column} as varchar), chr(0), chr(65533))"
            case "VARCHAR[]":
                texts = f"cast({column} as varchar[])"
                return f"list_transform({texts}, lambda text: replace(text, chr(0), chr(65533)))"
            case "UUID" | "TIME WITH TIME ZONE":
                return f"cast({column} as varchar)"
            case "UUID[]":
                return f"cast({column} as varchar[])"
        return f"cast({column} as {kind})"

    def _failure(self, error: Exception, doing: str) -> EnrichmentError:
        state = str(getattr(error, "sqlstate", None) or "")
        text = " ".join(str(error).split())
        said = text.replace(self._secret, "***") if self._secret else text
        for pattern, fix in _FIXES.items():
            if re.search(pattern, f"{state} {said}"):
                return ConfigurationError(f"{doing} ({said})", fix=fix)
        return EnrichmentError(
            f"{doing} ({said})", fix="see the server's log, then run again: no answer is lost"
        )


def conninfo(target: Mapping[str, Any], *, with_role: bool = False) -> str:
    """Return where a target of dbt-postgres is, as libpq takes it; it may hold a password.

    What the target does not say, libpq reads from the environment, a service or a password file.

    Args:
        target: The target of the profile.
        with_role: Whether the session is to begin in the target's role.
    """
    values: dict[str, object] = dict(_LIMITS)
    for key, name in _KEYS.items():
        # dbt-postgres takes 0 for the server's own.
        if target.get(key):
            values[name] = target[key]
    if with_role and target.get("role"):
        values["options"] = f"-c role={_escaped(str(target['role']))}"
    return " ".join(f"{name}={_quoted(str(value))}" for name, value in values.items())


def _escaped(value: str) -> str:
    # As the server splits what a session begins with.
    return re.sub(r"([\\\s])", r"\\\1", value)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _columns_sql(table: HostTable) -> str:
    """Build the query of a table's columns with their types; a domain's is what it is made of."""
    return f"""
        with recursive named as (
            select
                attribute.attnum as place,
                attribute.attname as name,
                attribute.atttypid as kind,
                attribute.atttypmod as modifier
            from pg_catalog.pg_attribute as attribute
            join pg_catalog.pg_class as class on class.oid = attribute.attrelid
            join pg_catalog.pg_namespace as namespace on namespace.oid = class.relnamespace
            where namespace.nspname = {literal(table.schema)}
                and class.relname = {literal(table.identifier)}
                and attribute.attnum > 0
                and not attribute.attisdropped
        ),
        resolved as (
            select * from named
            union all
            select resolved.place, resolved.name, domain.typbasetype, domain.typtypmod
            from resolved
            join pg_catalog.pg_type as domain on domain.oid = resolved.kind
            where domain.typtype = 'd'
        )
        select
            cast(resolved.name as text) as name,
            pg_catalog.format_type(resolved.kind, resolved.modifier) as kind
        from resolved
        join pg_catalog.pg_type as type on type.oid = resolved.kind
        where type.typtype <> 'd'
        order by resolved.place
    """


def _unindexed_sql(table: HostTable) -> str:
    """Build the query that yields a row for a table of ours that has no index."""
    return f"""
        select 1
        from pg_catalog.pg_class as class
        join pg_catalog.pg_namespace as namespace on namespace.oid = class.relnamespace
        where namespace.nspname = {literal(table.schema)}
            and class.relname = {literal(table.identifier)}
            and pg_catalog.pg_has_role(class.relowner, 'usage')
            and not exists (select 1 from pg_catalog.pg_index where indrelid = class.oid)
    """


def _column(name: str, kind: str) -> HostColumn:
    """Return how the values of a column are read.

    Args:
        name: Its name.
        kind: Its type, as `format_type` spells it.
    """
    column, stem = identifier(name), _PRECISION.sub("", kind)
    if stem in _NATIVE:
        return HostColumn(name, _NATIVE[stem], kind, column)
    if not stem.endswith("[]"):
        return HostColumn(name, _from_text(stem), kind, f"cast({column} as text)")
    # The driver takes the lists of a list for one, and refuses one that begins elsewhere.
    value = (
        f"case when array_ndims({column}) > 1 or array_lower({column}, 1) <> 1 "
        f"then array(select json_array_elements_text(to_json({column}))) "
        f"else cast({column} as text[]) end"
    )
    return HostColumn(name, f"{_from_text(stem[:-2])}[]", kind, value)


def _from_text(kind: str) -> str:
    """Return the DuckDB type of values that come as text."""
    number = _NUMERIC.fullmatch(kind)
    if number is None:
        return _FROM_TEXT.get(kind, "VARCHAR")
    digits, scale = int(number[1]), int(number[2])
    return f"DECIMAL({digits},{scale})" if scale <= digits <= _MOST_DIGITS else "VARCHAR"
