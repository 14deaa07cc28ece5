"""The tables `stops` and `retries`: what is not to be sent, and what is to be asked once more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime

from dbt_enrich.state.connection import Table
from dbt_enrich.state.tables.shards import IS_CLOSED


@dataclass(frozen=True)
class Stop:
    """A row of `stops`: a run that was ended as too many answers failed alike.

    Attributes:
        task_key: The task.
        enrichment: Unique id of the dbt model, or None if it is unknown.
        settings: Fingerprint of what the requests were sent with.
        kind: The kind of failure.
        status: The requests' own HTTP status, or None.
        said: What else the failures have in common.
        failed: How many answers failed so.
        answers: Of how many.
        message: That, with examples.
        began_at: Since when answers were counted.
        at: When the run was stopped; the ledger sets it.
        lifted_at: When the user, or a fix, let the task's requests be sent again, or None.
    """

    task_key: str
    enrichment: str | None
    settings: str
    kind: str
    status: int | None
    said: str
    failed: int
    answers: int
    message: str
    began_at: str = ""
    at: str = ""
    lifted_at: str | None = None


_COLUMNS = ", ".join(field.name for field in fields(Stop))


class Stops(Table):
    """Tasks of which nothing more is sent until a stop is lifted."""

    def add(self, stop: Stop) -> Stop:
        """Record that a task's run is stopped, and have all its batches cancelled; return it.

        The run that drives the batches next carries it out, also after a crash.
        """
        recorded = replace(stop, at=self._connection.now())
        values = [getattr(recorded, field.name) for field in fields(Stop)]

        def add() -> None:
            self._connection.write(
                f"insert into stops ({_COLUMNS}) values ({', '.join('?' for _ in values)})", values
            )
            self._connection.write(
                "update batches set cancel_requested_at = ? "
                f"where task_key = ? and not {IS_CLOSED}",
                (recorded.at, stop.task_key),
            )

        self._connection.transacted(add)
        return recorded

    def of(self, task_key: str) -> list[Stop]:
        """Return the stops of a task, oldest first."""
        rows = self._connection.read(
            f"select {_COLUMNS} from stops where task_key = ? order by id", (task_key,)
        )
        return [Stop(**row) for row in rows]

    def lift(self, *, task_key: str | None = None, enrichment: str | None = None) -> int:
        """Let the requests of a task, or those of a model's tasks, be sent again.

        Returns:
            How many stops were lifted.
        """
        return self._connection.write(
            "update stops set lifted_at = :now where lifted_at is null and (task_key = :task "
            "or enrichment = :enrichment or task_key in ("
            "select task_key from tasks where enrichment = :enrichment union "
            "select task_key from publications where enrichment = :enrichment))",
            {"now": self._connection.now(), "task": task_key, "enrichment": enrichment},
        )


class Retries(Table):
    """Which failures the user wants asked once more."""

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
