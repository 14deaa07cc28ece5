"""The tables `answers` and `forgotten`: the live files of the answer store, and what was let go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dbt_enrich.state.connection import Table


@dataclass(frozen=True)
class AnswerFile:
    """A row of `answers`: a file of the answer store that is live.

    Attributes:
        name: Its name.
        answers: How many it holds.
        settings: What its requests were sent with, as JSON, or None if that was not recorded.
        claimed_at: When the shard was claimed that it answers, or None if it answers none.
        stored_at: When it was stored.
        requests: How many requests that shard has.
    """

    name: str
    answers: int
    settings: str | None
    claimed_at: str | None
    stored_at: str
    requests: int | None = None


class Answers(Table):
    """The files of the answer store that are live, by task."""

    def add(
        self,
        name: str,
        *,
        task_key: str,
        answers: int,
        shard: str | None = None,
        settings: str | None = None,
    ) -> None:
        """Make a file of the answer store live."""
        self._connection.write(
            "insert into answers (name, task_key, shard, answers, created_at, settings) "
            "values (?, ?, ?, ?, ?, ?) on conflict do nothing",
            (name, task_key, shard, answers, self._connection.now(), settings),
        )

    def live(self, task_key: str) -> dict[str, int]:
        """Return the names of the live files of a task, with how many answers each holds."""
        rows = self._connection.read(
            "select name, answers from answers where task_key = ? order by created_at, name",
            (task_key,),
        )
        return {row["name"]: row["answers"] for row in rows}

    def files(self, task_key: str) -> list[AnswerFile]:
        """Return the live files of a task, in the order of `live`."""
        rows = self._connection.read(
            "select answers.name, answers.answers, answers.settings, "
            "batches.created_at as claimed_at, answers.created_at as stored_at, batches.requests "
            "from answers left join batches using (shard) where answers.task_key = ? "
            "order by answers.created_at, answers.name",
            (task_key,),
        )
        return [AnswerFile(**row) for row in rows]

    def shards(self, task_key: str) -> set[str]:
        """Return the names of the shards whose answers are live, of a task."""
        rows = self._connection.read(
            "select distinct shard from answers where task_key = ? and shard is not null",
            (task_key,),
        )
        return {row["shard"] for row in rows}

    def names(self) -> list[str]:
        """Return the names of all live files."""
        rows = self._connection.read("select name from answers order by name")
        return [row["name"] for row in rows]

    def count(self) -> int:
        """Return how many answers the answer store holds."""
        return int(self._connection.value("select sum(answers) from answers") or 0)

    def forget(self, task_key: str) -> list[str]:
        """Take a task's answers out of the answer store; return the names of their files."""

        def forget() -> list[str]:
            gone = self._connection.read(
                "delete from answers where task_key = ? returning name", (task_key,)
            )
            row = {"task_key": task_key, "at": self._connection.now()}
            self._connection.put("forgotten", row, key=["task_key"])
            return sorted(row["name"] for row in gone)

        return self._connection.transacted(forget)

    def forgotten(self) -> dict[str, datetime]:
        """Return when answers were forgotten, by task key."""
        rows = self._connection.read("select task_key, at from forgotten")
        return {row["task_key"]: datetime.fromisoformat(row["at"]) for row in rows}
