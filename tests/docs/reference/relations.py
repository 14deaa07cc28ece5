"""The page of the tables that a run builds."""

from __future__ import annotations

from collections.abc import Iterable

from dbt_enrich.pipeline.publish.usage_relations import (
    ATTEMPT_COLUMNS,
    BATCH_COLUMNS,
    DESCRIPTIONS,
    RELATIONS,
    USAGE_COLUMNS,
)
from dbt_enrich.task.result_columns import ERROR_COLUMNS, STATUS_COLUMNS, Column
from docs.reference.markdown import page, table


def _columns(columns: Iterable[Column]) -> str:
    return table(
        ["column", "type", "what it holds"],
        ([f"`{c.name}`", f"`{c.data_type}`", c.description.rstrip(".") + "."] for c in columns),
    )


def relations() -> str:
    """Write the page of the tables that a run builds."""
    types = {"batches": BATCH_COLUMNS, "attempts": ATTEMPT_COLUMNS, "usage": USAGE_COLUMNS}
    return page(
        "Relations",
        "The tables that dbt-enrich builds, with their columns.",
        "## The enriched table\n",
        "It has the columns of the SELECT, the output columns, and these:\n",
        _columns(STATUS_COLUMNS),
        "## `<model>__errors`\n",
        "One row for each failed attempt at a row of the table. Read it with "
        "[`enrichment_errors`](macros.md#enrichment_errors).\n",
        _columns(ERROR_COLUMNS),
        "## The schema `enrichment`\n",
        "Replaced at the end of each dbt run, where the profile has "
        "[the plugin](../hosts/duckdb.md). The variable `enrichment_schema` names another "
        "schema.\n",
        *(
            f"### `{name}`\n\n{text}.\n\n"
            + _columns(Column(n, t, DESCRIPTIONS[n]) for n, t in types[name].items())
            for name, text in RELATIONS.items()
        ),
    )
