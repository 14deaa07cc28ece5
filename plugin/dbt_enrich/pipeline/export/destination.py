"""Where a run's requests go, and in whose name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dbt_enrich.config.file_limits import MAX_FILE_BYTES, ServiceLimits
from dbt_enrich.endpoints.packs import Packing
from dbt_enrich.pipeline.export.relayed_rounds import MOST_REQUESTS, Relayed, requests_of_round
from dbt_enrich.pipeline.run.breaker import Tolerance
from dbt_enrich.pipeline.run.deployments import Spread
from dbt_enrich.pipeline.run.token_quota import BYTES_PER_TOKEN
from dbt_enrich.state.sent_with import SentWith
from dbt_enrich.workspace.database import Workspace


@dataclass(frozen=True)
class Destination:
    """Where requests go, and in whose name.

    Attributes:
        enrichment: The dbt model's unique id.
        spread: Chooses the deployment that is asked.
        service: The service's id.
        limits: What one file may hold.
        line_url: The `url` of every line.
        namespace: The mark of our own batches.
        owner: The run that claims.
        relayed: Where rounds of requests go instead, or None.
        is_synchronous: Whether the requests are asked one by one, through the relay.
        sent_with: What they are sent with, apart from what identifies them.
        tolerance: How many failures alike the run bears.
    """

    enrichment: str
    spread: Spread
    service: str
    limits: ServiceLimits
    line_url: str
    namespace: str
    owner: str
    relayed: Relayed | None = None
    is_synchronous: bool = False
    sent_with: SentWith | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)

    def of_round(
        self, paths: Sequence[Path], packing: Packing | None, workspace: Workspace
    ) -> Destination:
        """Return where the requests of a round go, which `paths` hold."""
        relayed = self.relayed
        if relayed is None or not self._is_relayed(relayed, paths, packing, workspace):
            return self
        limits = ServiceLimits(
            max_requests=min(self.limits.max_requests, MOST_REQUESTS),
            # The relay takes uploads, also where batches read blobs.
            max_bytes=min(self.limits.max_bytes, MAX_FILE_BYTES),
        )
        return replace(self, spread=relayed.spread, limits=limits, is_synchronous=True)

    @staticmethod
    def _is_relayed(
        relayed: Relayed, paths: Sequence[Path], packing: Packing | None, workspace: Workspace
    ) -> bool:
        if relayed.below is None:
            return True
        return relayed.takes(requests_of_round(paths, packing, workspace))

    @property
    def settings(self) -> str | None:
        """What the requests are sent with, as it is recorded."""
        return self.sent_with.text() if self.sent_with else None

    @property
    def room(self) -> int | None:
        """The bytes whose batches the smallest known quota holds at once, or None."""
        tokens = None if self.is_synchronous else self.spread.max_tokens
        return None if tokens is None else tokens * BYTES_PER_TOKEN
