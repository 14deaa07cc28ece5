"""The databases of a profile's target, opened as dbt-duckdb opens them, but for reading alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb

from dbt_enrich.errors import ConfigurationError
from dbt_enrich.sql import identifier, literal, text_sql
from dbt_enrich.warehouse.catalogs import Catalog, catalog_of, refused_server

_MOTHERDUCK = ("md", "motherduck")


@dataclass(frozen=True)
class Attached:
    """A database beside the main one.

    Attributes:
        name: What it is called in SQL.
        statement: What attaches it for reading; it may hold a password.
        writing: What attaches it as the profile says; likewise.
        is_quack: Whether it is a DuckDB server reached through Quack.
    """

    name: str
    statement: str = field(repr=False)
    writing: str = field(repr=False)
    is_quack: bool = False


@dataclass(frozen=True)
class Databases:
    """The databases of a target.

    Attributes:
        path: The main one.
        name: What it is called in SQL.
        default: The name of the database to which models go that say nothing else.
        options: What DuckDB is opened with.
        statements: What is run before the others are attached: extensions, secrets and settings.
        attached: The others.
        server: What the target is, if it is a server that no enriched table is published to.
    """

    path: str
    name: str = ""
    default: str = ""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    statements: tuple[str, ...] = field(default=(), repr=False)
    attached: tuple[Attached, ...] = ()
    server: ConfigurationError | None = None

    @property
    def is_file(self) -> bool:
        """Whether the main one is a file, or would be."""
        # One letter is a drive.
        return self.path != ":memory:" and len(urlsplit(self.path).scheme) < 2


def databases_of(credentials: Any) -> Databases:
    """Return the databases of dbt-duckdb's credentials."""
    path = str(credentials.path)
    settings = {str(k): v for k, v in (credentials.settings or {}).items()}
    options = dict(credentials.config_options or {})
    if urlsplit(path).scheme in _MOTHERDUCK:
        # They can be set at the start alone.
        tokens = {k: v for k, v in settings.items() if k.lower().startswith("motherduck")}
        options = {**tokens, **options}
        settings = {k: v for k, v in settings.items() if k not in tokens}
    attached = tuple(_attached(other, credentials) for other in credentials.attach or [])
    return Databases(
        path=path,
        name=credentials.path_derived_database_name(path),
        default=str(credentials.database),
        options=options,
        statements=(
            *(f"load {identifier(name)}" for name in _extensions(credentials)),
            *credentials.secrets_sql(),
            *(f"set {name} = {literal(str(value))}" for name, value in sorted(settings.items())),
        ),
        attached=attached,
        server=server_of(credentials),
    )


def _attached(attachment: Any, credentials: Any) -> Attached:
    others = {k: v for k, v in (attachment.options or {}).items() if k != "read_only"}
    reading = replace(attachment, read_only=True, options=others)
    kind = attachment.type or others.get("type") or urlsplit(str(attachment.path)).scheme
    return Attached(
        name=attachment.alias or credentials.path_derived_database_name(attachment.path),
        statement=reading.to_sql(),
        writing=attachment.to_sql(),
        is_quack=str(kind).lower() == "quack",
    )


def _extensions(credentials: Any) -> Iterator[str]:
    for extension in credentials.extensions or []:
        yield extension if isinstance(extension, str) else str(extension["name"])


def server_of(credentials: Any) -> ConfigurationError | None:
    """Return the error of a target that is a server to which nothing is published, else None."""
    if credentials.remote:
        return ConfigurationError(
            "the target is a Buena Vista server (remote in the profile), where dbt-enrich cannot "
            "run",
            fix="use a target that opens its database itself (path in the profile)",
        )
    others = [_attached(other, credentials) for other in credentials.attach or []]
    quack = {other.name for other in others if other.is_quack}
    if urlsplit(str(credentials.path)).scheme.lower() == "quack" or credentials.database in quack:
        return refused_server("the target's database is a DuckDB server reached through Quack")
    return None


def find_catalog(connection: duckdb.DuckDBPyConnection, database: str) -> Catalog:
    """Return the catalog of a database that is attached.

    Raises:
        ConfigurationError: Nothing is published there.
    """
    found = connection.execute(
        "select type, path from duckdb_databases() "
        f"where lower(database_name) = lower({text_sql(database)})"
    ).fetchone()
    return catalog_of(found[0], database, found[1]) if found else Catalog.DUCKDB


@contextmanager
def opened(
    databases: Databases, settings: Mapping[str, object], *, writes: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a target's databases.

    Args:
        databases: The databases.
        settings: Which of DuckDB's settings to change.
        writes: Whether they are written to, and not read alone.

    Raises:
        ConfigurationError: There is no warehouse, or it cannot be read, as while another process
            holds it.
    """
    path = databases.path
    if databases.server:
        raise databases.server
    if path == ":memory:" and not databases.attached:
        raise ConfigurationError(
            "the target's path is :memory:, so no warehouse is left after dbt run",
            fix="set path to a file in the profile",
        )
    if databases.is_file and not Path(path).exists():
        raise ConfigurationError(
            f"there is no warehouse at {path}",
            fix="run `dbt run` with this target first, or name another by --target",
        )
    try:
        connection = _connected(databases, writes=writes)
    except duckdb.Error as error:
        raise _unreadable(path, error) from None
    try:
        connection.execute("set enable_progress_bar = false")
        for statement in databases.statements:
            connection.execute(statement)
        connection.execute("set timezone = 'UTC'")
        for name, value in settings.items():
            connection.execute(f"set {identifier(name)} = {literal(str(value))}")
        for other in databases.attached:
            _attach(connection, other, writes=writes)
        yield connection
    except (duckdb.IOException, duckdb.HTTPException) as error:
        raise _unreadable(path, error) from None
    finally:
        connection.close()


def _connected(databases: Databases, *, writes: bool) -> duckdb.DuckDBPyConnection:
    is_remote = urlsplit(databases.path).scheme in _MOTHERDUCK
    reads_only = databases.path != ":memory:" and not is_remote and not writes
    return duckdb.connect(databases.path, read_only=reads_only, config=dict(databases.options))


def _attach(connection: duckdb.DuckDBPyConnection, other: Attached, *, writes: bool) -> None:
    try:
        connection.execute(other.writing if writes else other.statement)
    except duckdb.Error as error:
        # DuckDB's own text may repeat a connection string, with its password.
        raise ConfigurationError(
            f"the database '{other.name}', which the target attaches, cannot be opened for reading "
            f"({type(error).__name__})",
            fix="wait for the end of a dbt run that holds it, or see that `dbt debug` gets there",
        ) from None


def _unreadable(path: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"the warehouse {path} cannot be read ({' '.join(str(error).split())})",
        fix="if a dbt run holds it, wait for its end, or use `dbt-enrich run`, which leaves it "
        "free while it waits",
    )
