"""Load: a shard's downloaded files into the answer store, every request with a name for its end."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from dbt_enrich.console.timings import Stage
from dbt_enrich.endpoints.base import Endpoint
from dbt_enrich.endpoints.choice import endpoint_of
from dbt_enrich.endpoints.embeddings import vector_message_sql
from dbt_enrich.endpoints.response_lines import (
    LINE_BYTES,
    message_sql,
    named_sql,
    packed_message_sql,
)
from dbt_enrich.errors import (
    EnrichmentError,
    LostOwnershipError,
    TooLittleMemoryError,
    concerning,
)
from dbt_enrich.pipeline.export.manifests import count_packs, write_manifest
from dbt_enrich.pipeline.load.packed_lines import unpacked
from dbt_enrich.pipeline.load.unassigned_lines import keep_files_of_packs, keep_unassigned
from dbt_enrich.pipeline.load.vector_lines import opened_vectors, vectors_apart
from dbt_enrich.pipeline.run.dispatch import Dispatch
from dbt_enrich.services.base import BatchStatus
from dbt_enrich.sql import literal, preferred_sql
from dbt_enrich.state.answer_store import (
    ANSWER_COLUMNS,
    POSITION,
    REASONING,
    TYPED,
    Draft,
    text_sql,
)
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.file_cleanup import remove_files
from dbt_enrich.state.file_store import FileKind, StateFile
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.run import Run
from dbt_enrich.state.sent_with import of_shard
from dbt_enrich.state.shards import GONE, Shard
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.task.vectors import vector_of
from dbt_enrich.validation.answers import validated_answers_sql
from dbt_enrich.validation.values import is_storable
from dbt_enrich.validation.vectors import validated_vectors_sql
from dbt_enrich.workspace.database import LONG_ROW_GROUP_BYTES, ROW_GROUP_BYTES
from dbt_enrich.workspace.long_lines import in_pieces, longest_line

# How much memory the functions of all threads reserve for what they read at once.
_READINGS = 96
# The memory that sorting takes at most, of the bytes of the lines.
_SORT = 1.5
_COLUMNS = {**ANSWER_COLUMNS, REASONING: "bigint"}
# Outcomes whose message or text is the model's or our own, and those whose body is an error.
_OF_MODELS = "('answered', 'refusal', 'truncated', 'missing')"
_OF_ERRORS = "('provider_error', 'pack_failed')"


@dataclass(frozen=True)
class LoadedShard:
    """What a shard's files held.

    Attributes:
        shard: The closed shard.
        done: Requests with a valid answer.
        failed: Requests that failed, those without a line included.
        unassigned: Lines that answer packs whose rows are unknown; their files stay.
        kept_lines: Other lines that cannot be assigned to a request.
        kept_in: Where the user finds what cannot be assigned, or None where nothing is left.
    """

    shard: Shard
    done: int
    failed: int
    unassigned: int = 0
    kept_lines: int = 0
    kept_in: str | None = None

    def sentence(self) -> str:
        """Say what was kept of the lines that answered no request; empty if there were none."""
        if not self.kept_lines:
            return ""
        lines = "1 line" if self.kept_lines == 1 else f"{self.kept_lines:,} lines"
        return (
            f"the result files of batch {self.shard.batch_id} have {lines} of which nobody can "
            f"tell which request was answered; they are kept in {self.kept_in}"
        )


def take_in(dispatch: Dispatch, shard: Shard) -> LoadedShard | None:
    """Load a downloaded shard, and say what there is to say of its files.

    Returns:
        What they held, or None where the shard stays as it is: another run has taken it over, or
        the ledger does not know its task.
    """
    outputs = outputs_of(dispatch.run.ledger, shard.task_key)
    if outputs is None:
        return None
    size = dispatch.run.store.response_bytes(shard.shard)
    with (
        dispatch.timings.span(Stage.LOAD, rows=shard.row_count, size=size),
        concerning(shard=shard.shard, batch=shard.batch_id),
    ):
        try:
            loaded = load(
                dispatch.run,
                shard,
                outputs,
                keep_files=dispatch.config.keep_files,
                mask=dispatch.service.mask,
            )
        except LostOwnershipError as error:
            dispatch.console.say(str(error))
            return None
    if loaded.kept_lines:
        dispatch.console.say(loaded.sentence())
    return loaded


def load(
    run: Run,
    shard: Shard,
    outputs: list[OutputColumn],
    *,
    keep_files: bool,
    mask: str,
    endpoint: Endpoint | None = None,
) -> LoadedShard:
    """Write a downloaded shard's answers to the answer store and close the shard.

    Lines may come in any order, twice, broken, for unknown ids or not at all: each request of the
    shard gets exactly one row, an answer or a named failure.

    Args:
        run: The run.
        shard: A shard at the step `downloaded`.
        outputs: The output columns of the task that asked.
        keep_files: Whether request and response files stay.
        mask: `BatchService.mask`: what must not be stored of an error's texts.
        endpoint: The endpoint that was asked, or None for the one that the shard names.
    """
    endpoint = endpoint or endpoint_of(shard.endpoint)
    files = [
        path
        for kind in ("output", "error")
        if (path := run.store.response(shard.shard, kind)).exists() and path.stat().st_size
    ]
    manifest = run.store.manifest(shard.shard)
    is_guessed = not run.files.has(StateFile(FileKind.MANIFEST, shard.shard))
    if is_guessed:
        write_manifest(files, manifest, run.workspace)
    requests = run.workspace.count(manifest)
    unassigned = 0 if requests else count_packs(files, run.workspace)
    # Until the ledger says that the shard is still this run's, its file may be another run's.
    target = run.answers.draft(shard.shard)
    responses = _Responses(run, shard, files, outputs, mask, endpoint, target)
    vector = vector_of(outputs) if files else None
    answered = responses.write_vectors(vector) if vector else responses.write_answers(LINE_BYTES)
    if (
        vector is None
        and answered < requests
        and (longest := longest_line(files, least=LINE_BYTES)) > LINE_BYTES
    ):
        answered = responses.write_answers(longest)
    answers = f"read_parquet({literal(target.path)})"
    written = [(target, answered)]
    missing = requests - answered
    if shard.synchronous and shard.status not in (BatchStatus.COMPLETED, GONE):
        # What has no line was not asked, and is new again.
        missing = 0
        replies = sum(path.read_bytes().count(b"\n") for path in files)
        run.ledger.shards.change(shard, requests=replies, rows=answered)
    kept_in, kept_lines = None, 0
    if unassigned:
        kept_in = keep_files_of_packs(files, run.files)
    elif files and not shard.synchronous and (missing or is_guessed):
        odd = StateFile(FileKind.UNASSIGNED, shard.shard)
        kept_lines = keep_unassigned(files, manifest, answers, odd, run)
        kept_in = run.files.where(odd) if kept_lines else None
    if missing:
        draft = run.answers.draft(f"{shard.shard}-missing")
        query = _missing_sql(shard, manifest, answers, run.store, responses.received_at)
        written.append((draft, run.answers.write(query, draft)))
    done, *tokens = run.workspace.row(
        "select count(*) filter (kind = 'done'), sum(prompt_tokens), sum(cached_tokens), "
        f"sum(completion_tokens), sum({REASONING}) from {answers} as answers"
    )
    prompt, cached, completion, reasoning = (None if n is None else int(n) for n in tokens)

    kept = run.answers.keep([draft for draft, _ in written])
    counts = [count for _, count in written]

    def settle_files() -> None:
        for draft in kept:
            run.answers.settle(draft)

    closed = run.ledger.shards.store(
        shard,
        files={draft.name: count for draft, count in zip(kept, counts, strict=True)},
        settle=settle_files,
        sent_with=of_shard(shard),
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=completion,
        reasoning_tokens=reasoning,
    )
    run.workspace.give_back(sum(path.stat().st_size for path in files))
    if not keep_files and not unassigned:
        remove_files(shard, run.store)
    failed = sum(counts) - done
    return LoadedShard(
        closed,
        done=done,
        failed=failed,
        unassigned=unassigned,
        kept_lines=kept_lines,
        kept_in=kept_in,
    )


@dataclass(frozen=True)
class _Responses:
    """A shard's response files, and what they are read with.

    Attributes:
        run: The run.
        shard: The shard.
        files: Its files that hold something.
        outputs: The output columns.
        mask: What must not be stored of an error's texts.
        endpoint: The endpoint that was asked.
        target: Where the answers are written.
    """

    run: Run
    shard: Shard
    files: list[Path]
    outputs: list[OutputColumn]
    mask: str
    endpoint: Endpoint
    target: Draft

    @property
    def received_at(self) -> str:
        """SQL expression of when the answers came, by the run's clock."""
        return f"cast({literal(self.run.clock.now().isoformat())} as timestamp with time zone)"

    def write_answers(self, line_bytes: int) -> int:
        """Write what the files answer, each request once, and return how many answers they are.

        They are in the order of the rows, which need no sorting then where they are published, but
        where the manifest is an earlier version's or there is no memory to sort them.

        Args:
            line_bytes: How long the longest line is taken to be.
        """
        manifest = self.run.store.manifest(self.shard.shard)
        columns = self.run.workspace.columns(f"from read_parquet({literal(manifest)})")
        size = sum(path.stat().st_size for path in self.files)
        is_packed = "custom_id" in columns
        if POSITION in columns and _SORT * size <= self.run.workspace.memory:
            with suppress(TooLittleMemoryError):
                return self._write(line_bytes, [POSITION], is_packed=is_packed)
        return self._write(line_bytes, [], is_packed=is_packed)

    def write_vectors(self, output: OutputColumn) -> int:
        """Write the vectors that the files hold, as `write_answers` does answers.

        Args:
            output: The one output column.
        """
        run = self.run
        manifest = run.store.manifest(self.shard.shard)
        columns = run.workspace.columns(f"from read_parquet({literal(manifest)})")
        position = [name for name in columns if name == POSITION]
        with ExitStack() as scratch:
            slim = scratch.enter_context(vectors_apart(self.files, run.workspace.directory))
            read = scratch.enter_context(
                opened_vectors(self.endpoint, slim, manifest, run.workspace)
            )
            return run.answers.write(
                _answers_query(
                    self.shard,
                    validated_vectors_sql(f"({read})", output),
                    vector_message_sql(),
                    position,
                    received_at=self.received_at,
                    has_typed=True,
                    is_in_order=True,
                ),
                self.target,
                variables={"mask": self.mask},
                in_order=True,
            )

    def _write(self, line_bytes: int, position: Sequence[str], *, is_packed: bool) -> int:
        workspace, answers = self.run.workspace, self.run.answers
        manifest = self.run.store.manifest(self.shard.shard)
        with ExitStack() as scratch:
            pieces = scratch.enter_context(
                in_pieces(self.files, workspace.directory, least_lines=workspace.least_rows)
            )
            row_group_bytes = ROW_GROUP_BYTES
            if pieces != self.files:
                row_group_bytes = LONG_ROW_GROUP_BYTES
                # A piece is read at once, and each JSON function reserves room for all of it.
                largest = max(path.stat().st_size for path in pieces)
                line_bytes = max(line_bytes, largest)
                workspace.make_room(_READINGS * largest)
            workspace.make_room(8 * line_bytes)
            if is_packed and pieces:
                named = named_sql(self.endpoint, pieces, line_bytes)
                named = f"select *, {message_sql('null')} as said from ({named})"
                read = scratch.enter_context(unpacked(named, manifest, workspace))
            elif pieces:
                read = named_sql(self.endpoint, pieces, line_bytes, manifest, position)
            else:
                read = None
            validated = validated_answers_sql(f"({read})", self.outputs) if read else None
            text = packed_message_sql() if is_packed else message_sql("mismatch")
            has_typed = is_storable(self.outputs)
            written = answers.write(
                _answers_query(
                    self.shard,
                    validated,
                    text,
                    position,
                    received_at=self.received_at,
                    has_typed=has_typed,
                ),
                self.target,
                row_group_bytes=row_group_bytes,
                variables={"mask": self.mask} if read else None,
            )
        table = f"read_parquet({literal(self.target.path)})"
        (distinct,) = workspace.row(f"select count(distinct request_key) from {table} as answers")
        if distinct == written:
            return written
        single = _single_sql(table, position, has_typed=answers.has_typed(table))
        return answers.write(single, self.target, row_group_bytes=row_group_bytes)


