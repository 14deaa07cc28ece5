"""The table `batches`: the shards, how far each has come, and who drives it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import datetime
from functools import cache
from typing import Any, Unpack

from dbt_enrich.errors import LedgerError, LostOwnershipError
from dbt_enrich.state.connection import Connection, Table, as_text
from dbt_enrich.state.shards import Shard, ShardChanges, Step
from dbt_enrich.state.tables.answers import Answers
from dbt_enrich.state.tables.events import Events
from dbt_enrich.wording import counted

_COLUMNS = tuple(field.name for field in fields(Shard))
# SQL condition: the shard holds no request any more.
IS_CLOSED = "step in (" + ", ".join(f"'{step}'" for step in Step if step.is_closed) + ")"


class Shards(Table):
    """What is claimed and sent, and how far it has come."""

    def __init__(self, connection: Connection, events: Events, answers: Answers) -> None:
        super().__init__(connection)
        self._events = events
        self._answers = answers

    def add(self, shard: Shard, *, detail: Mapping[str, Any] | None = None) -> None:
        """Write a new shard with its first event; join the critical section if one is open."""
        now = self._connection.now()
        values = {name: getattr(shard, name) for name in _COLUMNS}
        values |= {"created_at": now, "updated_at": now}
        marks = ", ".join("?" for _ in _COLUMNS)

        def add() -> None:
            self._connection.write(
                f"insert into batches ({', '.join(_COLUMNS)}) values ({marks})",
                list(values.values()),
            )
            self._events.add(shard.shard, shard.step, shard.owner, detail)

        self._connection.transacted(add)

    def record(
        self,
        shard: Shard,
        step: Step,
        *,
        detail: Mapping[str, Any] | None = None,
        **changes: Unpack[ShardChanges],
    ) -> Shard:
        """Move a shard to a step, with some columns changed, and append the event.

        Args:
            shard: The shard, as its owner knows it.
            step: The step.
            detail: What else the event says.
            changes: Columns to change.

        Raises:
            LostOwnershipError: It belongs to another run now, or is closed; it stays as it is.
        """
        return self._move(shard, step, detail, changes)

    def change(self, shard: Shard, **changes: Unpack[ShardChanges]) -> Shard:
        """Change columns of a shard without a new step, such as the service's counts.

        Raises:
            LostOwnershipError: It belongs to another run now, or is closed; it stays as it is.
        """
        return self._connection.transacted(lambda: self._changed(shard, changes))

    def take_over(self, shard: Shard, owner: str) -> Shard | None:
        """Make a run the owner of a shard; None if it changed hands, or was closed, meanwhile."""
        return self._owned(shard, {"owner": owner})

    def claim_again(
        self, shard: Shard, owner: str, **changes: Unpack[ShardChanges]
    ) -> Shard | None:
        """Take over a shard that was never sent, as if it were claimed now.

        Its requests count among those of today and of this run.
        """
        changed = {**changes, "owner": owner, "created_at": self._connection.now()}
        return self._owned(shard, changed)

    def request_cancel(self, shard: str) -> None:
        """Record that the user wants a shard's batch cancelled, so that no run asks it again."""
        self._set(shard, "cancel_requested_at = :now")

    def forget_input(self, shard: str) -> None:
        """Record that the input file of a closed shard is deleted at the service."""
        self._set(shard, "input_file_id = null")

    def mark_uploads_sought(self, shard: str) -> None:
        """Record that the service was searched for the files of a closed shard's lost uploads."""
        self._set(shard, "uploads_sought = 1")

    def store(
        self,
        shard: Shard,
        *,
        files: Mapping[str, int],
        settle: Callable[[], None] = lambda: None,
        sent_with: str | None = None,
        **changes: Unpack[ShardChanges],
    ) -> Shard:
        """Close a shard whose answers are safe: its files become live in the same transaction.

        Args:
            shard: The shard.
            files: Name and number of answers of each file that holds them.
            settle: Called once the shard is sure to be the run's, before its files are live.
            sent_with: What its requests were sent with, or None if it is unknown.
            changes: Columns to change, such as those that count its tokens.

        Raises:
            LostOwnershipError: It belongs to another run now, or is closed; no file is live.
        """

        def store() -> Shard:
            stored = self._move(shard, Step.STORED, {"files": dict(files)}, changes)
            settle_once()
            for name, answers in files.items():
                self._answers.add(
                    name,
                    task_key=shard.task_key,
                    answers=answers,
                    shard=shard.shard,
                    settings=sent_with,
                )
            return stored

        settle_once = cache(settle)
        return self._connection.transacted(store)

    def get(self, shard: str) -> Shard:
        """Return one shard.

        Raises:
            LedgerError: There is none of that name.
        """
        found = self.find(shard)
        if found is None:
            raise LedgerError(f"the ledger {self._connection.place} has no shard {shard}")
        return found

    def named(self, names: Iterable[str]) -> list[Shard]:
        """Return some shards by their names, oldest first."""
        wanted = list(names)
        if not wanted:
            return []
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
            "select 1 from batches where batch_id = ? or shard = ? limit 1",
            (batch_id, shard),
        )
        return row is not None

    def find(self, shard: str) -> Shard | None:
        """Return one shard, or None if there is none of that name."""
        return next(iter(self._read("shard = ?", (shard,))), None)

    def _read(self, where: str, arguments: Sequence[object]) -> list[Shard]:
        rows = self._connection.read(
            f"select {', '.join(_COLUMNS)} from batches where {where} order by created_at, shard",
            arguments,
        )
        return [
            Shard(
                **{
                    **row,
                    "step": Step(row["step"]),
                    "synchronous": bool(row["synchronous"]),
                    "uploads_sought": bool(row["uploads_sought"]),
                }
            )
            for row in rows
        ]

    def _set(self, shard: str, assignment: str) -> None:
        """Change a column of a shard for any run; `:now` is the current time."""
        self._connection.write(
            f"update batches set {assignment}, updated_at = :now where shard = :shard",
            {"now": self._connection.now(), "shard": shard},
        )

    def _move(
        self, shard: Shard, step: Step, detail: Mapping[str, Any] | None, changes: ShardChanges
    ) -> Shard:
        def move() -> Shard:
            self._update(shard, {**changes, "step": step.value})
            self._events.add(shard.shard, step, shard.owner, detail)
            return self.get(shard.shard)

        return self._connection.transacted(move)

    def _owned(self, shard: Shard, changes: Mapping[str, object]) -> Shard | None:
        """Change a shard that a run takes over from its owner; None if it was too late."""
        with suppress(LostOwnershipError):
            return self._connection.transacted(lambda: self._changed(shard, changes))
        return None

    def _changed(self, shard: Shard, changes: Mapping[str, object]) -> Shard:
        self._update(shard, changes)
        return self.get(shard.shard)

    def _update(self, shard: Shard, changes: Mapping[str, object]) -> None:
        """Change an open shard that still belongs to the owner that the caller knows."""
        values = {**changes, "updated_at": self._connection.now()}
        assignments = ", ".join(f"{name} = ?" for name in values)
        changed = self._connection.write(
            f"update batches set {assignments} where shard = ? and coalesce(owner, '') = ? "
            f"and not {IS_CLOSED} and {self._connection.step_rule}",
            [*values.values(), shard.shard, shard.owner or ""],
        )
        if changed != 1:
            raise _lost(shard, self.get(shard.shard))


def _lost(known: Shard, now: Shard) -> LostOwnershipError:
    """Return the error of a run that moves a shard which is no longer its own."""
    if now.owner == known.owner and not now.is_closed:
        return LostOwnershipError(
            f"the shard {known.shard} of {counted(known.requests, 'request')} stays as it is: the "
            "lease on it was over, as this run had not renewed it in time",
        )
    what = f"was taken over by {now.owner}"
    if now.owner == known.owner:
        what = f"was {now.step} by another run"
    return LostOwnershipError(
        f"the shard {known.shard} of {counted(known.requests, 'request')} {what} while this run "
        "drove it; it is left to that run",
        fix="check that the state directory is on a local disk, and that nothing removes files "
        "in its folder runs",
    )
