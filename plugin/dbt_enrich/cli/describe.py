"""`dbt-enrich describe`: the YAML of what an enrichment's tables have beside the user's columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click
import yaml

from dbt_enrich.cli.dbt import DbtOptions, models_of_dbt
from dbt_enrich.cli.project import Location, project_options
from dbt_enrich.pipeline.stage.input_checks import parse_unique_key
from dbt_enrich.task.result_columns import ERROR_COLUMNS, STATUS_COLUMNS, Column


@click.command()
@click.argument("model")
@project_options
def describe(model: str, location: Location) -> None:
    """Print the YAML of MODEL's status columns, and of its errors table as a source.

    Paste it into the project's YAML where docs, tests or a contract are to name these columns. A
    contract holds without them: columns that the YAML leaves out are added to it.
    """
    found = models_of_dbt(DbtOptions(location, (model,)))
    if not found:
        raise click.ClickException(
            f"no SQL model called {model} has materialized = 'enrichment'; name one that has"
        )
    models = [{"name": node["name"], "columns": _columns(STATUS_COLUMNS)} for node in found]
    document = {"models": models, "sources": [_errors_source(node) for node in found]}
    click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100).rstrip())


def _columns(columns: Iterable[Column]) -> list[dict[str, str]]:
    return [
        {"name": c.name, "data_type": c.data_type, "description": c.description} for c in columns
    ]


def _errors_source(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the errors table of a model, as `dbt ls` shows it, as a source."""
    described = {name.lower(): column for name, column in (node.get("columns") or {}).items()}
    keys = []
    for key in parse_unique_key(node["name"], node["config"].get("unique_key")):
        kind = described.get(key.lower(), {}).get("data_type")
        typed = {"data_type": kind} if kind else {}
        keys.append({"name": key, **typed, "description": f"`{key}` of the row that failed."})
    alias = node.get("alias") or node["name"]
    return {
        "name": f"{alias}_errors",
        "database": node["database"],
        "schema": node["schema"],
        "tables": [
            {
                "name": f"{alias}__errors",
                "description": f"The failed attempts at rows of `{alias}`, one row each.",
                "columns": [*keys, *_columns(ERROR_COLUMNS)],
            }
        ],
    }
