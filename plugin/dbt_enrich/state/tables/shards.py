"""The table `batches`: the shards, how far each has come, and who drives it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Unpack

from dbt_enrich.errors import LedgerError
from dbt_enrich.state.connection import Connection, as_text
from dbt_enrich.state.shards import Shard, ShardChanges, Step
from dbt_enrich.state.tables.answers import Answers
from dbt_enrich.state.tables.events import Events

_COLUMNS = tuple(field.name for field in fields(Shard))
# SQL condition: the shard holds no request any more.
IS_CLOSED = "step in (" + ", ".join(f"'{step}'" for step in Step if step.is_closed) + ")"


class Shards:
    """What is claimed and sent, and how far it has come."""

    def __init__(self, connection: Connection, events: Events, answers: Answers) -> None:
        self._connection = connection
        self._events = events
        self._answers = answers

    def add(self, shard: Shard, *, detail: Mapping[str, Any] | None = None) -> None:
        """Write a new shard with its first event; join the critical section if one is open."""
        now = self._connection.now()
        values = {name: getattr(shard, name) for name in _COLUMNS}
        values |= {"created_at": now, "updated_at": now}
        marks = ", ".join("?" for _ in _COLUMNS)
        with self._connection.transaction():
            self._connection.write(
                f"insert into batches ({', '.join(_COLUMNS)}) values ({marks})",
                list(values.values()),
            )
            self._events.add(shard.shard, shard.step, shard.owner, detail)

    def record(
        self,
        shard: str,
        step: Step,
        *,
        detail: Mapping[str, Any] | None = None,
        **changes: Unpack[ShardChanges],
    ) -> Shard:
        """Move a shard to a step, with some columns changed, and append the event."""
        return self._move(shard, step, detail, changes)

    def change(self, shard: str, **changes: Unpack[ShardChanges]) -> Shard:
        """Change columns of a shard without a new step, such as the service's counts."""
        with self._connection.transaction():
            self._update(shard, changes)
            return self.get(shard)

    def request_cancel(self, shard: str) -> None:
        """Record that the user wants a shard's batch cancelled, so that no run asks it again."""
        self._update(shard, {"cancel_requested_at": self._connection.now()})

    def take_over(self, shard: str, *, previous: str | None, owner: str) -> bool:
        """Make a run the shard's owner if it still belongs to the previous one.

        Returns:
            Whether it did.
        """
        changed = self._connection.write(
            "update batches set owner = ?, updated_at = ? where shard = ? and owner is ?",
            (owner, self._connection.now(), shard, previous),
        )
        return changed == 1

    def claim_again(self, shard: str, *, previous: str | None, owner: str) -> bool:
        """Take over a shard that was never sent, as if it were claimed now.

        Its requests count among those of today and of this run.
        """
        with self._connection.transaction():
            taken = self.take_over(shard, previous=previous, owner=owner)
            if taken:
                self._update(shard, {"created_at": self._connection.now()})
        return taken

    def store(
        self,
        shard: str,
        *,
        files: Mapping[str, int],
        sent_with: str | None = None,
        **changes: Unpack[ShardChanges],
    ) -> Shard:
        """Close a shard whose answers are safe: its files become live in the same transaction.

        Args:
            shard: The shard.
            files: Name and number of answers of each file that holds them.
            sent_with: What its requests were sent with, or None if it is unknown.
            changes: Columns to change, such as those that count its tokens.
        """
        with self._connection.transaction():
            task_key = self.get(shard).task_key
            for name, answers in files.items():
                self._answers.add(
                    name, task_key=task_key, answers=answers, shard=shard, settings=sent_with
                )
            return self._move(shard, Step.STORED, {"files": dict(files)}, changes)

    def get(self, shard: str) -> Shard:
        """Return one shard.

        Raises:
            LedgerError: There is none of that name.
        """
        found = self._read("shard = ?", (shard,))
        if not found:
            raise LedgerError(f"the ledger {self._connection.path} has no shard {shard}")
        return found[0]

    def named(self, names: Iterable[str]) -> list[Shard]:
        """Return some shards by their names, oldest first."""
        wanted = list(names)
        return self._read(f"shard in ({', '.join('?' for _ in wanted)})", wanted)

    def all(self, *, since: datetime | None = None, enrichment: str | None = None) -> list[Shard]:
        """Return the shards of a model, or of all, that were made since a time, oldest first."""
        conditions, arguments = ["true"], []
        if since is not None:
            conditions.append("created_at >= ?")
            arguments.append(as_text(since))
        if enrichment is not None:
            conditions.append("enrichment = ?")
            arguments.append(enrichment)
        return self._read(" and ".join(conditions), arguments)

    def open(self, *, service: str | None = None, task_key: str | None = None) -> list[Shard]:
        """Return the shards that still hold requests, oldest first."""
        conditions, arguments = [f"not {IS_CLOSED}"], []
        for column, value in (("service", service), ("task_key", task_key)):
            if value is not None:
                conditions.append(f"{column} = ?")
                arguments.append(value)
        return self._read(" and ".join(conditions), arguments)

    def closed_with_input(self, service: str) -> list[Shard]:
        """Return the closed shards of a service whose input file is not known to be deleted."""
        return self._read(f"{IS_CLOSED} and input_file_id is not null and service = ?", (service,))

    def knows(self, *, batch_id: str | None = None, shard: str | None = None) -> bool:
        """Whether a batch or a shard is in the ledger."""
        row = self._connection.first(
            "select 1 from batches where batch_id is ?1 and ?1 is not null or shard is ?2",
            (batch_id, shard),
        )
        return row is not None

    def _read(self, where: str, arguments: Sequence[object]) -> list[Shard]:
        rows = self._connection.read(
            f"select {', '.join(_COLUMNS)} from batches where {where} order by created_at, shard",
            arguments,
        )
        return [
            Shard(
                **{
                    **dict(row),
                    "step": Step(row["step"]),
                    "synchronous": bool(row["synchronous"]),
                    "uploads_sought": bool(row["uploads_sought"]),
                }
            )
            for row in rows
        ]

    def _move(
        self, shard: str, step: Step, detail: Mapping[str, Any] | None, changes: ShardChanges
    ) -> Shard:
        with self._connection.transaction():
            self._update(shard, {**changes, "step": step.value})
            moved = self.get(shard)
            self._events.add(shard, step, moved.owner, detail)
        return moved

    def _update(self, shard: str, changes: Mapping[str, object]) -> None:
        values = {**changes, "updated_at": self._connection.now()}
        assignments = ", ".join(f"{name} = ?" for name in values)
        with self._connection.transaction():
            changed = self._connection.write(
                f"update batches set {assignments} where shard = ?", [*values.values(), shard]
            )
            if changed != 1:
                raise sqlite3.DatabaseError(f"the row of the shard {shard} is not found")
