"""The table `token_limits`: how many tokens a deployment's batches may hold at once, as learned."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from dbt_enrich.state.connection import Table


@dataclass(frozen=True)
class TokenLimit:
    """A row of `token_limits`.

    Attributes:
        max_enqueued_tokens: The limit.
        source: Where it is from: `header` or `refusal`.
        age: How long ago it was learned.
    """

    max_enqueued_tokens: int
    source: str
    age: timedelta


class Quotas(Table):
    """The token limits of deployments that a service has named."""

    def learn(
        self, service: str, deployment: str, *, max_enqueued_tokens: int, source: str
    ) -> None:
        """Record how many tokens a deployment's batches may hold at once.

        Args:
            service: The service's id.
            deployment: The deployment.
            max_enqueued_tokens: The limit.
            source: Where it is from: `header` or `refusal`.
        """
        row = {
            "service": service,
            "deployment": deployment,
            "max_enqueued_tokens": max_enqueued_tokens,
            "source": source,
            "learned_at": self._connection.now(),
        }
        self._connection.put("token_limits", row, key=["service", "deployment"])

    def get(self, service: str, deployment: str) -> TokenLimit | None:
        """Return the limit that was learned last, or None."""
        row = self._connection.first(
            "select * from token_limits where service = ? and deployment = ?",
            (service, deployment),
        )
        if row is None:
            return None
        age = self._connection.clock() - datetime.fromisoformat(row["learned_at"])
        return TokenLimit(row["max_enqueued_tokens"], row["source"], age)
