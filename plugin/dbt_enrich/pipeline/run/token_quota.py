"""Room: the enqueued tokens that a deployment's batches hold, against what they may hold.

The service counts a batch's tokens from when it is created until it has ended, and refuses what
finds no room. The limit is configured, or read from the headers of a created batch
(`deployment-maximum-enqueued-tokens`), or from the words of a refusal.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from dbt_enrich.services.base import RemoteBatch
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.shards import Shard

# The service's own estimate is made from the number of characters.
BYTES_PER_TOKEN = 4
# A limit known only from a refusal may have been raised since, and no reply would say so.
_REFUSAL_AGE = timedelta(days=1)


def estimated_tokens(size: int) -> int:
    """Return the tokens that an input file of so many bytes counts for."""
    return -(-size // BYTES_PER_TOKEN)


class TokenRoom:
    """What is known of the deployments' limits, and what our own batches hold of them.

    Args:
        ledger: What is in flight, and which limits were learned.
        configured: Returns a deployment's configured limit, or None.
    """

    def __init__(self, ledger: Ledger, configured: Callable[[str], int | None]) -> None:
        self._ledger = ledger
        self._configured = configured

    def limit(self, service: str, deployment: str | None) -> int | None:
        """Return how many tokens a deployment's batches may hold at once, or None if unknown."""
        if deployment is None:
            return None
        configured = self._configured(deployment)
        learned = None if configured else self._ledger.quotas.get(service, deployment)
        if learned is None or (learned.source == "refusal" and learned.age > _REFUSAL_AGE):
            return configured
        return learned.max_enqueued_tokens

    def held_by_others(self, shard: Shard, deployment: str | None = None) -> int:
        """Return the tokens that our other batches on a shard's deployment, or another, hold."""
        name = deployment or shard.deployment
        return sum(
            estimated_tokens(other.bytes)
            for other in self._ledger.shards.open(service=shard.service)
            if other.deployment == name
            and other.step.holds_tokens
            and not other.synchronous
            and other.shard != shard.shard
        )

    def has_room(self, shard: Shard, deployment: str | None = None) -> bool:
        """Whether a shard's batch may be created now, on its deployment or another.

        With nothing of ours in flight it is tried in any case: the estimate may be wrong.
        """
        limit = self.limit(shard.service, deployment or shard.deployment)
        if limit is None:
            return True
        held = self.held_by_others(shard, deployment)
        return held == 0 or held + estimated_tokens(shard.bytes) <= limit

    def is_too_big(self, shard: Shard, deployment: str | None = None) -> bool:
        """Whether a shard's batch alone holds more than its deployment's limit, or another's."""
        limit = self.limit(shard.service, deployment or shard.deployment)
        return limit is not None and estimated_tokens(shard.bytes) > limit

    def learn_from_batch(self, shard: Shard, batch: RemoteBatch) -> None:
        """Record the limit that the headers of a created batch give."""
        if batch.max_enqueued_tokens and shard.deployment:
            self._ledger.quotas.learn(
                shard.service,
                shard.deployment,
                max_enqueued_tokens=batch.max_enqueued_tokens,
                source="header",
            )

    def learn_from_refusal(self, shard: Shard, limit: int | None) -> None:
        """Note the limit that a refusal named, if it named one."""
        if limit and shard.deployment:
            self._ledger.quotas.learn(
                shard.service, shard.deployment, max_enqueued_tokens=limit, source="refusal"
            )
