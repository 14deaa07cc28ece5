"""The Spark session that a target of a dbt profile names.

A session with a JVM has its metastore in it where the profile names no other: Derby, which lets one
process in at a time. dbt and the command take turns there, each with a JVM of its own, which must
have ended before the other one's begins.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from dbt_enrich.errors import ConfigurationError, EnrichmentError
from dbt_enrich.extras import SPARK, require

# dbt's default port of any Spark, which dbt-sail takes for its own.
_UNSET_PORT: Final = 443
_SAIL_PORT: Final = 50_051
_REMOTE: Final = "SPARK_REMOTE"
# Derby's code for a database that another process has open. A JVM whose program has ended needs a
# moment; who still has it after so long is somebody else.
_IN_USE: Final = "XSDB6"
_TURN_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.5
_JVM_SECONDS: Final = 60.0


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
    if "spark.remote" not in settings and not os.environ.get(_REMOTE):
        # As dbt-spark has it: without Hive's catalog, its tables would be others.
        builder = builder.enableHiveSupport()
    for name, value in settings.items():
        builder = builder.config(name, value)
    try:
        session = builder.getOrCreate()
        # The first calls that reach Spark, and its metastore.
        _ = session.version
        _after_others(lambda: session.catalog.currentDatabase())
    except Exception as error:
        raise _unreachable(target, error) from error
    return session


def _after_others(reached: Callable[[], Any]) -> None:
    """Reach the metastore, after whoever has it yet; see the top of this file."""
    ends = time.monotonic() + _TURN_SECONDS
    while True:
        try:
            reached()
        except Exception as error:
            if _IN_USE not in str(error) or time.monotonic() > ends:
                raise
            time.sleep(_LOOK_SECONDS)
        else:
            return


def _unreachable(target: str, error: Exception) -> EnrichmentError:
    if _IN_USE in str(error):
        return EnrichmentError(
            f"the target '{target}': another program has the metastore that Spark embeds (Derby), "
            "which lets one in at a time",
            fix="end it, such as a notebook or spark-sql in the same directory, or let the profile "
            "name a Spark Connect server or a metastore of its own",
        )
    return EnrichmentError(
        f"the target '{target}': Spark cannot be reached ({error})",
        fix="start it, or correct the target in profiles.yml",
    )


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


def end(session: Any) -> None:
    """End a session, and its JVM where it has one: what that holds, such as Derby, is free then."""
    session.stop()
    if not has_jvm(session):
        return
    from pyspark import SparkContext

    # Which PySpark keeps for the next session of the process.
    gateway: Any = getattr(SparkContext, "_gateway", None)
    process = getattr(gateway, "proc", None)
    if process is None:
        return
    with suppress(Exception):
        gateway.shutdown()
    # The JVM reads it, and ends with it.
    process.stdin.close()
    process.wait(_JVM_SECONDS)
    # PySpark starts another where these are not there.
    for name in ("_gateway", "_jvm"):
        setattr(SparkContext, name, None)
