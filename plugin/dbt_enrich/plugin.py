"""The dbt-duckdb plugin: the profile's configuration in, one call into the pipeline.

The materialization calls `store` with a staged relation and a dict; the answer goes back as a row
of a table in the schema `enrichment_work`, as the adapter passes no value through.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.duckdb.utils import SourceConfig, TargetConfig
from dbt.adapters.events.logging import AdapterLogger
from dbt_common.exceptions import DbtRuntimeError

from dbt_enrich import __version__
from dbt_enrich.config import PluginConfig, parse_config
from dbt_enrich.errors import ConfigurationError, EnrichmentError
from dbt_enrich.interrupts import interruptible
from dbt_enrich.pipeline.enrichment import Engine
from dbt_enrich.pipeline.publish import ExistingTable
from dbt_enrich.pipeline.session import EnrichmentRequest, Outcome
from dbt_enrich.pipeline.stage import StagedRelation, parse_unique_key
from dbt_enrich.task import options_from_yaml, task_from_yaml

logger = AdapterLogger("dbt-enrich")


class Plugin(BasePlugin):
    """Enriches staged relations. One object a process, used by several dbt threads."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """Read the configuration; nothing is opened or sent here."""
        settings = (self.creds.settings if self.creds else None) or {}
        with _as_dbt_error():
            self.config: PluginConfig = parse_config(plugin_config, duckdb_settings=settings)
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._engines: dict[str, Engine] = {}
        self._lock = threading.Lock()

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Keep the root connection, of which `store` takes cursors."""
        self._connection = conn

    def load(self, source_config: SourceConfig) -> None:
        """Refuse to be a source: sources are resolved by `dbt compile` too, where none may pay.

        Raises:
            DbtRuntimeError: Always.
        """
        raise DbtRuntimeError(
            f"the source '{source_config.table_name()}' names the plugin '{self.name}', which "
            "enriches models and loads no sources; use materialized: enrichment on a model"
        )

    def store(self, target_config: TargetConfig) -> None:
        """Run one action of the macros.

        `enrich` a staged relation, `finish` it once it is published, or write the `relations` of
        the schema `enrichment`.

        Raises:
            DbtRuntimeError: What went wrong, as one sentence.
        """
        call: Mapping[str, Any] = target_config.config
        with _as_dbt_error():
            _check_version(call)
            engine = self.engine(str(call["project"]))
            if call["action"] == "finish":
                engine.finish(str(call["run_id"]))
                return
            cursor = self._cursor()
            try:
                if call["action"] == "relations":
                    _write_relations(cursor, call, engine)
                    return
                with interruptible(engine.cancelled, logger.warning):
                    outcome = engine.enrich(_request(call, cursor))
                _write_outcome(cursor, str(call["outcome"]), outcome)
            finally:
                cursor.close()

    def engine(self, project: str) -> Engine:
        """Return the engine of a dbt project, which its models share."""
        with self._lock:
            if project not in self._engines:
                self._engines[project] = Engine(
                    self.config, project=project, log=logger.info, warn=logger.warning
                )
            return self._engines[project]

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            raise EnrichmentError(
                "the plugin has no connection to the warehouse; run it through dbt-duckdb on a "
                "local database (a remote Buena Vista server is not supported)"
            )
        return self._connection.cursor()


def _request(call: Mapping[str, Any], cursor: duckdb.DuckDBPyConnection) -> EnrichmentRequest:
    name = str(call["name"])
    meta = call["meta"]
    if not isinstance(meta, Mapping) or not meta:
        raise ConfigurationError(
            f"model '{name}': the YAML has no config.meta.enrichment; add it with model, user and "
            "output"
        )
    relation = StagedRelation(
        connection=cursor,
        name=str(call["staged"]),
        unique_key=parse_unique_key(name, call["unique_key"]),
        model=name,
    )
    return EnrichmentRequest(
        relation=relation,
        task=task_from_yaml(name, meta, call["columns"]),
        options=options_from_yaml(
            name,
            meta,
            mode=call.get("mode") or None,
            preview_rows=call.get("preview_rows"),
        ),
        enrichment=str(call["unique_id"]),
        existing=_existing(call, cursor),
        target=call.get("target") or None,
        full_refresh=bool(call.get("full_refresh")),
    )


def _existing(call: Mapping[str, Any], cursor: duckdb.DuckDBPyConnection) -> ExistingTable | None:
    name = call.get("existing")
    if not name:
        return None
    columns = {row[0]: row[1] for row in cursor.execute(f"describe {name}").fetchall()}
    return ExistingTable(
        name=str(name), columns=columns, errors=call.get("existing_errors") or None
    )


def _write_outcome(cursor: duckdb.DuckDBPyConnection, table: str, outcome: Outcome) -> None:
    cursor.execute(
        f"create or replace table {table} as select ? as run_id, ? as enriched_sql, "
        "? as errors_sql, ? as summary, ? as replaces, ? as merges, ? as comment",
        [
            outcome.run_id,
            outcome.enriched_sql,
            outcome.errors_sql,
            outcome.summary,
            outcome.replaces,
            outcome.merges,
            outcome.comment,
        ],
    )


def _write_relations(
    cursor: duckdb.DuckDBPyConnection, call: Mapping[str, Any], engine: Engine
) -> None:
    """Leave the relations' SELECTs in the outcome table, which is empty if nothing changed."""
    made = engine.relations(call.get("known"))
    run_id, found = made or (None, None)
    cursor.execute(
        f"create or replace table {call['outcome']} as select ? as run_id, ? as batches, "
        "? as attempts, ? as usage, ? as fingerprint",
        [
            run_id,
            found and found.batches,
            found and found.attempts,
            found and found.usage,
            found and found.fingerprint,
        ],
    )


def _check_version(call: Mapping[str, Any]) -> None:
    macros = str(call.get("version"))
    if macros != __version__:
        raise ConfigurationError(
            f"the dbt package dbt_enrich is version {macros}, the Python package dbt-enrich is "
            f"{__version__}; install the same version of both (packages.yml with dbt deps, and "
            f"pip install dbt-enrich=={macros})"
        )


@contextmanager
def _as_dbt_error() -> Iterator[None]:
    """Hand an error to dbt as its one sentence."""
    try:
        yield
    except EnrichmentError as error:
        raise DbtRuntimeError(str(error)) from error
