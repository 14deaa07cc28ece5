"""What was intended and what happened: one row a shard, one event a step, in a database.

Every remote step is written before it is taken (`uploading`, `creating`) and after (`uploaded`,
`submitted`), so that the next run knows after a crash what may have happened.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TypeVar

from dbt_enrich.state.connection import Connection
from dbt_enrich.state.sqlite_connection import SQLiteConnection
from dbt_enrich.state.tables.answers import Answers
from dbt_enrich.state.tables.contents import Contents
from dbt_enrich.state.tables.events import Events, Statuses
from dbt_enrich.state.tables.publications import Publications
from dbt_enrich.state.tables.quotas import Quotas
from dbt_enrich.state.tables.shards import Shards
from dbt_enrich.state.tables.stops import Retries, Stops
from dbt_enrich.state.tables.tasks import Tasks

T = TypeVar("T")

# The tables whose rows are copied from one ledger to another, with the order in which they came.
_COPIED = {
    "tasks": "task_key",
    "batches": "shard",
    "answers": "name",
    "events": "id",
    "statuses": "1, 2",
    "token_limits": "1, 2",
    "publications": "enrichment",
    "retries": "id",
    "forgotten": "task_key",
    "stops": "id",
}


class Ledger:
    """A connection to the ledger, with its tables; one for each thread that uses it.

    Args:
        place: A SQLite file, made where it is not there, or a connection to where the ledger is.
        clock: The current time in UTC, as a SQLite file is written.

    Attributes:
        shards: What is claimed and sent, and how far it has come.
        events: Each step of each shard.
        statuses: Since when batches have been in each state of the service.
        tasks: What was asked.
        answers: The live files of the answer store.
        quotas: The token limits of deployments that were learned.
        publications: What each model's table was made of last.
        contents: What published tables hold.
        stops: Runs that were ended as too many answers failed alike.
        retries: Failures that are to be asked once more.

    Raises:
        LedgerError: It cannot be opened, is damaged, or is from a newer version.
    """

    def __init__(
        self, place: Path | Connection, *, clock: Callable[[], datetime] | None = None
    ) -> None:
        if isinstance(place, Path):
            place = SQLiteConnection(place, clock or (lambda: datetime.now(UTC)))
        self._connection = place
        self.events = Events(self._connection)
        self.answers = Answers(self._connection)
        self.shards = Shards(self._connection, self.events, self.answers)
        self.statuses = Statuses(self._connection)
        self.tasks = Tasks(self._connection)
        self.quotas = Quotas(self._connection)
        self.publications = Publications(self._connection)
        self.contents = Contents(self._connection)
        self.stops = Stops(self._connection)
        self.retries = Retries(self._connection)

    @property
    def id(self) -> str:
        """What the ledger was named as it was made; empty where it is one machine's."""
        return self._connection.ledger_id

    def seconds_ahead(self) -> float:
        """Return by how many seconds the ledger's clock is ahead of this machine's, about."""
        return self._connection.seconds_ahead()

    def is_pooled(self) -> bool:
        """Whether a pooler stands between this process and the ledger's server."""
        return self._connection.is_pooled()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever asked or answered."""
        return not any(
            self._connection.first(f"select 1 as one from {table} limit 1")
            for table in ("tasks", "batches", "answers", "publications")
        )

    def copy_to(
        self, other: Ledger, renamed: Mapping[str, str], *, but_not: Collection[str] = ()
    ) -> None:
        """Write all that this ledger knows into an empty one, in one transaction.

        What published tables hold is left out: the next run of each model finds it out.

        Args:
            other: The empty ledger.
            renamed: The names there of files of answers that have another one.
            but_not: Tables that are left out.
        """
        # What is in flight comes before the answers: what is stored meanwhile is in both.
        tables = {
            table: self._connection.read(f"select * from {table} order by {key}")
            for table, key in _COPIED.items()
            if table not in but_not
        }
        for row in tables["answers"]:
            row["name"] = renamed.get(row["name"], row["name"])

        def write() -> None:
            for table, rows in tables.items():
                for row in rows:
                    # A database counts its own numbers.
                    values = {name: value for name, value in row.items() if name != "id"}
                    marks = ", ".join("?" for _ in values)
                    other._connection.write(
                        f"insert into {table} ({', '.join(values)}) values ({marks})",
                        list(values.values()),
                    )

        other._connection.exclusively(write)

    def running(self) -> list[str]:
        """Return the machine of each run that holds a lease of a shared ledger."""
        if not self.id:
            return []
        found = self._connection.read(
            "select host from leases where expires_at > extract(epoch from clock_timestamp())"
        )
        return sorted(row["host"] for row in found)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def critical_section(self) -> AbstractContextManager[None]:
        """Hold the ledger for a claim: no other run claims or takes over meanwhile.

        What is written inside is committed at the end, or undone if an error leaves the block.
        """
        return self._connection.critical_section()

    def exclusively(self, work: Callable[[], T]) -> T:
        """Return what `work` does in a critical section.

        Args:
            work: What reads and writes. Where a shared ledger was lost meanwhile, it is called
                again: what it wrote is undone.
        """
        return self._connection.exclusively(work)

    def enrichments(self) -> set[str]:
        """Return the unique ids of the dbt models that asked or were published."""
        rows = self._connection.read(
            "select enrichment from tasks union select enrichment from publications "
            "union select enrichment from batches where enrichment is not null"
        )
        return {row["enrichment"] for row in rows}

    def askers(self, task_key: str) -> set[str]:
        """Return the unique ids of the models that asked a task, or whose tables are made of it."""
        rows = self._connection.read(
            "select enrichment from tasks where task_key = :task "
            "union select enrichment from publications where task_key = :task "
            "union select enrichment from batches where task_key = :task "
            "and enrichment is not null",
            {"task": task_key},
        )
        return {row["enrichment"] for row in rows}
