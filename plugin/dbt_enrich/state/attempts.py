"""Attempts: the live answers of tasks, and which of them count against a request's attempts.

What was sent with other settings than now counts for nothing: whoever changes a deployment or a
token limit has the failed rows asked anew. Nor does what stopped a run, so that all of it is asked
after the fix. What nobody noted the settings of counts, as it always has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dbt_enrich.sql import literal
from dbt_enrich.state.answer_store import AnswerStore, standing_sql
from dbt_enrich.state.run import Run
from dbt_enrich.state.sent_with import SentWith, other_files
from dbt_enrich.state.tables.answers import AnswerFile
from dbt_enrich.state.tables.stops import Stop
from dbt_enrich.task.failures import FailureKind
from dbt_enrich.workspace.key_ranges import KeyPart


@dataclass(frozen=True)
class Attempts:
    """The live answers of tasks.

    Attributes:
        files: Their files; `file_index` counts them in this order.
        store: Where they lie.
        numbered: Those in which an answer stands for as many attempts as its number says.
        uncounted: SQL conditions on answers that do not count.
    """

    files: tuple[AnswerFile, ...]
    store: AnswerStore
    numbered: tuple[int, ...]
    uncounted: tuple[str, ...]

    @property
    def all_sql(self) -> str:
        """Table expression of all answers, `file_index` among the columns."""
        return self.store.table_of([file.name for file in self.files])

    def standings_sql(self, keys: str, part: KeyPart) -> str:
        """Build the SELECT of the standings of keyed requests that were ever asked.

        Beside the columns of `standing_sql`, which tell of the answers that count, there is
        `newest`, the number of the newest attempt of all. Where none counts, `attempts` is NULL.
        """
        numbered = None if len(self.numbered) == len(self.files) else self.numbered
        if not self.uncounted:
            standings = standing_sql(self.all_sql, keys, part=part, numbered=numbered)
            return f"select *, newest_counted as newest from ({standings})"
        counted = (
            f"(select *, file_index from {self.all_sql} as asked "
            f"where not ({' or '.join(self.uncounted)}))"
        )
        return f"""
            with numbers as (
                select answers.request_key, max(answers.attempt) as newest
                from {self.all_sql} as answers
                semi join {keys} as keys using (request_key)
                where {part.condition}
                group by answers.request_key
            ),
            counted as ({standing_sql(counted, keys, part=part, numbered=numbered)})
            select numbers.request_key, numbers.newest, counted.* exclude (request_key)
            from numbers
            left join counted using (request_key)
        """


def attempts_of(
    run: Run,
    task_keys: tuple[str, ...],
    now: SentWith | None,
    *,
    is_borne: Callable[[Stop], bool] = lambda _: False,
) -> Attempts:
    """Return the live answers of tasks.

    Args:
        run: The run.
        task_keys: The tasks.
        now: What requests are sent with now, or None where every attempt counts.
        is_borne: Whether a stop is to be as if it had not been.
    """
    found = [file for key in task_keys for file in run.ledger.answers.files(key)]
    others = other_files(now, [file.settings for file in found])
    uncounted = []
    if others:
        uncounted.append(f"file_index in ({', '.join(map(str, others))})")
    stops = [stop for key in task_keys for stop in run.ledger.stops.of(key)]
    uncounted += [
        f"(file_index in ({', '.join(map(str, places))}) "
        f"and kind in ({literal(stop.kind)}, '{FailureKind.CANCELLED}'))"
        for stop in stops
        if not is_borne(stop) and (places := _stopped(found, stop))
    ]
    return Attempts(
        files=tuple(found),
        store=run.answers,
        # Of what only the table still held, the newest attempt alone was taken.
        numbered=tuple(
            place
            for place, file in enumerate(found)
            if file.settings is None or file.claimed_at is None
        ),
        uncounted=tuple(uncounted),
    )


def _stopped(files: Sequence[AnswerFile], stop: Stop) -> list[int]:
    """Return the places of the files whose answers a stop was about, or cut off."""
    return [
        place
        for place, file in enumerate(files)
        if file.claimed_at and file.claimed_at <= stop.at and file.stored_at > stop.began_at
    ]
