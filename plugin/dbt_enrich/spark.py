"""`enrich` for Spark: notebooks and jobs, with the engine and the ledger of the materialization."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbt_enrich.config import PluginConfig
from dbt_enrich.config.place import CALL
from dbt_enrich.config.profile import parse_config
from dbt_enrich.config.project_file import read_project_file
from dbt_enrich.console.console import Console
from dbt_enrich.errors import ConfigurationError, InputError
from dbt_enrich.extras import SPARK, require
from dbt_enrich.pipeline.hosted import HostedModel
from dbt_enrich.pipeline.partitions.engine import PartedEngine, PartedModel
from dbt_enrich.pipeline.partitions.hosted import work
from dbt_enrich.pipeline.stage.input_checks import parse_unique_key
from dbt_enrich.task.command_options import commanded
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.options import EnrichmentOptions
from dbt_enrich.task.result_columns import ERROR_TYPES, STATUS, STATUS_TYPES
from dbt_enrich.warehouse.host import FINGERPRINT, TASK, HostTable, ModelTables
from dbt_enrich.warehouse.spark_host import SparkHost
from dbt_enrich.warehouse.spark_names import qualified, quoted, text_literal
from dbt_enrich.warehouse.spark_types import duckdb_type, held_type, refuse_types, spark_type
from dbt_enrich.wording import counted, near_match

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

__all__ = ["enrich", "failed_attempts"]

_DEFAULT_SCHEMA: Final = "default"
_NAMESPACE: Final = "dbt_enrich"
# As the macro `spark__fingerprint` has it.
_JSON_FORM: Final = (
    "map('timestampFormat', 'yyyy-MM-dd\\'T\\'HH:mm:ss.SSSSSSXXX', "
    "'timestampNTZFormat', 'yyyy-MM-dd\\'T\\'HH:mm:ss.SSSSSS')"
)


def enrich(
    spark: SparkSession,
    df: DataFrame,
    task: EnrichmentTask,
    *,
    unique_key: str | Sequence[str],
    table: str,
    options: EnrichmentOptions | None = None,
    config: PluginConfig | Mapping[str, Any] | None = None,
    target: str = "spark",
    file_format: str | None = None,
    partition_rows: int | None = None,
    log: Callable[[str], None] = print,
) -> DataFrame:
    """Enrich the rows of a DataFrame.

    The rows are written once, to the table `<table>__rows` in the schema `<schema>_enrichment`, so
    that what is asked and what is returned are the same rows, also where the DataFrame yields
    others each time. Rows without an answer stream to this machine as Arrow batches, over Spark
    Connect or out of a session with a JVM, and their results go back to `<table>__results` and
    `<table>__failures`. Whatever was answered before is not sent again.

    Args:
        spark: The session.
        df: The rows.
        task: What is asked. Columns of the types `interval`, `time` and `variant` are refused where
            it names them. Spark's `timestamp` is an instant: its text ends with `Z`, unlike that of
            `timestamp_ntz`, which is DuckDB's `timestamp`.
        unique_key: The column, or columns, that tell the rows apart.
        table: What the enriched table is called, as `table`, `schema.table` or
            `catalog.schema.table`; its work tables are named after it. It is not written: that is
            what the caller does with the DataFrame.
        options: How far the run goes; by default it sends and waits. `publish` has no meaning here.
        config: The keys that the block of a dbt profile has; by default those of `dbt_enrich.yml`
            in the working directory. Relative paths are below that directory.
        target: The target of `dbt_enrich.yml` that is meant, where it has some.
        file_format: The format of the work tables; by default the session's own.
        partition_rows: How many rows without an answer may come to this machine; by default what
            the configuration says, which is ten million unless it is set. More of them stay in
            Spark, whose partitions write the requests into the bucket of the shared state and
            read the answers there; this machine sends and waits. dbt-enrich[remote] is installed on
            the machines of the cluster then, and the bucket's credentials are in their environment.
        log: Takes each line for the user.

    Returns:
        Every row with its own columns, the outputs and the `enrichment_*` columns. It reads the
        work tables: write it, or be done with it, before the next call for the same table.

    Raises:
        EnrichmentError: As the materialization's errors, one sentence each. Paid answers are safe
            in every case.
    """
    require(SPARK, "enrich of dbt_enrich.spark")
    name = _parsed_table(table)
    keys = _keys(name.identifier, df, unique_key)
    tables = ModelTables.of(name, keys)
    _check_columns(name.identifier, df, task)
    settings = _config(config, target)
    if partition_rows is not None:
        settings = settings.model_copy(update={"partition_rows": partition_rows})
    engine = PartedEngine(
        settings.within(Path.cwd()), project=_NAMESPACE, console=Console(log), target=target
    )
    engine.check()
    host = SparkHost(spark, file_format=file_format)
    host.write(_staged(df, task, keys), tables.rows)
    _check_key(spark, tables, name.identifier)
    model = HostedModel(
        name=name.identifier,
        enrichment=f"model.{engine.namespace}.{name.identifier}",
        tables=tables,
        task=task,
        options=commanded(options or EnrichmentOptions()),
        target=table,
    )
    worked = work(engine, host, model)
    log(worked.summary)
    if worked.outcome.warning:
        log(worked.outcome.warning)
    asked = PartedModel(model.name, model.enrichment, keys, task, model.options)
    return _enriched(host, model, engine.task_key_of(asked))


def failed_attempts(spark: SparkSession, table: str) -> DataFrame:
    """Return the failed attempts at the rows of the last call of `enrich` for a table.

    Args:
        spark: The session.
        table: What `enrich` was given.

    Returns:
        A row for each, with the unique key and the columns of an errors table.

    Raises:
        ConfigurationError: There are none: no row failed yet, or the table is another one.
    """
    require(SPARK, "failed_attempts of dbt_enrich.spark")
    tables = ModelTables.of(_parsed_table(table), ())
    columns = SparkHost(spark).columns(tables.failures)
    if columns is None:
        raise ConfigurationError(
            f"{qualified(tables.failures)} is not there: no row of {table} failed yet",
            fix="call enrich for it first, in the mode run or collect",
        )
    keys = [name for name in columns if name not in (FINGERPRINT, TASK, *ERROR_TYPES)]
    rows = spark.table(qualified(tables.rows)).select(*map(quoted, keys), FINGERPRINT)
    failures = spark.table(qualified(tables.failures))
    found = failures.join(rows, [*keys, FINGERPRINT], "left_semi")
    return found.select(*map(quoted, keys), *ERROR_TYPES)


def _parsed_table(table: str) -> HostTable:
    parts = [part.strip("`") for part in table.split(".")]
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise ConfigurationError(
            f"the table '{table}' has no name of the form table, schema.table or "
            "catalog.schema.table",
            fix="write one, such as sales.tickets_enriched",
        )
    *place, name = parts
    return HostTable(
        database=place[0] if len(place) == 2 else None,
        schema=place[-1] if place else _DEFAULT_SCHEMA,
        identifier=name,
    )


def _keys(model: str, df: DataFrame, unique_key: str | Sequence[str]) -> tuple[str, ...]:
    """Return the columns of the unique key as the DataFrame has them."""
    columns = {name.lower(): name for name in df.columns}
    names = parse_unique_key(model, unique_key)
    for name in names:
        if name.lower() not in columns:
            raise ConfigurationError(
                f"{model}: unique_key names the column '{name}', which the DataFrame does not have "
                f"(columns: {', '.join(df.columns)})",
                fix=near_match(name, columns) or "name one of its columns",
            )
    return tuple(columns[name.lower()] for name in names)


def _check_columns(model: str, df: DataFrame, task: EnrichmentTask) -> None:
    """Refuse rows whose columns cannot be staged, before they are written."""
    named = (*task.template.columns, *task.images)
    refuse_types(model, df.schema, named)
    reserved = {*STATUS_TYPES, FINGERPRINT, TASK}
    for name in df.columns:
        if name.lower() in reserved:
            raise ConfigurationError(
                f"{model}: the DataFrame has the column '{name}', a name that dbt-enrich uses "
                "itself",
                fix=f"leave it out or rename it: drop('{name}')",
            )


def _config(given: PluginConfig | Mapping[str, Any] | None, target: str) -> PluginConfig:
    if isinstance(given, PluginConfig):
        return given
    if given is not None:
        return parse_config(given, duckdb_settings={}, place=CALL)
    found = read_project_file(Path.cwd(), target)
    if found is None:
        raise ConfigurationError(
            f"there is no configuration: {Path.cwd()} holds no dbt_enrich.yml",
            fix="write one, or give the keys: enrich(..., config={'provider': ...})",
        )
    return found


def _staged(df: DataFrame, task: EnrichmentTask, keys: Sequence[str]) -> DataFrame:
    """Return the rows with the fingerprint of what a request is made of, and the unique key."""
    from pyspark.sql import functions

    named = {name.lower() for name in (*task.template.columns, *task.optional, *task.images, *keys)}
    texts = [_text_sql(field) for field in df.schema.fields if field.name.lower() in named]
    digests = ", ".join(f"md5({text})" for text in texts)
    return df.withColumn(FINGERPRINT, functions.expr(f"md5(concat_ws(',', {digests}))"))


def _text_sql(field: Any) -> str:
    """Build the expression of a column's value as a text that no other value of it has."""
    if duckdb_type(field.dataType) is None:
        return f"coalesce(cast({quoted(field.name)} as string), '')"
    return f"to_json(struct({quoted(field.name)}), {_JSON_FORM})"