def _single_sql(answers: str, position: Sequence[str], *, has_typed: bool) -> str:
    """Build the SELECT of one answer for each request, of those in a file's table expression."""
    text = text_sql("answers", has_typed=has_typed)
    placed = f"(select *, {text} as said, file_row_number as place from {answers} as answers)"
    order = "kind = 'done' desc, said nulls last, kind, message"
    return f"""
        select answers.* exclude (said, place)
        from {placed} as answers
        semi join (
            {preferred_sql(placed, "request_key", "place", order, ["kind", "said", "message"])}
        ) as preferred using (place)
        {_order_sql(position)}
    """


def _order_sql(columns: Sequence[str]) -> str:
    return f"order by {', '.join(columns)}" if columns else ""


def _answers_query(
    shard: Shard,
    validated: str | None,
    text: str,
    position: Sequence[str],
    *,
    received_at: str,
    has_typed: bool,
    is_in_order: bool = False,
) -> str:
    """Build the SELECT of the answers that a shard's files hold.

    Args:
        shard: The shard.
        validated: A SELECT of the requests with what became of them, each answer validated, or None
            where there is no file.
        text: SQL expression of what there is to say of an outcome.
        position: The column by which they are ordered, or none.
        received_at: SQL expression of when they came.
        has_typed: Whether the answers are stored as structs.
        is_in_order: Whether they are read in that order, and need no sorting.
    """
    if validated is None:
        columns = ", ".join(f"cast(null as {kind}) as {name}" for name, kind in _COLUMNS.items())
        return f"select {columns} where false"
    kind = "if(outcome <> 'answered', outcome, coalesce(mismatch_kind, 'done'))"
    # What the typed answer gives back is not written twice.
    clean = "if(is_given_back, null, clean_content)" if has_typed else "clean_content"
    values = {
        "kind": kind,
        "message": f"if(outcome in {_OF_MODELS}, {text}, {_masked_sql(text)})",
        "content": f"""case
            when {kind} = 'done' then {clean}
            when outcome in {_OF_ERRORS} then coalesce(raw, refusal, {_masked_sql("body")})
            else coalesce(raw, refusal, body)
        end""",
        "batch_id": "null" if shard.synchronous else literal(shard.batch_id or ""),
        "shard": literal(shard.shard),
        "received_at": received_at,
    }
    columns = ", ".join(
        f"try_cast({values.get(name, name)} as {data_type}) as {name}"
        for name, data_type in _COLUMNS.items()
    )
    columns += "".join(f", {name}" for name in position)
    if has_typed:
        columns += f", if({kind} = 'done', answer, null) as {TYPED}"
    order = "" if is_in_order else _order_sql(position)
    return f"select {columns} from ({validated}) {order}"


