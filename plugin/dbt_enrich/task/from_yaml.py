"""How a model's YAML becomes a task and its options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from pydantic import ValidationError

from dbt_enrich.errors import ConfigurationError, EnrichmentError
from dbt_enrich.task.enrichment_task import EnrichmentTask, _wrong
from dbt_enrich.task.options import EnrichmentOptions
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.wording import near_match, unknown_key

_TASK_KEYS = set(EnrichmentTask.model_fields) - {"outputs"} | {"output"}


_RULE_KEYS = {field.name for field in fields(OutputColumn)} - {"name", "data_type", "description"}


def task_from_yaml(
    model: str, meta: Mapping[str, Any], columns: Mapping[str, Mapping[str, Any]]
) -> EnrichmentTask:
    """Build the task from a dbt model's `meta.enrichment` and its documented columns.

    Args:
        model: The dbt model's name, for messages.
        meta: The block `config.meta.enrichment`.
        columns: dbt's `model.columns`: name to `data_type`, `description` and `meta`.

    Raises:
        ConfigurationError: A key is unknown, or a value is missing or wrong.
    """
    unknown = unknown_key(meta, _TASK_KEYS | set(EnrichmentOptions.model_fields))
    if unknown:
        raise ConfigurationError(
            f"model '{model}': meta.enrichment has the {unknown.text}", fix=unknown.fix
        )
    for key in ("model", "user", "output"):
        if not meta.get(key):
            raise ConfigurationError(
                f"model '{model}': meta.enrichment has no '{key}'",
                fix="add it to the model's YAML",
            )
    names = meta["output"]
    if not isinstance(names, Sequence) or isinstance(names, str):
        raise ConfigurationError(
            f"model '{model}': enrichment.output must be a list of column names",
            fix="write it as "
            f"[{', '.join(map(str, names)) if isinstance(names, Mapping) else names}]; their types "
            "are those below columns:",
        )
    values = {key: value for key, value in meta.items() if key in _TASK_KEYS - {"output"}}
    values["outputs"] = tuple(_output_column(model, str(name), columns) for name in names)
    return build_task(f"model '{model}'", values)


def build_task(where: str, values: Mapping[str, Any]) -> EnrichmentTask:
    """Build a task, with each error as one sentence that begins with `where`."""
    try:
        return EnrichmentTask(**values)
    except ValidationError as error:
        raise _wrong(where, error) from None


def options_from_yaml(
    model: str,
    meta: Mapping[str, Any],
    *,
    mode: str | None = None,
    preview_rows: int | None = None,
) -> EnrichmentOptions:
    """Build the run options from `meta.enrichment`; what is given here wins over the YAML's.

    Raises:
        ConfigurationError: A value is wrong.
    """
    values = {key: meta[key] for key in EnrichmentOptions.model_fields if key in meta}
    given = {"mode": mode, "preview_rows": preview_rows}
    values |= {key: value for key, value in given.items() if value is not None}
    try:
        return EnrichmentOptions(**values)
    except ValidationError as error:
        raise _wrong(f"model '{model}'", error) from None


def _output_column(model: str, name: str, columns: Mapping[str, Mapping[str, Any]]) -> OutputColumn:
    by_name = {key.lower(): value for key, value in columns.items()}
    column = by_name.get(name.lower())
    if column is None:
        raise ConfigurationError(
            f"model '{model}': enrichment.output names the column '{name}', which the YAML does "
            "not describe",
            fix=near_match(name, by_name) or "add it under columns with a data_type",
        )
    if not column.get("data_type"):
        raise ConfigurationError(
            f"model '{model}': the output column '{name}' has no data_type in the YAML",
            fix="add one, such as data_type: varchar",
        )
    meta = column.get("meta") or (column.get("config") or {}).get("meta") or {}
    rules = dict(meta.get("enrichment") or {})
    unknown = unknown_key(rules, _RULE_KEYS)
    if unknown:
        raise ConfigurationError(
            f"model '{model}': meta.enrichment of the column '{name}' has the {unknown.text}",
            fix=unknown.fix,
        )
    try:
        return OutputColumn(
            name=name,
            data_type=str(column["data_type"]),
            description=(column.get("description") or "").strip() or None,
            **rules,
        )
    except EnrichmentError as error:
        raise ConfigurationError(f"model '{model}': {error.problem}", fix=error.fix) from None
