"""Selection: which of the staged rows' requests are to be sent."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from dbt_enrich.endpoints.base import Endpoint
from dbt_enrich.endpoints.packs import Packing
from dbt_enrich.endpoints.request_lines import RequestLines
from dbt_enrich.pipeline.export.in_flight import Seen, in_flight_sql, seen_now
from dbt_enrich.pipeline.run.breaker import Tolerance
from dbt_enrich.pipeline.stage.staged_rows import StagedRows
from dbt_enrich.sql import literal
from dbt_enrich.state.answer_store import done_sql, previous_answers_key
from dbt_enrich.state.attempts import Attempts, attempts_of
from dbt_enrich.state.run import Run
from dbt_enrich.state.sent_with import SentWith
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.failures import ask_again_sql, outage_sql, repaired_kinds, waiting_sql
from dbt_enrich.workspace.database import read_parquet
from dbt_enrich.workspace.key_ranges import KeyPart, key_parts

_NO_CHOSEN = (
    "select cast(null as uuid) as request_key, cast(null as bigint) as row_id, "
    "cast(null as bigint) as rows, cast(null as integer) as attempt, "
    "cast(null as boolean) as is_first, cast(null as bigint) as enlarge, "
    "cast(null as bigint) as repair_file where false"
)


@dataclass(frozen=True)
class Selection:
    """What decides which requests are new.

    Attributes:
        task: What is asked.
        task_key: The task's identity.
        endpoint: The endpoint that is asked.
        max_attempts: How often one row is sent in all.
        ask_again: Kinds of failure that are asked again although they usually are not.
        retries: Until when failures of a kind are asked once more, whatever their rule says.
        packing: How many rows go into one request, or None for one.
        keeps_previous: Whether answers to previous tasks stand where the row's text is unchanged.
        sent_with: What requests are sent with now, or None where it does not matter.
        tolerance: How many failures alike the run bears.
        began: When the run of this model began; of rows that an outage failed before, one attempt
            more is made.
        lost_since: When the run of all models began: what any of them lost is left to the next
            one.
    """

    task: EnrichmentTask
    task_key: str
    endpoint: Endpoint
    max_attempts: int
    ask_again: tuple[str, ...] = ()
    retries: Mapping[str, datetime] = field(default_factory=dict)
    keeps_previous: bool = False
    packing: Packing | None = None
    sent_with: SentWith | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    lost_since: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def answer_keys(self) -> tuple[str, ...]:
        """The tasks whose answers stand: the task, and what was kept of its previous versions."""
        previous = (previous_answers_key(self.task_key),) if self.keeps_previous else ()
        return (self.task_key, *previous)

    def lines(self, url: str) -> RequestLines:
        """Return how the lines are written, each with the `url` of a service."""
        return RequestLines(self.task, self.endpoint, url)

    def attempts(self, run: Run) -> Attempts:
        """Return the live answers, and which of them count."""
        return attempts_of(
            run,
            self.answer_keys,
            self.sent_with,
            is_borne=lambda stop: self.tolerance.bears(stop.failed, stop.answers),
        )


@dataclass(frozen=True)
class _InParts:
    """Parquet files, one for each part of the keys that has some."""

    files: Mapping[KeyPart, Path]

    def remove(self) -> None:
        """Remove the files."""
        for path in self.files.values():
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Undone(_InParts):
    """The staged rows that have no answer that is `done`, in parts by their keys.

    Attributes:
        files: Parquet of row_id and request_key, for each part that has such rows.
        rows: How many rows they are.
        seen: What the ledger held as they were looked up.
    """

    rows: int
    seen: Seen


@dataclass(frozen=True)
class Chosen(_InParts):
    """The requests to send, each key once.

    Attributes:
        files: Parquet of request_key, row_id (of one of the rows that share the request), rows (how
            many share it), attempt, is_first (of those that count), enlarge and repair_file, for
            each part of the keys that has some.
        requests: How many there are.
        again: How many of them were sent before and failed.
        alone: How many of them are asked alone where others are packed.
        rows: How many rows ask them.
        seen: What the ledger held as they were looked up.
    """

    requests: int
    again: int
    alone: int
    rows: int
    seen: Seen

    @property
    def all_sql(self) -> str:
        """Table expression of all of them."""
        return read_parquet(list(self.files.values()), empty=_NO_CHOSEN)


@dataclass(frozen=True)
class NewRequests:
    """What an export would send.

    Attributes:
        requests: Requests to send, those asked again included.
        again: Requests that were sent before and failed.
        equal: Rows that share a request with another row.
        in_flight: Requests that are at the service already.
    """

    requests: int
    again: int
    equal: int
    in_flight: int


def find_undone(run: Run, rows: StagedRows, answer_keys: tuple[str, ...]) -> Undone:
    """Find the rows that have no answer that is `done`.

    Args:
        run: The run.
        rows: The staged rows.
        answer_keys: The tasks whose answers stand.
    """
    seen = seen_now(run, answer_keys)
    answers = run.answers.table(*answer_keys)
    name = secrets.token_hex(4)
    files, found = {}, 0
    for part in key_parts(rows.rows):
        path = run.workspace.directory / f"undone-{name}-{part.number}.parquet"
        keys = part.of(rows.keys_sql)
        run.workspace.write_parquet(
            f"select keys.row_id, keys.request_key from {keys} as keys "
            f"anti join ({done_sql(answers, keys, part=part)}) as done using (request_key)",
            path,
        )
        count = run.workspace.count(path)
        if count:
            files[part] = path
            found += count
        else:
            path.unlink()
    return Undone(files, found, seen)


def choose(run: Run, undone: Undone, selection: Selection) -> Chosen:
    """Choose what is to be sent of the rows that are not done: never answered, or to ask again.

    Args:
        run: The run.
        undone: The rows.
        selection: What decides.
    """
    in_flight = in_flight_sql(run, selection.task_key)
    attempts = selection.attempts(run)
    name = secrets.token_hex(4)
    files = {}
    for part, path in undone.files.items():
        target = run.workspace.directory / f"chosen-{name}-{part.number}.parquet"
        undone_keys = f"read_parquet({literal(path)})"
        select = _chosen_sql(undone_keys, part, part.of(in_flight), attempts, selection)
        run.workspace.write_parquet(select, target)
        files[part] = target
    chosen = read_parquet(list(files.values()), empty=_NO_CHOSEN)
    requests, again, alone, asking = run.workspace.row(
        "select count(*), count(*) filter (attempt > 1), count(*) filter (not is_first), "
        f"cast(coalesce(sum(rows), 0) as bigint) from {chosen} as chosen"
    )
    return Chosen(files, requests=requests, again=again, alone=alone, rows=asking, seen=undone.seen)


def new_requests(run: Run, rows: StagedRows, chosen: Chosen, selection: Selection) -> NewRequests:
    """Count what an export would send, and what it would not.

    Args:
        run: The run.
        rows: The staged rows.
        chosen: What it would send of them.
        selection: What decided that.
    """
    flying = in_flight_sql(run, selection.task_key)
    equal = in_flight = 0
    for part in key_parts(rows.rows):
        shared, sent = run.workspace.row(
            f"""
            select
                count(*) - count(distinct request_key),
                (
                    select count(*)
                    from (select distinct request_key from {part.of(flying)} as claimed) as flying
                    semi join {part.of(rows.keys_sql)} as keys using (request_key)
                )
            from {part.of(rows.keys_sql)} as keys
            """
        )
        equal, in_flight = equal + shared, in_flight + sent
    return NewRequests(chosen.requests, chosen.again, equal=equal, in_flight=in_flight)


def _chosen_sql(
    undone: str, part: KeyPart, in_flight: str, attempts: Attempts, selection: Selection
) -> str:
    """Build the SELECT of the requests to send, each key once.

    Args:
        undone: Table expression of row_id and request_key of the rows that are not done.
        part: The part in which their keys lie.
        in_flight: Table expression of the requests that are in flight.
        attempts: The answers to them.
        selection: What decides.
    """
    has_limit = selection.task.has_token_limit
    enlarge = "cast(pow(2, least(coalesce(truncations, 0), 10)) as bigint)" if has_limit else "1"
    return f"""
        with candidates as (
            select undone.request_key, min(undone.row_id) as row_id, count(*) as rows
            from {undone} as undone
            anti join {in_flight} as in_flight using (request_key)
            group by undone.request_key
        ),
        standings as ({attempts.standings_sql(undone, part)})
        select
            candidates.request_key,
            candidates.row_id,
            candidates.rows,
            coalesce(standing.newest, 0) + 1 as attempt,
            standing.attempts is null as is_first,
            {enlarge} as enlarge,
            -- A repair is tried once; later attempts ask as the first one did.
            if(standing.attempts = 1 and standing.kind in ({repaired_kinds()}),
                standing.file_index, null) as repair_file
        from candidates
        left join standings as standing using (request_key)
        where standing.attempts is null or {asked_sql(selection)}
    """


def asked_sql(selection: Selection, *, by_a_later_run: bool = False) -> str:
    """Build the condition under which a request with a `standing` is asked again.

    Args:
        selection: What decides.
        by_a_later_run: Whether the run is not this one, but a later one.
    """
    again = ask_again_sql(
        "standing.kind",
        "standing.status_code",
        has_limit=selection.task.has_token_limit,
        also=selection.ask_again,
    )
    outage = outage_sql("standing.kind", "standing.status_code")
    if not by_a_later_run:
        waits = waiting_sql("standing.kind", "standing.received_at", _moment(selection.lost_since))
        again += f" and not {waits}"
        outage += f" and standing.received_at < {_moment(selection.began)}"
    return (
        f"((standing.attempts < {selection.max_attempts} and {again}) or ({outage}) "
        f"or {_retried_sql(selection)})"
    )


def _moment(at: datetime) -> str:
    return f"cast({literal(at.isoformat())} as timestamp with time zone)"


def _retried_sql(selection: Selection) -> str:
    """Build the condition under which the user wants a failure asked once more."""
    wanted = [
        f"(standing.kind = {literal(kind)} and standing.received_at <= {_moment(until)})"
        for kind, until in selection.retries.items()
    ]
    return f"({' or '.join(wanted)})" if wanted else "false"
