"""What was intended and what happened: one row a shard, one event a step, in SQLite.

SQLite in WAL, because other processes read it while `dbt run` holds the DuckDB file. Every remote
step is written before it is taken (`uploading`, `creating`) and after (`uploaded`, `submitted`),
so that whoever comes after a crash knows what may have happened.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from dbt_enrich.errors import LedgerError
from dbt_enrich.state.migrations import migrate
from dbt_enrich.state.shards import CLOSED_STEPS, Publication, Shard, Step, Task

_BUSY_SECONDS = 120.0
_REFUSAL_AGE = timedelta(days=1)


# The status of a batch that the service no longer knows.
GONE = "missing"


# Among a publication's counts, beside the statuses: rows that are `done` by a previous version.
KEPT = "kept"


@dataclass(frozen=True)
class AnswerFile:
    """A row of `answers`: a file of the answer store that is live.

    Attributes:
        name: Its name.
        answers: How many it holds.
        settings: What its requests were sent with, as JSON, or None if nobody noted it.
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


@dataclass(frozen=True)
class Stop:
    """A row of `stops`: a run that was ended as too many answers failed alike.

    Attributes:
        task_key: The task.
        enrichment: Unique id of the dbt model, or None if nobody knows.
        settings: Fingerprint of what the requests were sent with.
        kind: The kind of failure.
        status: The requests' own HTTP status, or None.
        said: What else the failures have in common.
        failed: How many answers failed so.
        answers: Of how many.
        message: That, with examples.
        began_at: Since when answers were counted.
        at: When the run was stopped; the ledger sets it.
        lifted_at: When somebody, or a fix, let the task's requests be sent again, or None.
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


_COLUMNS = tuple(field.name for field in fields(Shard))


class Ledger:
    """A connection to the ledger; one for each thread that uses it.

    Args:
        path: The SQLite file, made where it is not there.
        clock: The current time in UTC.

    Raises:
        LedgerError: It cannot be opened, is damaged, or is from a newer version.
    """

    def __init__(self, path: Path, *, clock: Callable[[], datetime] | None = None) -> None:
        self._path = path
        self._clock = clock or (lambda: datetime.now(UTC))
        try:
            path.touch(mode=0o600)
            self._sqlite = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            self._sqlite.row_factory = sqlite3.Row
            self._sqlite.execute("pragma journal_mode = wal")
            self._sqlite.execute("pragma synchronous = full")
            _refuse_damage(self._sqlite)
            migrate(self._sqlite)
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            raise _unusable(path, "opened", error) from error

    def close(self) -> None:
        """Close the connection."""
        self._sqlite.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def critical_section(self) -> Iterator[None]:
        """Hold the ledger for a claim: nobody else claims or takes over meanwhile.

        What is written inside is committed at the end, or undone if an error leaves the block.
        """
        with self._named_errors():
            self._sqlite.execute("begin immediate")
            try:
                yield
                self._sqlite.execute("commit")
            except BaseException:
                # On a full disk SQLite has rolled back by itself.
                if self._sqlite.in_transaction:
                    self._sqlite.execute("rollback")
                raise

    def add_task(
        self, task_key: str, *, enrichment: str, document: Mapping[str, Any], outputs: object
    ) -> None:
        """Note a task once, so that its answers can be read whatever the YAML says later."""
        with self._named_errors():
            self._sqlite.execute(
                "insert into tasks values (?, ?, ?, ?, ?) on conflict do nothing",
                (task_key, enrichment, json.dumps(document), json.dumps(outputs), self._now()),
            )

    def task_outputs(self, task_key: str) -> list[dict[str, Any]] | None:
        """Return the output columns that a task was noted with, or None if it is unknown."""
        row = self._first("select outputs from tasks where task_key = ?", (task_key,))
        return None if row is None else json.loads(row["outputs"])

    def add(self, shard: Shard, *, detail: Mapping[str, Any] | None = None) -> None:
        """Write a new shard with its first event; join the critical section if one is open."""
        now = self._now()
        values = {name: getattr(shard, name) for name in _COLUMNS}
        values |= {"created_at": now, "updated_at": now}
        marks = ", ".join("?" for _ in _COLUMNS)
        with self._write():
            self._sqlite.execute(
                f"insert into batches ({', '.join(_COLUMNS)}) values ({marks})",
                [values[name] for name in _COLUMNS],
            )
            self._event(shard.shard, shard.step, shard.owner, detail)

    def record(
        self, shard: str, step: Step, *, detail: Mapping[str, Any] | None = None, **changes: object
    ) -> Shard:
        """Move a shard to `step`, with the given columns changed, and append the event."""
        with self._write():
            self._update(shard, {**changes, "step": step.value})
            self._event(shard, step, self._owner(shard), detail)
        return self.shard(shard)

    def note(self, shard: str, **changes: object) -> Shard:
        """Change columns of a shard without a new step, such as the service's counts."""
        with self._write():
            self._update(shard, changes)
        return self.shard(shard)

    def take_over(self, shard: str, *, former: str | None, owner: str) -> bool:
        """Make `owner` the shard's owner if it still belongs to `former`; say whether it worked."""
        with self._write():
            cursor = self._sqlite.execute(
                "update batches set owner = ?, updated_at = ? where shard = ? and owner is ?",
                (owner, self._now(), shard, former),
            )
        return cursor.rowcount == 1

    def claim_again(self, shard: str, *, former: str | None, owner: str) -> bool:
        """Take over a shard that was never sent, as if it were claimed now.

        Its requests count among those of today and of this run.
        """
        with self._write():
            taken = self.take_over(shard, former=former, owner=owner)
            if taken:
                self._sqlite.execute(
                    "update batches set created_at = ? where shard = ?", (self._now(), shard)
                )
        return taken

    def add_answers(
        self,
        name: str,
        *,
        task_key: str,
        answers: int,
        shard: str | None = None,
        settings: str | None = None,
    ) -> None:
        """Make a file of the answer store live."""
        with self._write():
            self._sqlite.execute(
                "insert into answers (name, task_key, shard, answers, created_at, settings) "
                "values (?, ?, ?, ?, ?, ?) on conflict do nothing",
                (name, task_key, shard, answers, self._now(), settings),
            )

    def store(
        self,
        shard: str,
        *,
        files: Mapping[str, int],
        tokens: Mapping[str, int | None],
        settings: str | None = None,
    ) -> Shard:
        """Close a shard whose answers are safe: its files become live in the same transaction.

        Args:
            shard: The shard.
            files: Name and number of answers of each file that holds them.
            tokens: The columns that count its tokens.
            settings: What its requests were sent with, or None if nobody knows.
        """
        with self._write():
            row = self.shard(shard)
            for name, answers in files.items():
                self.add_answers(
                    name, task_key=row.task_key, answers=answers, shard=shard, settings=settings
                )
            self._update(shard, {**tokens, "step": Step.STORED.value})
            self._event(shard, Step.STORED, row.owner, {"files": dict(files)})
        return self.shard(shard)

    def shard(self, shard: str) -> Shard:
        """Return one shard.

        Raises:
            LedgerError: There is none of that name.
        """
        found = self._shards("where shard = ?", (shard,))
        if not found:
            raise LedgerError(f"the ledger {self._path} has no shard {shard}")
        return found[0]

    def enrichments(self) -> set[str]:
        """Return the unique ids of the dbt models that asked or were published."""
        rows = self._read(
            "select enrichment from tasks union select enrichment from publications "
            "union select enrichment from batches where enrichment is not null"
        )
        return {row["enrichment"] for row in rows}

    def askers(self, task_key: str) -> set[str]:
        """Return the unique ids of the models that asked a task, or whose tables are made of it."""
        rows = self._read(
            "select enrichment from tasks where task_key = :task "
            "union select enrichment from publications where task_key = :task "
            "union select enrichment from batches where task_key = :task "
            "and enrichment is not null",
            {"task": task_key},
        )
        return {row["enrichment"] for row in rows}

    def all_shards(
        self, *, since: datetime | None = None, enrichment: str | None = None
    ) -> list[Shard]:
        """Return the shards of a model, or of all, that were made since a time, oldest first."""
        conditions, arguments = ["true"], []
        if since is not None:
            conditions.append("created_at >= ?")
            arguments.append(_text(since))
        if enrichment is not None:
            conditions.append("enrichment = ?")
            arguments.append(enrichment)
        return self._shards(f"where {' and '.join(conditions)}", arguments)

    def task(self, task_key: str) -> Task | None:
        """Return one task, or None if it is unknown."""
        return next(iter(self._tasks("where task_key = ?", (task_key,))), None)

    def tasks(self, enrichment: str | None = None) -> list[Task]:
        """Return the tasks of a model, or of all, newest first."""
        if enrichment is None:
            return self._tasks("")
        return self._tasks("where enrichment = ?", (enrichment,))

    def _tasks(self, where: str, arguments: Sequence[object] = ()) -> list[Task]:
        rows = self._read(
            f"select * from tasks {where} order by first_seen_at desc, task_key", arguments
        )
        return [
            Task(
                task_key=row["task_key"],
                enrichment=row["enrichment"],
                document=json.loads(row["document"]),
                outputs=json.loads(row["outputs"]),
                first_seen_at=row["first_seen_at"],
            )
            for row in rows
        ]

    def shards(self, names: Iterable[str]) -> list[Shard]:
        """Return the named shards, oldest first."""
        wanted = list(names)
        marks = ", ".join("?" for _ in wanted)
        return self._shards(f"where shard in ({marks})", wanted)

    def open_shards(
        self, *, service: str | None = None, task_key: str | None = None
    ) -> list[Shard]:
        """Return the shards that still hold requests, oldest first."""
        closed = ", ".join(f"'{step}'" for step in CLOSED_STEPS)
        where = f"where step not in ({closed})"
        arguments = []
        for column, value in (("service", service), ("task_key", task_key)):
            if value is not None:
                where += f" and {column} = ?"
                arguments.append(value)
        return self._shards(where, arguments)

    def shards_to_forget(self, service: str) -> list[Shard]:
        """Return the closed shards of a service whose input file may still be there."""
        closed = ", ".join(f"'{step}'" for step in CLOSED_STEPS)
        return self._shards(
            f"where step in ({closed}) and input_file_id is not null and service = ?", [service]
        )

    def shards_with_lost_uploads(self, service: str) -> list[Shard]:
        """Return the closed shards of which the service may have files whose ids nobody knows."""
        closed = ", ".join(f"'{step}'" for step in CLOSED_STEPS)
        return self._shards(
            f"""
            where step in ({closed}) and service = ? and not uploads_sought and shard in (
                select shard
                from (
                    select shard, step, lead(step) over (partition by shard order by id) as next
                    from events
                )
                where step = '{Step.UPLOADING}' and next is not '{Step.UPLOADED}'
            )
            """,
            [service],
        )

    def knows(self, *, batch_id: str | None = None, shard: str | None = None) -> bool:
        """Whether a batch or a shard is in the ledger."""
        row = self._first(
            "select 1 from batches where batch_id is ?1 and ?1 is not null or shard is ?2",
            (batch_id, shard),
        )
        return row is not None

    def learn_token_limit(
        self, service: str, deployment: str, *, max_enqueued_tokens: int, source: str
    ) -> None:
        """Note how many tokens a deployment's batches may hold at once.

        Args:
            service: The service's id.
            deployment: The deployment.
            max_enqueued_tokens: The limit.
            source: What told it: `header` or `refusal`.
        """
        with self._write():
            self._sqlite.execute(
                "insert or replace into token_limits values (?, ?, ?, ?, ?)",
                (service, deployment, max_enqueued_tokens, source, self._now()),
            )

    def token_limit(self, service: str, deployment: str) -> int | None:
        """Return the limit that was learned last, or None.

        One that only a refusal told is forgotten after a day: it may have been raised, and no
        reply would say so.
        """
        row = self._first(
            "select * from token_limits where service = ? and deployment = ?",
            (service, deployment),
        )
        if row is None:
            return None
        age = self._clock() - datetime.fromisoformat(row["learned_at"])
        if row["source"] == "refusal" and age > _REFUSAL_AGE:
            return None
        return int(row["max_enqueued_tokens"])

    def request_cancel(self, shard: str) -> Shard:
        """Note that the user wants a shard's batch cancelled, so that no run asks it again."""
        return self.note(shard, cancel_requested_at=self._now())

    def stop(self, stop: Stop) -> Stop:
        """Note that a task's run is stopped, and have all its batches cancelled; return the note.

        Whoever drives the batches next carries it out, also after a crash.
        """
        noted = replace(stop, at=self._now())
        columns = [field.name for field in fields(Stop)]
        closed = ", ".join(f"'{step}'" for step in CLOSED_STEPS)
        with self._write():
            self._sqlite.execute(
                f"insert into stops ({', '.join(columns)}) "
                f"values ({', '.join('?' for _ in columns)})",
                [getattr(noted, name) for name in columns],
            )
            self._sqlite.execute(
                "update batches set cancel_requested_at = ? "
                f"where task_key = ? and step not in ({closed})",
                (noted.at, stop.task_key),
            )
        return noted

    def stops(self, task_key: str) -> list[Stop]:
        """Return the stops of a task, oldest first."""
        columns = ", ".join(field.name for field in fields(Stop))
        rows = self._read(
            f"select {columns} from stops where task_key = ? order by id", (task_key,)
        )
        return [Stop(**dict(row)) for row in rows]

    def lift_stops(self, *, task_key: str | None = None, enrichment: str | None = None) -> int:
        """Let the requests of a task, or those of a model's tasks, be sent again.

        Returns:
            How many stops were lifted.
        """
        with self._write():
            cursor = self._sqlite.execute(
                "update stops set lifted_at = ?1 where lifted_at is null and (task_key = ?2 "
                "or enrichment = ?3 or task_key in ("
                "select task_key from tasks where enrichment = ?3 union "
                "select task_key from publications where enrichment = ?3))",
                (self._now(), task_key, enrichment),
            )
        return cursor.rowcount

    def note_publication(self, publication: Publication) -> None:
        """Note what a model's table was made of; `published_at` is set to now."""
        values = publication
        with self._write():
            self._sqlite.execute(
                "insert or replace into publications (enrichment, name, model, task_key, counts, "
                "published_at, relation, max_attempts, ask_again, target) "
                "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    values.enrichment,
                    values.name,
                    values.model,
                    values.task_key,
                    json.dumps(values.counts),
                    self._now(),
                    values.relation,
                    values.max_attempts,
                    json.dumps(values.ask_again),
                    values.target,
                ),
            )

    def publications(self) -> list[Publication]:
        """Return what each model's table was made of last, by unique id."""
        rows = self._read("select * from publications order by enrichment")
        return [
            Publication(
                **{
                    **dict(row),
                    "counts": json.loads(row["counts"]),
                    "ask_again": tuple(json.loads(row["ask_again"])),
                }
            )
            for row in rows
        ]

    def note_statuses(self, shard: str, times: Mapping[str, datetime | None]) -> None:
        """Note since when a shard's batch has been in some states; what is known stays.

        Args:
            shard: The shard.
            times: States of the service with when they began; None is now.
        """
        known = self.statuses(shard)
        fresh = {status: at for status, at in times.items() if status not in known}
        if not fresh:
            return
        with self._write():
            self._sqlite.executemany(
                "insert into statuses values (?, ?, ?) on conflict do nothing",
                [(shard, status, _text(at) if at else self._now()) for status, at in fresh.items()],
            )

    def statuses(self, shard: str) -> dict[str, datetime]:
        """Return since when a shard's batch has been in each state that was noted."""
        rows = self._read("select status, at from statuses where shard = ?", (shard,))
        return {row["status"]: datetime.fromisoformat(row["at"]) for row in rows}

    def request_retry(self, enrichment: str, kinds: Iterable[str]) -> None:
        """Note that a model's failures of some kinds until now are to be asked once more."""
        with self._write():
            self._sqlite.executemany(
                "insert into retries (enrichment, kind, at) values (?, ?, ?)",
                [(enrichment, kind, self._now()) for kind in kinds],
            )

    def retries(self, enrichment: str) -> dict[str, datetime]:
        """Return until when a model's failures of each kind are to be asked once more."""
        rows = self._read(
            "select kind, max(at) as at from retries where enrichment = ? group by kind",
            (enrichment,),
        )
        return {row["kind"]: datetime.fromisoformat(row["at"]) for row in rows}

    def forget_answers(self, task_key: str) -> list[str]:
        """Take a task's answers out of the answer store; return the names of their files."""
        with self._write():
            names = list(self.live_answers(task_key))
            self._sqlite.execute("delete from answers where task_key = ?", (task_key,))
            self._sqlite.execute(
                "insert or replace into forgotten values (?, ?)", (task_key, self._now())
            )
        return names

    def forgotten_at(self, task_key: str) -> datetime | None:
        """Return when a task's answers were forgotten, or None."""
        row = self._first("select at from forgotten where task_key = ?", (task_key,))
        return None if row is None else datetime.fromisoformat(row["at"])

    def forgotten(self) -> dict[str, datetime]:
        """Return when answers were forgotten, by task key."""
        rows = self._read("select task_key, at from forgotten")
        return {row["task_key"]: datetime.fromisoformat(row["at"]) for row in rows}

    def all_answer_names(self) -> list[str]:
        """Return the names of all live answer files."""
        rows = self._read("select name from answers order by name")
        return [row["name"] for row in rows]

    def count_answers(self) -> int:
        """Return how many answers the answer store holds."""
        ((answers,),) = self._read("select sum(answers) from answers")
        return int(answers or 0)

    def last_event(self) -> int:
        """Return the number of the newest event; it grows with every step of every shard."""
        ((newest,),) = self._read("select max(id) from events")
        return int(newest or 0)

    def live_answers(self, task_key: str) -> dict[str, int]:
        """Return the names of the live answer files of a task, with how many answers each holds."""
        rows = self._read(
            "select name, answers from answers where task_key = ? order by created_at, name",
            (task_key,),
        )
        return {row["name"]: row["answers"] for row in rows}

    def answer_files(self, task_key: str) -> list[AnswerFile]:
        """Return the live answer files of a task, in the order of `live_answers`."""
        rows = self._read(
            "select answers.name, answers.answers, answers.settings, "
            "batches.created_at as claimed_at, answers.created_at as stored_at, batches.requests "
            "from answers left join batches using (shard) where answers.task_key = ? "
            "order by answers.created_at, answers.name",
            (task_key,),
        )
        return [AnswerFile(**dict(row)) for row in rows]

    def events(self, shard: str | None = None) -> list[dict[str, Any]]:
        """Return the events, of one shard or of all, in the order in which they happened."""
        where, arguments = ("where shard = ?", (shard,)) if shard else ("", ())
        rows = self._read(f"select * from events {where} order by id", arguments)
        return [dict(row) for row in rows]

    def when(self, shard: str, step: Step) -> datetime | None:
        """Return when a shard last came to a step, or None."""
        row = self._first(
            "select max(at) as at from events where shard = ? and step = ?", (shard, step.value)
        )
        return datetime.fromisoformat(row["at"]) if row and row["at"] else None

    def _shards(self, where: str, arguments: Sequence[object]) -> list[Shard]:
        rows = self._read(
            f"select {', '.join(_COLUMNS)} from batches {where} order by created_at, shard",
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

    def _owner(self, shard: str) -> str | None:
        row = self._first("select owner from batches where shard = ?", (shard,))
        return None if row is None else row["owner"]

    def _update(self, shard: str, changes: Mapping[str, object]) -> None:
        values = {**changes, "updated_at": self._now()}
        unknown = set(values) - set(_COLUMNS)
        if unknown:
            raise ValueError(f"batches has no column {', '.join(sorted(unknown))}")
        assignments = ", ".join(f"{name} = ?" for name in values)
        cursor = self._sqlite.execute(
            f"update batches set {assignments} where shard = ?", [*values.values(), shard]
        )
        if cursor.rowcount != 1:
            raise sqlite3.DatabaseError(f"the row of the shard {shard} is not found")

    def _event(
        self, shard: str, step: Step, owner: str | None, detail: Mapping[str, Any] | None
    ) -> None:
        self._sqlite.execute(
            "insert into events (at, shard, step, owner, detail) values (?, ?, ?, ?, ?)",
            (self._now(), shard, step.value, owner, json.dumps(detail) if detail else None),
        )

    @contextmanager
    def _write(self) -> Iterator[None]:
        """Run a block in its own transaction, or in the critical section that is open."""
        if self._sqlite.in_transaction:
            with self._named_errors():
                yield
            return
        with self.critical_section():
            yield

    def _read(
        self, sql: str, arguments: Sequence[object] | Mapping[str, object] = ()
    ) -> list[sqlite3.Row]:
        with self._named_errors():
            return self._sqlite.execute(sql, arguments).fetchall()

    def _first(self, sql: str, arguments: Sequence[object] = ()) -> sqlite3.Row | None:
        return next(iter(self._read(sql, arguments)), None)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise _unusable(self._path, "read or written", error) from error

    def _now(self) -> str:
        return _text(self._clock())


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _refuse_damage(connection: sqlite3.Connection) -> None:
    """Raise where the file is damaged.

    An index that hides an answer from its reader would have it asked, and paid for, once more. The
    check takes 20 milliseconds for ten thousand shards.
    """
    ((found,),) = connection.execute("pragma integrity_check(1)").fetchall()
    if found != "ok":
        raise sqlite3.DatabaseError(found)


def _unusable(path: Path, what: str, error: Exception) -> LedgerError:
    return LedgerError(
        f"the ledger {path} cannot be {what} ({error})",
        fix="check that the disk has room and that the state directory is on a local disk, then "
        "run again. If the file is damaged, move it away: batches at the service are found "
        "again by listing",
    )
