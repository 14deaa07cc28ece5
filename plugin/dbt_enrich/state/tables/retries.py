"""The table `retries`: failures of a model that are to be asked once more."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from dbt_enrich.state.connection import Connection


class Retries:
    """Which failures the user wants asked once more."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, enrichment: str, kinds: Iterable[str]) -> None:
        """Record that a model's failures of some kinds until now are to be asked once more."""
        self._connection.write_many(
            "insert into retries (enrichment, kind, at) values (?, ?, ?)",
            [(enrichment, kind, self._connection.now()) for kind in kinds],
        )

    def of(self, enrichment: str) -> dict[str, datetime]:
        """Return until when a model's failures of each kind are to be asked once more."""
        rows = self._connection.read(
            "select kind, max(at) as at from retries where enrichment = ? group by kind",
            (enrichment,),
        )
        return {row["kind"]: datetime.fromisoformat(row["at"]) for row in rows}
