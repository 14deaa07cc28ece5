"""The answer store: its files, their columns, and each request's standing in them."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import duckdb

from dbt_enrich.errors import EnrichmentError
from dbt_enrich.files import settle
from dbt_enrich.sql import literal
from dbt_enrich.state.file_digests import digest
from dbt_enrich.state.file_store import FileKind, FileStore, StateFile, missing
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


@dataclass(frozen=True)
class Draft:
    """A file of answers that no row of the ledger names yet.

    Attributes:
        name: The name that it will have in the ledger.
        path: Where it lies.
    """

    name: str
    path: Path


class AnswerStore:
    """The answers of all tasks, in Parquet files that the ledger names.

    Where they are shared, the texts of valid answers, which are most of what there is, are fetched
    only where they are asked for: a file beside each has all else.

    Args:
        files: Where the files lie.
        ledger: Says which files are live.
        workspace: Where files are written and read.
    """

    def __init__(self, files: FileStore, ledger: Ledger, workspace: Workspace) -> None:
        self._files = files
        self._live = ledger.answers
        self._workspace = workspace

    @property
    def place(self) -> str:
        """Where the files lie, for messages."""
        return self._files.place

    @property
    def is_shared(self) -> bool:
        """Whether files may have to be fetched."""
        return self._files.is_shared

    def table(self, *task_keys: str) -> str:
        """Build a table expression over the live answers of tasks, as `table_of` does.

        `file_index` counts their files task by task, in the order of `live`.
        """
        return self.table_of([name for key in task_keys for name in self._live.live(key)])

    def table_of(self, names: Sequence[str]) -> str:
        """Build the table expression over some files, which `file_index` counts in their order.

        It has all but the texts of valid answers: these `table_with_texts` has.
        """
        return self.table_with_texts(names, ())

    def table_with_texts(self, names: Sequence[str], numbers: Iterable[int]) -> str:
        """Build the table expression over some files, with the texts of all answers of some.

        Args:
            names: The files.
            numbers: The places among them, from 0 on, of those whose texts are needed.
        """
        return read_parquet(self._paths(names, set(numbers)), empty=NO_ANSWERS)

    def has_typed(self, answers: str) -> bool:
        """Whether a table expression has answers as structs, in the column `TYPED`."""
        return TYPED in self._workspace.columns(f"from {answers}")

    def with_texts(self, names: Sequence[str]) -> list[Path]:
        """Return where some files lie on this disk, whole."""
        return self._paths(names, set(range(len(names))))

    def without_texts(self, names: Sequence[str]) -> list[Path]:
        """Return where some files lie on this disk, without the texts of valid answers if shared.

        Their rows are in the same order.
        """
        return self._paths(names, set())

    def has_reasoning(self, *task_keys: str) -> bool:
        """Whether a file of the live answers of tasks has the column `REASONING`."""
        return REASONING in self._workspace.columns(f"from {self.table(*task_keys)}")

    def add(self, query: str, task_key: str, name: str, *, settings: str | None = None) -> int:
        """Write the answers of a SELECT and make them live; without one there is no file.

        Args:
            query: A SELECT of `ANSWER_COLUMNS`.
            task_key: The task that they answer.
            name: The file's name, as `draft` takes it.
            settings: What the requests were sent with, as JSON, or None if unknown.

        Returns:
            How many they are.
        """
        draft = self.draft(name)
        answers = self.write(query, draft)
        if not answers:
            draft.path.unlink()
            return 0
        (kept,) = self.keep([draft])
        self.settle(kept)
        self._live.add(kept.name, task_key=task_key, answers=answers, settings=settings)
        return answers

    def draft(self, name: str) -> Draft:
        """Return a file to write, whose name may be that of another one until it is settled."""
        hidden = f".{name}-{secrets.token_hex(8)}"
        return Draft(name, self._files.path(StateFile(FileKind.ANSWERS, hidden)))

    def write(
        self,
        query: str,
        draft: Draft,
        *,
        row_group_bytes: int = ROW_GROUP_BYTES,
        variables: Mapping[str, str] | None = None,
        in_order: bool = False,
    ) -> int:
        """Write the answers of a SELECT to a draft.

        Args:
            query: A SELECT of `ANSWER_COLUMNS`, which may read the file that it replaces.
            draft: The draft.
            row_group_bytes: As `Workspace.write_parquet` takes it.
            variables: As `Workspace.write_parquet` takes them.
            in_order: As `Workspace.write_parquet` takes it.

        Returns:
            How many they are.
        """
        self._workspace.write_parquet(
            query,
            draft.path,
            row_group=_ROW_GROUP,
            row_group_bytes=row_group_bytes,
            in_order=in_order,
            durable=True,
            variables=variables,
        )
        return self._workspace.count(draft.path)

    def keep(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Make drafts as safe as live files are; nothing is on the network after it.

        Returns:
            The drafts, whose names are now those that the ledger may name.
        """
        if not self._files.is_shared:
            return list(drafts)
        kept = [self._placed(draft) for draft in drafts]
        self._files.put(
            [
                StateFile(kind, draft.name)
                for draft in kept
                for kind in (FileKind.KEYS, FileKind.ANSWERS)
            ]
        )
        return kept

    def settle(self, draft: Draft) -> None:
        """Give a draft its name, whole and at once; another one of that name is gone."""
        path = self._files.path(StateFile(FileKind.ANSWERS, draft.name))
        if draft.path != path:
            settle(draft.path, path)

    def forget(self, task_key: str) -> None:
        """Take a task's answers out, with those that it keeps of its previous versions."""
        for key in (task_key, previous_answers_key(task_key)):
            for name in self._live.forget(key):
                self._files.remove(StateFile(FileKind.ANSWERS, name))

    def damaged(self) -> list[str]:
        """Return the files that the ledger names and that are not there, or not whole."""
        names = self._live.names()
        if self._files.is_shared:
            kinds = (FileKind.ANSWERS, FileKind.KEYS)
            wanted = [StateFile(kind, name) for name in names for kind in kinds]
            return [file.key for file in self._files.absent(wanted)]
        return [f"{name}.parquet" for name in names if not self._is_whole(name)]

    def _is_whole(self, name: str) -> bool:
        """Whether all of a file can be read."""
        try:
            self._workspace.row(f"select max(hash(file)) from {self.table_of([name])} as file")
        except (EnrichmentError, duckdb.Error):
            return False
        return True

    def _placed(self, draft: Draft) -> Draft:
        """Give a draft, and the file of keys beside it, the name and the place of its content."""
        keys = draft.path.with_suffix(".keys")
        columns = self._workspace.columns(f"from read_parquet({literal(draft.path)})")
        self._workspace.write_parquet(
            keys_sql(draft.path, columns), keys, compression="zstd", durable=True
        )
        name = f"{draft.name}-{digest(draft.path)}-{digest(keys)}"
        path = self._files.path(StateFile(FileKind.ANSWERS, name))
        settle(draft.path, path)
        settle(keys, self._files.path(StateFile(FileKind.KEYS, name)))
        return Draft(name, path)

    def _paths(self, names: Sequence[str], with_texts: Collection[int]) -> list[Path]:
        """Return where some files lie; where they are shared, so that this run keeps them."""
        files = [
            StateFile(
                FileKind.ANSWERS
                if number in with_texts or not self._files.is_shared
                else FileKind.KEYS,
                name,
            )
            for number, name in enumerate(names)
        ]
        if not self._files.is_shared:
            return [self._files.path(file) for file in files]
        held = self._files.hold(files, self._workspace.directory)
        for file in files:
            if file not in held:
                raise missing(file, self._files.place)
        return [held[file] for file in files]


def keys_sql(answers: Path, columns: Collection[str]) -> str:
    """Build the SELECT of a file's answers, in its order, without the texts of the valid ones.

    Args:
        answers: The file.
        columns: Its columns.
    """
    typed = f" exclude ({TYPED})" if TYPED in columns else ""
    order = f" order by {POSITION}" if POSITION in columns else ""
    content = "if(kind = 'done', null, content) as content"
    return f"select *{typed} replace ({content}) from read_parquet({literal(answers)}){order}"


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
