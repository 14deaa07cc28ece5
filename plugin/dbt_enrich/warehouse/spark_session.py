"""The Spark session that a target of a dbt profile names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dbt_enrich.errors import ConfigurationError, EnrichmentError
from dbt_enrich.extras import SPARK, require

# dbt's default port of any Spark, which dbt-sail takes for its own.
_UNSET_PORT: Final = 443
_SAIL_PORT: Final = 50_051


def spark_session(target: str, credentials: Mapping[str, Any]) -> Any:
    """Return the session in which dbt builds the models of a target.

    Args:
        target: The target's name, for messages.
        credentials: Its keys, as dbt-spark and dbt-sail have them.

    Returns:
        The `pyspark.sql.SparkSession`.

    Raises:
        ConfigurationError: PySpark is missing, or the target's way to Spark is none of a session.
        EnrichmentError: Spark cannot be reached.
    """
    settings = _settings(target, credentials)
    require(SPARK, f"the target '{target}'")
    from pyspark.sql import SparkSession

    builder: Any = SparkSession.builder
    if "spark.remote" not in settings:
        # As dbt-spark has it: without Hive's catalog, its tables would be others.
        builder = builder.enableHiveSupport()
    for name, value in settings.items():
        builder = builder.config(name, value)
    try:
        session = builder.getOrCreate()
        # The first call that reaches Spark.
        _ = session.version
    except Exception as error:
        raise EnrichmentError(
            f"the target '{target}': Spark cannot be reached ({error})",
            fix="start it, or correct the target in profiles.yml",
        ) from error
    return session


def _settings(target: str, credentials: Mapping[str, Any]) -> dict[str, str]:
    given = credentials.get("server_side_parameters") or {}
    settings = {str(name): str(value) for name, value in given.items()}
    if credentials.get("type") == "sail":
        if str(credentials.get("mode") or "embedded") != "remote":
            raise ConfigurationError(
                f"the target '{target}': Sail is embedded in dbt, and its tables are gone with it "
                "before dbt-enrich can read them",
                fix="start a server (sail spark server) and write mode: remote, with host and port",
            )
        port = int(credentials.get("port") or _UNSET_PORT)
        port = _SAIL_PORT if port == _UNSET_PORT else port
        return {**settings, "spark.remote": f"sc://{credentials.get('host')}:{port}"}
    method = str(credentials.get("method"))
    if method != "session":
        raise ConfigurationError(
            f"the target '{target}' reaches Spark by method: {method}, through which no rows can "
            "be streamed",
            fix="write method: session, and for Spark Connect server_side_parameters: "
            "{spark.remote: sc://HOST:15002}",
        )
    return settings


def has_jvm(session: Any) -> bool:
    """Whether a session is a Spark of this machine's own, and no client of Spark Connect."""
    return not type(session).__module__.startswith("pyspark.sql.connect")
