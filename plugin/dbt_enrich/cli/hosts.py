"""Which host a profile's target leads to: a line for each that there is."""

from __future__ import annotations

from dbt_enrich.cli.host_facts import refused_adapter
from dbt_enrich.cli.project import Location, Project, load_databases, load_target
from dbt_enrich.warehouse.host import Host, RemoteHost


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
    match project.adapter:
        case "postgres":
            from dbt_enrich.warehouse.postgres_host import PostgresHost

            return PostgresHost(load_target(location))
        case "spark" | "sail":
            from dbt_enrich.warehouse.spark_host import SparkHost
            from dbt_enrich.warehouse.spark_session import has_jvm, spark_session

            session = spark_session(project.target, load_target(location))
            # One of Spark Connect may be others' too.
            return SparkHost(session, is_own=has_jvm(session))
    raise refused_adapter(project.adapter, project.target)
