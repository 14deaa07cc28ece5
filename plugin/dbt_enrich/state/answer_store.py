"""The answer store: its files, their columns, and each request's standing in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import duckdb

from dbt_enrich.errors import EnrichmentError
from dbt_enrich.files import settle
from dbt_enrich.sql import literal
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.task.failures import FailureKind
from dbt_enrich.workspace.database import ROW_GROUP_BYTES, Workspace, read_parquet
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
# What `load` adds: where the row lay when it was claimed, by which the rows are ordered, the answer
# as a struct of the outputs, but where Parquet cannot hold one of their types, and the tokens with
# which the model thought. Files of earlier versions have none of them.
POSITION, TYPED, REASONING = "row_id", "answer", "reasoning_tokens"
# Rows of one row group: validation needs memory beside those that each thread holds.
_ROW_GROUP = 12_288
# The name of a file that holds answers to a previous version goes on with that version.
PREVIOUS_PREFIX = "former-"
# `file_index` is the reader's own column: which of the given files a row is in.
NO_ANSWERS = (
    "select "
    + ", ".join(
        f"cast(null as {kind}) as {name}"
        for name, kind in {**ANSWER_COLUMNS, "file_index": "ubigint"}.items()
    )
    + " where false"
)
_KIND_LIST = f"[{', '.join(literal(str(name)) for name in ('done', *FailureKind))}]"


@dataclass(frozen=True)
class _Digit:
    """One digit of a standing's number.

    Attributes:
        base: How many values it has, from 0.
        value: SQL expression of its value for a row of `answers`.
    """

    base: int
    value: str


# Most significant first: of two standings the one with the larger number stands. The last two only
# go with it.
_FILES = 1 << 24
_DIGITS = {
    "is_done": _Digit(2, "cast(answers.kind = 'done' as bigint)"),
    "attempt": _Digit(1 << 15, f"least(answers.attempt, {(1 << 15) - 1})"),
    "files_after": _Digit(_FILES, f"{_FILES - 1} - cast(answers.file_index as bigint)"),
    "kind": _Digit(32, f"coalesce(list_position({_KIND_LIST}, answers.kind), 0)"),
    "status_code": _Digit(1 << 10, "greatest(0, least(coalesce(answers.status_code, 0), 1023))"),
}


def previous_answers_key(task_key: str) -> str:
    """Return under which name the answer store holds what a task keeps of its previous versions."""
    return f"{task_key}:former"


class AnswerStore:
    """The answers of all tasks, in Parquet files of the state directory that the ledger names.

    Args:
        store: The state directory.
        ledger: Says which files are live.
        workspace: Where files are written and read.
    """

    def __init__(self, store: StateDirectory, ledger: Ledger, workspace: Workspace) -> None:
        self.place = store.root / "answers"
        self._live = ledger.answers
        self._workspace = workspace

    def table(self, *task_keys: str) -> str:
        """Build a table expression over the live answers of tasks, `file_index` among the columns.

        `file_index` counts their files task by task, in the order of `live`.
        """
        return self.table_of([name for key in task_keys for name in self._live.live(key)])

    def table_of(self, names: Sequence[str]) -> str:
        """Build the table expression over some files, which `file_index` counts in their order."""
        return read_parquet([self.path(name) for name in names], empty=NO_ANSWERS)

    def has_typed(self, names: Sequence[str]) -> bool:
        """Whether one of some files has answers as structs, in the column `TYPED`."""
        return bool(names) and TYPED in self._workspace.columns(f"from {self.table_of(names)}")

    def has_reasoning(self, *task_keys: str) -> bool:
        """Whether a file of the live answers of tasks has the column `REASONING`."""
        return REASONING in self._workspace.columns(f"from {self.table(*task_keys)}")

    def add(self, query: str, task_key: str, name: str, *, settings: str | None = None) -> int:
        """Write the answers of a SELECT and make them live; without one there is no file.

        Args:
            query: A SELECT of `ANSWER_COLUMNS`.
            task_key: The task that they answer.
            name: The file's name.
            settings: What the requests were sent with, as JSON, or None if unknown.

        Returns:
            How many they are.
        """
        answers = self.write(query, name)
        if answers:
            self._live.add(name, task_key=task_key, answers=answers, settings=settings)
        else:
            self.path(name).unlink()
        return answers

    def write(
        self,
        query: str,
        name: str,
        *,
        row_group_bytes: int = ROW_GROUP_BYTES,
        variables: Mapping[str, str] | None = None,
    ) -> int:
        """Write the answers of a SELECT to a file, which is live once the ledger names it.

        Args:
            query: A SELECT of `ANSWER_COLUMNS`, which may read the file that it replaces.
            name: The file's name.
            row_group_bytes: As `Workspace.write_parquet` takes it.
            variables: As `Workspace.write_parquet` takes them.

        Returns:
            How many they are.
        """
        path = self.path(name)
        self._workspace.write_parquet(
            query,
            path,
            row_group=_ROW_GROUP,
            row_group_bytes=row_group_bytes,
            durable=True,
            variables=variables,
        )
        return self._workspace.count(path)

    def settle(self, draft: str, name: str) -> None:
        """Give a written file its name, whole and at once; another one of that name is gone."""
        settle(self.path(draft), self.path(name))

    def forget(self, task_key: str) -> None:
        """Take a task's answers out, with those that it keeps of its previous versions."""
        for key in (task_key, previous_answers_key(task_key)):
            for name in self._live.forget(key):
                self.path(name).unlink(missing_ok=True)

    def damaged(self) -> list[str]:
        """Return the files that the ledger names and that are not there, or not whole."""
        return [self.path(name).name for name in self._live.names() if not self._is_whole(name)]

    def _is_whole(self, name: str) -> bool:
        """Whether all of a file can be read."""
        try:
            self._workspace.row(f"select max(hash(file)) from {self.table_of([name])} as file")
        except (EnrichmentError, duckdb.Error):
            return False
        return True

    def path(self, name: str) -> Path:
        """Return where a file lies."""
        return self.place / f"{name}.parquet"


