"""Relayed: which rounds of requests go one by one through the synchronous endpoint, and to whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dbt_enrich.config import PluginConfig
from dbt_enrich.endpoints.packs import Packing
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.extras import EMULATOR, require
from dbt_enrich.pipeline.run.deployments import Spread
from dbt_enrich.sql import literals
from dbt_enrich.task.options import EnrichmentOptions, Mode, Via
from dbt_enrich.workspace.database import Workspace

MOST_REQUESTS = 5_000
"""Requests of one relayed file, at most: so many answers are loaded, and looked at, at once."""


@dataclass(frozen=True)
class Relayed:
    """Where rounds of requests go in place of a batch at the service.

    Attributes:
        below: A round of fewer requests than this goes there; None: every round.
        spread: Names the deployments that answer them.
    """

    below: int | None
    spread: Spread

    def takes(self, requests: int) -> bool:
        """Whether a round of so many requests goes there."""
        return self.below is None or requests < self.below


def is_relayed(options: EnrichmentOptions, config: PluginConfig) -> bool:
    """Whether some rounds go through a relay; the service on this machine is one by itself."""
    return bool(options.via != Via.BATCH or options.sync_below) and not config.facts.runs_here


def check_route(model: str, options: EnrichmentOptions, config: PluginConfig) -> None:
    """Refuse `via` and `sync_below` where they cannot work.

    Raises:
        ConfigurationError: The provider's batch deployments answer no single requests, or the
            extra that the relay needs is not installed.
    """
    if not (is_relayed(options, config) and options.mode in (Mode.RUN, Mode.SUBMIT, Mode.PLAN)):
        return
    named = f"enrichment.via is {options.via}"
    if options.via == Via.BATCH:
        named = f"enrichment.sync_below is {options.sync_below}"
        if not (options.preview_model or config.facts.answers_single_requests):
            raise ConfigurationError(
                f"model '{model}': {named}, but a batch deployment of {config.facts.label} answers "
                "no single requests",
                fix="name a standard deployment of the same model as enrichment.preview_model, or "
                "take sync_below out. Nothing was sent",
            )
    require(EMULATOR, f"model '{model}': {named}, which")


def route_of(model: str, options: EnrichmentOptions, config: PluginConfig) -> str:
    """Return the deployment that answers single requests for a logical model."""
    return options.preview_model or config.deployment(model)


def routes_of(model: str, options: EnrichmentOptions, config: PluginConfig) -> tuple[str, ...]:
    """Return the deployments that answer what is relayed for a logical model."""
    if options.preview_model:
        return (options.preview_model,)
    return config.deployments_of(model)


def requests_of_round(paths: Sequence[Path], packing: Packing | None, workspace: Workspace) -> int:
    """Count the requests that a round sends; a pack of rows is one.

    Args:
        paths: Parquet files of the rows to ask: row_id, request_key, is_first and message_bytes.
        packing: How many rows go into one request, or None for one.
        workspace: Where they are counted.
    """
    rows = f"select * from read_parquet({literals(paths)})"
    if packing is None:
        (count,) = workspace.row(f"select count(*) from ({rows})")
        return int(count)
    packed = packing.numbered_sql(f"{rows} where is_first")
    (packs,) = workspace.row(f"select count(distinct custom_id) from ({packed})")
    (alone,) = workspace.row(f"select count(*) from ({rows}) where not is_first")
    return int(packs) + int(alone)