def _check_key(spark: SparkSession, tables: ModelTables, model: str) -> None:
    """Refuse a unique key that is null, or stands in two rows."""
    rows, names = qualified(tables.rows), ", ".join(tables.unique_key)
    is_null = " or ".join(f"{quoted(key)} is null" for key in tables.unique_key)
    nulls = spark.sql(f"select count(*) from {rows} where {is_null}").collect()[0][0]
    if nulls:
        raise InputError(
            f"{model}: the unique_key '{names}' is null in {counted(nulls, 'row')}",
            fix="filter them out or choose another key",
        )
    keys = ", ".join(map(quoted, tables.unique_key))
    repeated = spark.sql(
        f"select {keys}, count(*) from {rows} group by {keys} having count(*) > 1 limit 1"
    ).collect()
    if repeated:
        *values, count = repeated[0]
        raise InputError(
            f"{model}: the unique_key '{names}' is not unique: the value "
            f"{', '.join(map(str, values))} stands in {count} rows",
            fix="remove the repeats or choose another key",
        )


def _enriched(host: SparkHost, model: HostedModel, task_key: str) -> DataFrame:
    """Return the staged rows with what is known of them."""
    from pyspark.sql import functions

    spark, tables = host.spark, model.tables
    rows = spark.table(qualified(tables.rows))
    own = [functions.col(f"staged.{quoted(name)}") for name in rows.columns if name != FINGERPRINT]
    types = {**{o.name: o.type.sql for o in model.task.outputs}, **STATUS_TYPES}
    held = {name: spark_type(held_type(kind) or "VARCHAR") for name, kind in types.items()}
    there = host.columns(tables.results)
    if there is None:
        nulls = [functions.lit(None).cast(kind).alias(name) for name, kind in held.items()]
        nulls = [
            functions.lit("pending").alias(STATUS) if name == STATUS else null
            for name, null in zip(held, nulls, strict=True)
        ]
        found: DataFrame = rows.alias("staged").select(*own, *nulls)
        return found
    results = spark.table(qualified(tables.results)).alias("results")
    same_key = " and ".join(
        f"staged.{quoted(key)} = results.{quoted(key)}" for key in tables.unique_key
    )
    same = f"results.{FINGERPRINT} = staged.{FINGERPRINT}"
    if model.options.on_task_change != "new_rows":
        # What a plan has not asked again has the answers of another task.
        same += f" and results.{TASK} = {text_literal(task_key)}"
    values = _values(model, held, {name.lower() for name in there}, same)
    joined = rows.alias("staged").join(results, functions.expr(same_key), "left")
    enriched: DataFrame = joined.select(*own, *values)
    return enriched


def _values(
    model: HostedModel, held: Mapping[str, Any], there: set[str], same: str
) -> list[Column]:
    """Return the columns of outputs and status, as the macro `_enriched_sql` has them."""
    from pyspark.sql import functions

    keeps = model.options.on_pending == "keep"
    answered = f"results.{STATUS} in ('done', 'stale')"
    has_values = f"(({same}) or {answered})" if keeps else same
    stale = f"when {answered} then 'stale'" if keeps else ""
    values = []
    for name, kind in held.items():
        result = f"results.{quoted(name)}"
        match name:
            case "enrichment_status":
                text = f"case when {same} then {result} {stale} else 'pending' end"
            case "enrichment_error":
                text = f"case when {same} then {result} end"
            case _:
                text = f"case when {has_values} then {result} end"
        value = functions.expr(text) if name.lower() in there else functions.lit(None).cast(kind)
        values.append(value.alias(name))
    return values
