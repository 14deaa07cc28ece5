"""What `dbt-enrich doctor` says of prices, and of models that their provider is about to end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext, suppress

from dbt_enrich.cli.findings import Finding, of_error
from dbt_enrich.config import PluginConfig
from dbt_enrich.errors import EnrichmentError
from dbt_enrich.state.run import existing_ledger

_FIX = (
    "move to another model before that day: set model in meta.enrichment (dbt-enrich plan says "
    "what asking again costs, on_task_change: new_rows keeps the answers)"
)


def price_findings(config: PluginConfig, models: tuple[str, ...]) -> Iterator[Finding]:
    """Look at the price table, and at when models end.

    Args:
        config: The plugin's configuration.
        models: Logical models that are looked at; the profile's and those used before if empty.
    """
    if config.facts.is_free:
        return
    try:
        table = config.price_table
    except EnrichmentError as error:
        yield of_error("prices", error)
        return
    yield Finding("prices", "ok", f"of {table.as_of or 'an unknown day'}, from {table.source}")
    for model in models or _used(config):
        warning = config.retirement(model)
        if warning:
            yield Finding(f"model {model}", "warning", warning, _FIX)


def _used(config: PluginConfig) -> list[str]:
    """Return the models that the profile names, and those that tables were made by."""
    named = list(config.deployments)
    # A ledger that fails has a finding of its own.
    with suppress(EnrichmentError), existing_ledger(config) or nullcontext() as ledger:
        named += [table.model for table in ledger.publications.all()] if ledger else []
    return list(dict.fromkeys(named))
