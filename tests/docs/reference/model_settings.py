"""The page of `meta.enrichment`."""

from __future__ import annotations

from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.options import EnrichmentOptions, Mode
from dbt_enrich.task.schema import OutputColumn
from docs.reference.keys import dataclass_keys, key, keys
from docs.reference.markdown import attributes, page, table


def model_settings() -> str:
    """Write the page of `meta.enrichment`."""
    texts = attributes(EnrichmentTask)
    output = key("output", "a list of names of columns", ..., texts["outputs"])
    task = keys(EnrichmentTask, without=["outputs"])
    modes = attributes(Mode)
    return page(
        "`meta.enrichment`",
        "What a model says of its enrichment, below `config: {meta: {enrichment: …}}` in its YAML.",
        "## What is asked\n",
        "These keys, and the types and descriptions of the output columns, are the task. A change "
        "asks the rows again, except one of `literal_braces` or of the token limits in "
        "`parameters`: see [Change a prompt](../guides/change-a-prompt.md).\n",
        output,
        task,
        "## How it is run\n",
        "None of these keys is part of an answer's identity: a change asks nothing again.\n",
        keys(EnrichmentOptions),
        "## Modes\n",
        table(["mode", "what a run does"], ([f"`{m}`", modes[m.name]] for m in Mode)),
        "## Output columns\n",
        "These keys stand in a column's own `config: {meta: {enrichment: …}}`. They are part of "
        "the task.\n",
        dataclass_keys(OutputColumn, without=["name", "data_type", "description"]),
    )
