"""The answer store as SQL reads it: the columns of its files, and each request's standing."""

from __future__ import annotations

from dbt_enrich.ledger import Ledger
from dbt_enrich.store import StateDirectory
from dbt_enrich.workspace import read_parquet

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
_EMPTY = (
    "select "
    + ", ".join(f"cast(null as {kind}) as {name}" for name, kind in ANSWER_COLUMNS.items())
    + " where false"
)


def former_answers_key(task_key: str) -> str:
    """Return under which name the answer store holds what a task keeps of its former versions."""
    return f"{task_key}:former"


def answers_sql(ledger: Ledger, store: StateDirectory, *task_keys: str) -> str:
    """Build a table expression over the live answers of tasks."""
    paths = [store.answers(name) for key in task_keys for name in ledger.live_answers(key)]
    return read_parquet(paths, empty=_EMPTY)


def standing_sql(answers: str, keys: str) -> str:
    """Build a SELECT of the standing of each keyed request that was answered, one row each.

    A `done` answer stands whatever came before or after; else the newest attempt does. `shard`
    says which file holds the answer that stands: join on it and on request_key for its text.

    Args:
        answers: Table expression of the answers.
        keys: Table expression with the column request_key.
    """
    rank = "attempt + if(kind = 'done', 1000000, 0)"
    return f"""
        select
            request_key,
            max(attempt) as attempts,
            count(*) filter (kind = 'truncated') as truncations,
            arg_max(kind, {rank}) as kind,
            arg_max_null(status_code, {rank}) as status_code,
            arg_max(received_at, {rank}) as received_at,
            arg_max(shard, {rank}) as shard
        from {answers} as answers
        where request_key in (select request_key from {keys} as keys)
        group by request_key
    """
