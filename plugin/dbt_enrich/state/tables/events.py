"""The tables `events` and `statuses`: when shards came to a step, and batches to a state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dbt_enrich.state.connection import Table, as_text
from dbt_enrich.state.shards import Step


class Events(Table):
    """The steps that shards took; only ever appended to."""

    def add(
        self, shard: str, step: Step, owner: str | None, detail: Mapping[str, Any] | None = None
    ) -> None:
        """Append a step that a shard takes now."""
        self._connection.write(
            "insert into events (at, shard, step, owner, detail) values (?, ?, ?, ?, ?)",
            (
                self._connection.now(),
                shard,
                step.value,
                owner,
                json.dumps(detail) if detail else None,
            ),
        )

    def all(self, shard: str | None = None) -> list[dict[str, Any]]:
        """Return the events, of one shard or of all, in the order in which they happened."""
        where, arguments = ("where shard = ?", (shard,)) if shard else ("", ())
        return self._connection.read(f"select * from events {where} order by id", arguments)

    def last_time(self, shard: str, step: Step) -> datetime | None:
        """Return when a shard last came to a step, or None."""
        row = self._connection.first(
            "select max(at) as at from events where shard = ? and step = ?", (shard, step.value)
        )
        return datetime.fromisoformat(row["at"]) if row and row["at"] else None

    def newest(self) -> int:
        """Return the number of the newest event; it grows with every step of every shard."""
        return int(self._connection.value("select max(id) from events") or 0)

    def shards_without_next(self, step: Step, expected: Step) -> list[str]:
        """Return the shards that took a step which was not followed by the one expected next."""
        rows = self._connection.read(
            """
            select distinct shard
            from (
                select shard, step, lead(step) over (partition by shard order by id) as next
                from events
            ) as steps
            where step = ? and (next is null or next <> ?)
            """,
            (step.value, expected.value),
        )
        return [row["shard"] for row in rows]


class Statuses(Table):
    """When batches came to the states of the service, by shard."""

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