def text_sql(answers: str, *, has_typed: bool) -> str:
    """Build the text of an answer, which a file leaves out where the typed answer gives it back.

    Args:
        answers: The name of the relation that has it.
        has_typed: Whether the relation has typed answers.
    """
    if not has_typed:
        return f"{answers}.content"
    return f"coalesce({answers}.content, cast(to_json({answers}.{TYPED}) as varchar))"


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
    return f"""
        with standings as (
            select
                answers.request_key,
                {attempts} as attempts,
                max(answers.attempt) as newest_counted,
                count(*) filter (answers.kind = 'truncated') as truncations,
                max(answers.received_at) as received_at,
                max({_number_sql()}) as standing
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
            {_KIND_LIST}[{_digit_sql("kind")}] as kind,
            nullif({_digit_sql("status_code")}, 0) as status_code,
            received_at,
            {_FILES - 1} - {_digit_sql("files_after")} as file_index
        from standings
    """


def _number_sql() -> str:
    """Build the standing of an answer as one number, from its digits.

    An aggregate of numbers can be spilled to the disk, which one of texts or structs cannot. With
    decimal digits, the second attempt of a request, `done` (kind 1) in the third of ten files with
    status 200, would be `1 2 7 1 200`: larger than any failure's, and than the same in a later
    file.
    """
    number = "0"
    for digit in _DIGITS.values():
        number = f"({number}) * {digit.base} + {digit.value}"
    return number


def _digit_sql(name: str) -> str:
    """Build the value of a digit of the number `standing`."""
    names = list(_DIGITS)
    less_significant = (_DIGITS[other].base for other in names[names.index(name) + 1 :])
    return f"standing // {prod(less_significant)} % {_DIGITS[name].base}"
