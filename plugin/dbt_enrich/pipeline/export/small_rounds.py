"""Few: when a round of requests is small enough to be answered at once, and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dbt_enrich.config import PluginConfig
from dbt_enrich.endpoints.packs import Packing
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.pipeline.run.deployments import Spread
from dbt_enrich.sql import literals
from dbt_enrich.task.options import EnrichmentOptions, Mode
from dbt_enrich.workspace.database import Workspace


@dataclass(frozen=True)
class Few:
    """Where a round of few requests goes instead of into a batch.

    Attributes:
        below: A round of fewer requests than this is of few.
        spread: Names the deployment that answers them.
    """

    below: int
    spread: Spread

    def takes(self, requests: int) -> bool:
        """Whether a round of so many requests is of few."""
        return requests < self.below


def check_route(model: str, options: EnrichmentOptions, config: PluginConfig) -> None:
    """Refuse `sync_below` where no deployment is named that answers single requests.

    Raises:
        ConfigurationError: The provider's batch deployments answer none.
    """
    sends = options.mode in (Mode.RUN, Mode.SUBMIT, Mode.PLAN)
    answers = options.preview_model or config.facts.answers_single_requests
    if options.sync_below and sends and not answers:
        raise ConfigurationError(
            f"model '{model}': enrichment.sync_below is {options.sync_below}, but a batch "
            f"deployment of {config.facts.label} answers no single requests",
            fix="name a standard deployment of the same model as enrichment.preview_model, or "
            "take sync_below out. Nothing was sent",
        )


def route_of(model: str, options: EnrichmentOptions, config: PluginConfig) -> str:
    """Return the deployment that answers single requests for a logical model."""
    return options.preview_model or config.deployment(model)


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
