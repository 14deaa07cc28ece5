"""Sent with: the settings of a request that are no part of its identity, kept with each attempt.

A request that a service refused may be accepted once another deployment, endpoint, API version or
token limit is set, none of which makes another request of it. So each attempt says what it was
sent with, and only those with the present settings count against a row's attempts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dbt_enrich.config import PluginConfig
from dbt_enrich.endpoints.choice import endpoint_of
from dbt_enrich.state.shards import Shard
from dbt_enrich.task.enrichment_task import EnrichmentTask, canonical_json
from dbt_enrich.task.options import EnrichmentOptions, Via

_DIGITS = 8


@dataclass(frozen=True)
class SentWith:
    """What requests are sent with, apart from what identifies them. It holds no secret.

    Attributes:
        endpoint: The service's address; of `local`, who answers.
        api_version: Azure's dated version, or None for the v1 API.
        url: The `url` of each request line.
        deployments: Those to which a request may go.
        parameters: Body parameters that are no part of the task's identity.
    """

    endpoint: str
    api_version: str | None
    url: str
    deployments: tuple[str, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """Return it as JSON, equal settings as equal texts."""
        return canonical_json(
            {
                "api_version": self.api_version,
                "deployments": sorted(set(self.deployments)),
                "endpoint": self.endpoint,
                "parameters": dict(self.parameters),
                "url": self.url,
            }
        )

    @property
    def fingerprint(self) -> str:
        """A short name of the settings."""
        return hashlib.sha256(self.text().encode()).hexdigest()[:_DIGITS]

    def differs_from(self, noted: str | None) -> bool:
        """Whether an attempt was sent with other settings; what was not recorded is no other.

        A deployment more is another chance, one less only where it is the one that was asked.

        Args:
            noted: What `of_shard` returned for the attempt, or None.
        """
        then = _read(noted)
        if then is None:
            return False
        now = json.loads(self.text())
        asked, could = then.pop("deployment", None), set(then.pop("deployments", ()))
        may = set(now.pop("deployments"))
        return bool(now != then or may - could or (asked and asked not in may))


def present_settings(
    task: EnrichmentTask, options: EnrichmentOptions, config: PluginConfig
) -> SentWith:
    """Return what requests of a task are sent with now."""
    relays = options.sync_below or options.via != Via.BATCH
    alone = (options.preview_model,) if relays and options.preview_model else ()
    return SentWith(
        endpoint=config.sent_to,
        api_version=config.dated_version,
        url=config.url_of(endpoint_of(task.endpoint).path),
        deployments=(*config.deployments_of(task.model), *alone),
        parameters=task.neutral_parameters,
    )


def of_shard(shard: Shard) -> str | None:
    """Return what the requests of a shard were sent with, the deployment named, or None."""
    recorded = _read(shard.settings)
    return (
        None if recorded is None else canonical_json({**recorded, "deployment": shard.deployment})
    )


def tier_of(shard: Shard) -> object:
    """Return the `service_tier` that the requests of a shard ask for, or None."""
    parameters = (_read(shard.settings) or {}).get("parameters")
    return parameters.get("service_tier") if isinstance(parameters, dict) else None


def recorded_settings(shard: Shard) -> SentWith | None:
    """Return what the requests of a shard are sent with, or None if it was not recorded."""
    recorded = _read(shard.settings)
    if recorded is None:
        return None
    return SentWith(**{**recorded, "deployments": tuple(recorded["deployments"])})


def other_files(now: SentWith | None, noted: Sequence[str | None]) -> list[int]:
    """Return the places of those attempts that were sent with other settings than now."""
    if now is None:
        return []
    differs = {text: now.differs_from(text) for text in set(noted)}
    return [place for place, text in enumerate(noted) if differs[text]]


def _read(noted: str | None) -> dict[str, Any] | None:
    """Read a note; None where there is none, or none of ours."""
    try:
        found = json.loads(noted or "null")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
