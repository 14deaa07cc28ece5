"""Stops: the answers that came home, counted for the breaker, and what the ledger notes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from dbt_enrich.errors import StoppedError
from dbt_enrich.pipeline.run.breaker import (
    UNANSWERED,
    Tolerance,
    Way,
    decide,
    example,
    failed_sentence,
    stopped_error,
    way_sql,
)
from dbt_enrich.sql import key_text_sql, text_sql
from dbt_enrich.state.attempts import attempts_of
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.run import Run
from dbt_enrich.state.sent_with import SentWith, other_files
from dbt_enrich.state.tables.answers import AnswerFile
from dbt_enrich.state.tables.stops import Stop

_EXAMPLES = 3
_UNANSWERED = ", ".join(f"'{kind}'" for kind in UNANSWERED)


@dataclass
class Watch:
    """Watches the answers of one task as they come home.

    It counts what was stored since the task's table was last published, or since a run of it was
    stopped: whichever process brought it home. Of each row only the first answer counts, as rows
    that failed before are expected to fail more often than others.

    Attributes:
        model: The dbt model's name.
        enrichment: Its unique id, or None if unknown.
        task_key: The task.
        tolerance: How many failures alike are borne.
        run: The run.
        settings: What requests are sent with now, or None where all that was sent alike counts.
        label: Names the row of a request, for examples.
    """

    model: str
    enrichment: str | None
    task_key: str
    tolerance: Tolerance
    run: Run
    settings: SentWith | None
    label: Callable[[str], str] = lambda key: key[:8]
    _tallies: dict[str, tuple[int, int]] = field(default_factory=dict)

    def look(self) -> None:
        """Stop the task's run where too many answers failed alike.

        Raises:
            StoppedError: They did; it is noted, and the task's batches are to be cancelled.
        """
        if self.tolerance.max_failed_share >= 1:
            return
        stops = self.run.ledger.stops.of(self.task_key)
        last_stop = max((stop.at for stop in stops), default="")
        since = max(last_stop, self._published_at())
        files = self.run.ledger.answers.files(self.task_key)
        others = set(other_files(self.settings, [file.settings for file in files]))
        fresh = [
            place
            for place, file in enumerate(files)
            # What a stop has cut off comes home after it.
            if file.stored_at > since and (file.claimed_at or "") > last_stop
            if file.claimed_at and place not in others
        ]
        answers, failed = self._tally([files[place] for place in fresh])
        if not self.tolerance.is_passed(failed, answers):
            return
        ways, done = self._ways(fresh)
        requests = sum(
            {file.claimed_at: file.requests or 0 for file in map(files.__getitem__, fresh)}.values()
        )
        way = decide(ways, done, self.tolerance, requests=requests)
        if way is None:
            return
        total = done + sum(ways.values())
        text = failed_sentence(way, ways[way], total, self._examples(fresh, way))
        self.run.ledger.stops.add(
            Stop(
                task_key=self.task_key,
                enrichment=self.enrichment,
                settings=self.settings.fingerprint if self.settings else "",
                kind=way.kind,
                status=way.status,
                said=way.said,
                failed=ways[way],
                answers=total,
                message=text,
                began_at=since,
            )
        )
        raise stopped_error(self.model, text, way, again=False)

    def _published_at(self) -> str:
        """Return when the task's table was published last."""
        moments = [
            table.published_at
            for table in self.run.ledger.publications.all()
            if self.task_key == table.task_key or self.enrichment == table.enrichment
        ]
        return max(moments, default="")

    def _tally(self, files: Sequence[AnswerFile]) -> tuple[int, int]:
        """Count the answers in some files, and those of them that failed."""
        for file in files:
            if file.name not in self._tallies:
                self._tallies[file.name] = self.run.workspace.row(
                    "select count(*), count(*) filter (kind <> 'done') "
                    f"from {self.run.answers.table_of([file.name])} as answers "
                    f"where kind not in ({_UNANSWERED})"
                )
        counted = [self._tallies[file.name] for file in files]
        return sum(answers for answers, _ in counted), sum(failed for _, failed in counted)

    def _ways(self, fresh: Sequence[int]) -> tuple[dict[Way, int], int]:
        """Count the first answers of rows in the fresh files by the way in which they failed.

        Returns:
            Those that failed, and how many did not.
        """
        found = self.run.workspace.rows(
            f"""
            select any_value(kind), any_value(status), any_value(said), count(*)
            from ({self._firsts_sql(fresh)})
            group by hash(kind, status, said)
            """
        )
        ways = {
            Way(kind, status, text or ""): int(count)
            for kind, status, text, count in found
            if kind != "done"
        }
        return ways, sum(int(count) for kind, _, _, count in found if kind == "done")

    def _firsts_sql(self, fresh: Sequence[int]) -> str:
        """Build the SELECT of the fresh answers that are the first to their requests."""
        attempts = attempts_of(self.run, (self.task_key,), self.settings)
        counts = f"not ({' or '.join(attempts.uncounted)})" if attempts.uncounted else "true"
        places = ", ".join(map(str, fresh)) or "null"
        return f"""
            with ours as (
                select request_key, attempt, kind, message,
                    if(status_code between 200 and 299, null, status_code) as status,
                    {way_sql("kind", "message")} as said
                from {attempts.all_sql} as answers
                where file_index in ({places}) and kind not in ({_UNANSWERED})
            ),
            firsts as (
                select answers.request_key, min(answers.attempt) as attempt
                from {attempts.all_sql} as answers
                semi join ours using (request_key)
                where {counts} and kind not in ({_UNANSWERED})
                group by answers.request_key
            )
            select ours.*
            from ours
            join firsts using (request_key, attempt)
        """

    def _examples(self, fresh: Sequence[int], way: Way) -> list[str]:
        """Say of three rows what became of them."""
        found = self.run.workspace.rows(
            f"""
            select {key_text_sql("request_key")}, message
            from ({self._firsts_sql(fresh)})
            where kind = {text_sql(way.kind)} and said = {text_sql(way.said)}
                and status is not distinct from {"null" if way.status is None else way.status}
            order by request_key
            limit {_EXAMPLES}
            """
        )
        return [example(self.label(key), message) for key, message in found]


def standing_stop(
    task_key: str, settings: SentWith, tolerance: Tolerance, ledger: Ledger, began: datetime
) -> Stop | None:
    """Return the stop that forbids to send a task's requests, or None.

    What an outage stopped is sent again by a later run: nothing of it was paid.

    Args:
        task_key: The task.
        settings: What requests are sent with now.
        tolerance: How many failures alike are borne now.
        ledger: What was stopped.
        began: When this run began.
    """
    for stop in reversed(ledger.stops.of(task_key)):
        if stop.lifted_at or stop.settings not in ("", settings.fingerprint):
            continue
        if tolerance.bears(stop.failed, stop.answers):
            continue
        if way_of(stop).is_outage and datetime.fromisoformat(stop.at) < began:
            continue
        return stop
    return None


def standing_error(model: str, stop: Stop) -> StoppedError:
    """Return the error of a run that would send what a stop forbids."""
    return stopped_error(model, stop.message, way_of(stop), again=True)


def way_of(stop: Stop) -> Way:
    """Return the way in which the answers failed that a stop is about."""
    return Way(stop.kind, stop.status, stop.said)
