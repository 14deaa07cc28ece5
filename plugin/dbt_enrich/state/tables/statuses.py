"""The table `statuses`: since when each batch has been in each state of the service."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from dbt_enrich.state.connection import Connection, as_text


class Statuses:
    """When batches came to the states of the service, by shard."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, shard: str, times: Mapping[str, datetime | None]) -> None:
        """Record since when a shard's batch has been in some states; what is known stays.

        Args:
            shard: The shard.
            times: States of the service with when they began; None is now.
        """
        known = self.of(shard)
        fresh = {status: at for status, at in times.items() if status not in known}
        if not fresh:
            return
        now = self._connection.now()
        self._connection.write_many(
            "insert into statuses values (?, ?, ?) on conflict do nothing",
            [(shard, status, as_text(at) if at else now) for status, at in fresh.items()],
        )

    def of(self, shard: str) -> dict[str, datetime]:
        """Return since when a shard's batch has been in each state that was recorded."""
        rows = self._connection.read("select status, at from statuses where shard = ?", (shard,))
        return {row["status"]: datetime.fromisoformat(row["at"]) for row in rows}
