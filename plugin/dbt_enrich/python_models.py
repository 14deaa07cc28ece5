"""`enrich` for dbt Python models: the same engine and ledger as the materialization's."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import duckdb
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.context.exceptions_jinja import warn

from dbt_enrich.errors import ConfigurationError
from dbt_enrich.invocation import current_model, root_project
from dbt_enrich.pipeline.request import EnrichmentRequest
from dbt_enrich.pipeline.stage.input_checks import parse_unique_key
from dbt_enrich.plugin import Plugin, inlines_rows, logger
from dbt_enrich.sql import identifier, literal
from dbt_enrich.task.command_options import commanded
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.model_names import label
from dbt_enrich.task.options import EnrichmentOptions
from dbt_enrich.warehouse.databases import find_catalog
from dbt_enrich.warehouse.enriched_table import ExistingTable
from dbt_enrich.warehouse.interrupts import interruptible
from dbt_enrich.warehouse.placement import Placement, texts_of
from dbt_enrich.warehouse.relation import StagedRelation


def enrich(
    dbt: Any,
    session: duckdb.DuckDBPyConnection,
    relation: duckdb.DuckDBPyRelation,
    task: EnrichmentTask,
    *,
    unique_key: str | Sequence[str],
    options: EnrichmentOptions | None = None,
) -> duckdb.DuckDBPyRelation:
    """Enrich a relation in a dbt Python model.

    Args:
        dbt: The model's `dbt` argument.
        session: The model's `session` argument.
        relation: The rows, such as `dbt.ref("stg_movies")`.
        task: What is asked; a Python model sees no column YAML, so it states types itself.
        unique_key: The column, or columns, that tell the rows apart.
        options: How far the run goes; by default it sends and waits.

    Returns:
        Every row with its own columns, the outputs and the `enrichment_*` columns, to be returned
        from the model. In the modes `plan` and `preview` the model's table as it is, or an empty
        one where there is none.

    Raises:
        EnrichmentError: As the materialization's errors, one sentence each.
    """
    plugin = _plugin()
    engine = plugin.engine()
    table = str(dbt.this.identifier)
    unique_id = current_model() or f"model.{root_project().name}.{table}"
    name = label(unique_id, engine.known_models())
    if options and options.publish == "merge":
        raise ConfigurationError(
            f"model '{name}': publish = 'merge' is for SQL models",
            fix="give the Python model materialized = 'incremental' and a unique_key, and dbt "
            "merges what it returns",
        )
    engine.check()
    # No name that a model of the user's may have.
    suffix = secrets.token_hex(4)
    staged, view = identifier(f"{table}__staged_{suffix}"), f"{table}__rows_{suffix}"
    relation.create_view(view)
    try:
        session.execute(f"create temp table {staged} as select * from {identifier(view)}")
    finally:
        session.execute(f"drop view {identifier(view)}")
    existing = _existing(dbt, session)
    request = EnrichmentRequest(
        relation=StagedRelation(
            connection=session,
            name=staged,
            unique_key=parse_unique_key(name, unique_key),
            model=name,
        ),
        task=task,
        options=commanded(options or EnrichmentOptions()),
        enrichment=unique_id,
        existing=existing,
        target=_qualified(dbt, table),
        placement=Placement(
            catalog=find_catalog(session, str(dbt.this.database)),
            table=table,
            inlines=inlines_rows(session, str(dbt.this.database)),
            texts=texts_of({}, existing if dbt.is_incremental else None),
        ),
    )
    with interruptible(engine.cancelled, logger.warning):
        outcome = engine.enrich(request)
    logger.info(outcome.summary)
    if request.existing and not outcome.replaces:
        engine.finish(outcome.run_id)
        # dbt adds what an incremental model returns to the table.
        kept = "limit 0" if dbt.is_incremental else ""
        return session.sql(f"from {request.existing.name} {kept}")
    counts = None
    try:
        if outcome.warning:
            warn(outcome.warning)
        enriched = identifier(f"{table}__enriched_{secrets.token_hex(4)}")
        session.execute(f"create temp table {enriched} as {outcome.enriched_sql}")
        errors = _qualified(dbt, f"{table}__errors")
        session.execute(f"create or replace table {errors} as {outcome.errors_sql}")
        counts = dict(
            session.execute(
                f"select enrichment_status, count(*) from {enriched} group by 1"
            ).fetchall()
        )
    finally:
        engine.finish(outcome.run_id, counts)
    return session.table(enriched)


def _plugin() -> Plugin:
    plugins = getattr(DuckDBConnectionManager.env(), "_plugins", {})
    for plugin in plugins.values():
        if isinstance(plugin, Plugin):
            return plugin
    raise ConfigurationError(
        "profiles.yml: the target has no plugin with the module dbt_enrich.plugin",
        fix="add it under plugins, with config: {provider: ...}",
    )


def _qualified(dbt: Any, table: str) -> str:
    this = dbt.this
    return ".".join(identifier(str(part)) for part in (this.database, this.schema, table))


def _existing(dbt: Any, session: duckdb.DuckDBPyConnection) -> ExistingTable | None:
    """Return the model's table as the last run left it, or None."""
    this = dbt.this

    def columns(table: str) -> dict[str, str]:
        found = session.execute(
            "select column_name, data_type from duckdb_columns() where database_name = "
            f"{literal(str(this.database))} and schema_name = {literal(str(this.schema))} "
            f"and table_name = {literal(table)} order by column_index"
        ).fetchall()
        return dict(found)

    name = str(this.identifier)
    there = columns(name)
    if "enrichment_key" not in there:
        return None
    errors = f"{name}__errors"
    return ExistingTable(
        name=_qualified(dbt, name),
        columns=there,
        errors=_qualified(dbt, errors) if columns(errors) else None,
    )
