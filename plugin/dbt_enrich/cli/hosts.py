"""The hosts that there are: what is known of each without its packages, and what opens it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dbt_enrich.cli.project import Location, Project, load_databases, load_target
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.extras import POSTGRES, SPARK, Extra
from dbt_enrich.warehouse.host import Host, RemoteHost


@dataclass(frozen=True)
class KnownHost:
    """A host, before it is opened.

    Attributes:
        label: What its makers call it.
        adapters: The types of dbt's targets that lead there.
        open: What opens the database of a target; None for DuckDB, which needs no server.
        extra: The extra of this package that it needs, if any.
    """

    label: str
    adapters: tuple[str, ...]
    open: Callable[[Project, Location], RemoteHost] | None = None
    extra: Extra | None = None


def _postgres(_: Project, location: Location) -> RemoteHost:
    from dbt_enrich.warehouse.postgres_host import PostgresHost

    return PostgresHost(load_target(location))


def _spark(project: Project, location: Location) -> RemoteHost:
    from dbt_enrich.warehouse.spark_host import SparkHost
    from dbt_enrich.warehouse.spark_session import has_jvm, spark_session

    session = spark_session(project.target, load_target(location))
    # One of Spark Connect may be others' too.
    return SparkHost(session, is_own=has_jvm(session))


HOSTS: Final = (
    KnownHost("DuckDB", ("duckdb",)),
    KnownHost("Postgres", ("postgres",), _postgres, POSTGRES),
    KnownHost("Spark", ("spark", "sail"), _spark, SPARK),
)
ADAPTERS: Final = tuple(adapter for host in HOSTS for adapter in host.adapters)
"""The types of targets that dbt-enrich works on."""
_OTHER_WAYS: Final = {
    "databricks": "use `enrich` of dbt_enrich.spark in a notebook or a job there, with its session "
    "`spark`, or name another target by --target",
}


def known_host(adapter: str) -> KnownHost | None:
    """Return the host that a target's type leads to, or None for one that there is not."""
    return next((host for host in HOSTS if adapter in host.adapters), None)


def refused_adapter(adapter: str, target: str) -> ConfigurationError:
    """Return the error for a target that dbt-enrich does not work on; it says what does work.

    Args:
        adapter: The type of the target.
        target: Its name.
    """
    return ConfigurationError(
        f"the target '{target}' is of the type {adapter}; dbt-enrich works on targets of the "
        f"types {', '.join(ADAPTERS)}",
        fix=_OTHER_WAYS.get(adapter, "name another target by --target"),
    )


def open_host(project: Project, location: Location) -> Host:
    """Open the database in which dbt stages and publishes.

    Args:
        project: The project.
        location: Where dbt finds it.

    Raises:
        ConfigurationError: dbt-enrich does not work there, or the profile cannot be read.
    """
    if project.adapter == "duckdb":
        from dbt_enrich.warehouse.duckdb_host import DuckdbHost

        return DuckdbHost(load_databases(location))
    return open_remote_host(project, location)


def open_remote_host(project: Project, location: Location) -> RemoteHost:
    """Open a database that is no DuckDB, in which dbt stages and publishes.

    Args:
        project: The project.
        location: Where dbt finds it.

    Raises:
        ConfigurationError: dbt-enrich does not work there, or the profile cannot be read.
    """
    host = known_host(project.adapter)
    if host is None or host.open is None:
        raise refused_adapter(project.adapter, project.target)
    return host.open(project, location)
