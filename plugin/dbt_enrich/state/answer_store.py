"""The answer store as SQL reads it: the columns of its files, and each request's standing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dbt_enrich.sql import literal
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.task.failures import FailureKind
from dbt_enrich.workspace.database import read_parquet
from dbt_enrich.workspace.key_ranges import KeyPart

# One row for each request of a shard, in the order in which the files hold them.
ANSWER_COLUMNS = {
    "request_key": "uuid",
    "attempt": "integer",
    "kind": "varchar",
    "message": "varchar",
    "content": "varchar",
    "finish_reason": "varchar",
    "status_code": "integer",
    "model": "varchar",
    "prompt_tokens": "bigint",
    "cached_tokens": "bigint",
    "completion_tokens": "bigint",
    "batch_id": "varchar",
    "shard": "varchar",
    "received_at": "timestamp with time zone",
}
# The name of a file that holds answers to a former version goes on with that version.
FORMER_PREFIX = "former-"
# `file_index` is the reader's own column: which of the given files a row is in.
_EMPTY = (
    "select "
    + ", ".join(
        f"cast(null as {kind}) as {name}"
        for name, kind in {**ANSWER_COLUMNS, "file_index": "ubigint"}.items()
    )
    + " where false"
)
# A standing as one number, most significant first; an aggregate of numbers can be spilled to the
# disk, which one that holds texts cannot.
_ATTEMPTS, _FILES, _KINDS, _STATUSES = 32_768, 16_777_216, 32, 1_024
_KIND_LIST = f"[{', '.join(literal(str(name)) for name in ('done', *FailureKind))}]"


def former_answers_key(task_key: str) -> str:
    """Return under which name the answer store holds what a task keeps of its former versions."""
    return f"{task_key}:former"


def answers_sql(ledger: Ledger, store: StateDirectory, *task_keys: str) -> str:
    """Build a table expression over the live answers of tasks, `file_index` among the columns."""
    return answer_files_sql([path for path, _ in answer_files(ledger, store, *task_keys)])


def answer_files(ledger: Ledger, store: StateDirectory, *task_keys: str) -> list[tuple[Path, int]]:
    """Return the files with the live answers of tasks, and how many each holds.

    `file_index` counts them in this order.
    """
    return [
        (store.answers(name), answers)
        for key in task_keys
        for name, answers in ledger.live_answers(key).items()
    ]


def answer_files_sql(files: Sequence[Path]) -> str:
    """Build a table expression over files with answers, `file_index` among the columns."""
    return read_parquet(list(files), empty=_EMPTY)


def answered_sql(answers: str, keys: str, *, part: KeyPart) -> str:
    """Build a SELECT of the request_key of each answer of the keyed requests, failures included.

    The keys are held in memory; the answers, of which there may be many more, stream past them.

    Args:
        answers: Table expression of the answers.
        keys: Table expression with the column request_key, of a part of the keys.
        part: That part.
    """
    return f"""
        select answers.request_key
        from {answers} as answers
        semi join {keys} as keys using (request_key)
        where {part.condition}
    """


def done_sql(answers: str, keys: str, *, part: KeyPart) -> str:
    """Build a SELECT of the request_key of each answer of the keyed requests that is `done`.

    Args:
        answers: Table expression of the answers.
        keys: Table expression with the column request_key, of a part of the keys.
        part: That part.
    """
    return f"{answered_sql(answers, keys, part=part)} and answers.kind = 'done'"


def standing_sql(
    answers: str, keys: str, *, part: KeyPart, numbered: Sequence[int] | None = None
) -> str:
    """Build a SELECT of the standing of each keyed request that was answered, one row each.

    A `done` answer stands whatever came before or after; else the newest attempt does, and of two
    the one in the file that is named first. `file_index` says which file holds the answer that
    stands: join on it and on request_key for its text.

    Args:
        answers: Table expression of the answers.
        keys: Table expression with the column request_key, of a part of the keys.
        part: That part.
        numbered: The files whose attempts are as many as their newest one's number says, or None
            for all; of other files each answer is an attempt.
    """
    attempts = "max(answers.attempt)"
    if numbered is not None:
        places = ", ".join(map(str, numbered)) or "null"
        is_numbered = f"coalesce(answers.file_index in ({places}), false)"
        attempts = (
            f"coalesce(max(answers.attempt) filter ({is_numbered}), 0) "
            f"+ count(*) filter (not {is_numbered})"
        )
    standing = (
        f"cast(answers.kind = 'done' as bigint) * {_ATTEMPTS} "
        f"+ least(answers.attempt, {_ATTEMPTS - 1})"
    )
    for size, digit in (
        (_FILES, f"{_FILES - 1} - cast(answers.file_index as bigint)"),
        (_KINDS, f"coalesce(list_position({_KIND_LIST}, answers.kind), 0)"),
        (_STATUSES, f"greatest(0, least(coalesce(answers.status_code, 0), {_STATUSES - 1}))"),
    ):
        standing = f"({standing}) * {size} + {digit}"
    return f"""
        with standings as (
            select
                answers.request_key,
                {attempts} as attempts,
                max(answers.attempt) as newest_counted,
                count(*) filter (answers.kind = 'truncated') as truncations,
                max(answers.received_at) as received_at,
                max({standing}) as standing
            from {answers} as answers
            semi join {keys} as keys using (request_key)
            where {part.condition}
            group by answers.request_key
        )
        select
            request_key,
            attempts,
            newest_counted,
            truncations,
            {_KIND_LIST}[standing // {_STATUSES} % {_KINDS}] as kind,
            nullif(standing % {_STATUSES}, 0) as status_code,
            received_at,
            {_FILES - 1} - standing // {_STATUSES * _KINDS} % {_FILES} as file_index
        from standings
    """