def _masked_sql(text: str) -> str:
    """Build a text of the service without secrets, as `BatchService.masked` returns it."""
    return f"regexp_replace({text}, getvariable('mask'), '\\1***', 'g')"


def _lost(shard: Shard, store: StateDirectory) -> str:
    """Return what the service no longer has of what became of a shard; empty if it has all."""
    if shard.status == GONE:
        return f"the service no longer has the batch {shard.batch_id}"
    files = {"output": shard.output_file_id}
    if shard.status == "completed":
        # Of another batch the error file tells only what was not done.
        files["error"] = shard.error_file_id
    for kind, file_id in files.items():
        if file_id and not store.response(shard.shard, kind).exists():
            return f"the service no longer has the {kind} file {file_id} of {shard.batch_id}"
    if shard.completed and not shard.output_file_id:
        return f"the service never named the output file of {shard.batch_id}"
    return ""


def _missing_sql(
    shard: Shard, manifest: Path, answers: str, store: StateDirectory, received_at: str
) -> str:
    """Build the SELECT of the requests that no line answered, named by how the batch ended."""
    kinds = {"expired": "expired", "cancelled": "cancelled"}
    lost = _lost(shard, store)
    kind = "file_lost" if lost else kinds.get(shard.status or "", "missing")
    messages = {
        "file_lost": f"{lost}; its answer may have been paid for",
        "expired": "the completion window ended before the request was dealt with",
        "cancelled": "the batch was cancelled before the request was dealt with",
        "missing": "the service returned no line for the request",
    }
    values = {
        "request_key": "request_key",
        "attempt": "attempt",
        "kind": literal(kind),
        "message": literal(messages[kind]),
        "batch_id": literal(shard.batch_id or ""),
        "shard": literal(shard.shard),
        "received_at": received_at,
    }
    columns = ", ".join(
        f"cast({values.get(name, 'null')} as {data_type}) as {name}"
        for name, data_type in ANSWER_COLUMNS.items()
    )
    return f"""
        select {columns}
        from read_parquet({literal(manifest)}) as manifest
        anti join {answers} as answered using (request_key)
    """


def outputs_of(ledger: Ledger, task_key: str) -> list[OutputColumn] | None:
    """Return the output columns of a task, or None if the ledger does not have it.

    Raises:
        EnrichmentError: What the ledger holds is no list of output columns.
    """
    recorded = ledger.tasks.outputs(task_key)
    if recorded is None:
        return None
    try:
        return [OutputColumn(**column) for column in recorded]
    except TypeError as error:
        raise EnrichmentError(
            f"the ledger's outputs of the task {task_key} cannot be read ({error})",
            fix="upgrade dbt-enrich to the version that wrote them",
        ) from error
