"""Load: a shard's downloaded files into the answer store, every request with a name for its end."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import duckdb

from dbt_enrich.errors import EnrichmentError
from dbt_enrich.ledger import Ledger, Shard
from dbt_enrich.pipeline.answers import ANSWER_COLUMNS
from dbt_enrich.schema import OutputColumn
from dbt_enrich.sql import literal, literals
from dbt_enrich.store import StateDirectory
from dbt_enrich.validation import validated_answers_sql
from dbt_enrich.workspace import Workspace

# Answers of chat/completions stay far below this; DuckDB's reader keeps two buffers a thread.
_LINE_BYTES = 16_777_216
_LARGE_LINE_BYTES = 209_715_200
_BODY = {
    "raw": "$.choices[0].message.content",
    "finish_reason": "$.choices[0].finish_reason",
    "refusal": "$.choices[0].message.refusal",
    "model": "$.model",
    "prompt_tokens": "$.usage.prompt_tokens",
    "cached_tokens": "$.usage.prompt_tokens_details.cached_tokens",
    "completion_tokens": "$.usage.completion_tokens",
    "code": "$.error.code",
    "inner_code": "$.error.innererror.code",
    "problem": "$.error.message",
}
_ERROR = {"line_code": "$.code", "line_problem": "$.message"}


@dataclass(frozen=True)
class LoadedShard:
    """What a shard's files held.

    Attributes:
        shard: The closed shard.
        done: Requests with a valid answer.
        failed: Requests that failed, those without a line included.
    """

    shard: Shard
    done: int
    failed: int


def load(
    shard: Shard,
    outputs: list[OutputColumn],
    *,
    workspace: Workspace,
    ledger: Ledger,
    store: StateDirectory,
    keep_files: bool,
) -> LoadedShard:
    """Write a downloaded shard's answers to the answer store and close the shard.

    Lines may come in any order, twice, broken, for unknown ids or not at all: each request of the
    shard gets exactly one row, an answer or a named failure.

    Args:
        shard: A shard at the step `downloaded`.
        outputs: The output columns of the task that asked.
        workspace: Where the files are read and validated.
        ledger: Where the shard is closed, after its answers are on disk.
        store: Where the files lie.
        keep_files: Whether request and response files stay.
    """
    files = [
        path
        for kind in ("output", "error")
        if (path := store.response(shard.shard, kind)).exists() and path.stat().st_size
    ]
    manifest = store.manifest(shard.shard)
    if not manifest.exists():
        _manifest_from_responses(files, manifest, workspace)
    answers = store.answers(shard.shard)
    _write_answers(shard, files, manifest, outputs, answers, workspace)
    written = {shard.shard: _count(answers, workspace)}
    missing = _count(manifest, workspace) - written[shard.shard]
    if missing:
        name = f"{shard.shard}-missing"
        workspace.write_parquet(_missing_sql(shard, manifest, answers), store.answers(name))
        written[name] = missing
    done, *tokens = workspace.row(
        "select count(*) filter (kind = 'done'), sum(prompt_tokens), sum(cached_tokens), "
        f"sum(completion_tokens) from read_parquet({literal(answers)})"
    )
    names = ("prompt_tokens", "cached_tokens", "completion_tokens")
    counts = {n: None if v is None else int(v) for n, v in zip(names, tokens, strict=True)}
    closed = ledger.store(shard.shard, files=written, tokens=counts)
    if not keep_files:
        _remove_files(shard, store)
    return LoadedShard(closed, done=done, failed=sum(written.values()) - done)


def manifest_from_requests(path: Path, manifest: Path, workspace: Workspace) -> None:
    """Write the manifest of an adopted batch from its input file, read back from the service."""
    workspace.write_parquet(_custom_ids_sql([path]), manifest)


def _manifest_from_responses(files: list[Path], manifest: Path, workspace: Workspace) -> None:
    if files:
        workspace.write_parquet(_custom_ids_sql(files), manifest)
        return
    workspace.write_parquet(
        "select cast(null as uuid) as request_key, cast(null as integer) as attempt where false",
        manifest,
    )


def _custom_ids_sql(files: list[Path]) -> str:
    return f"""
        with lines as (
            select {_key_sql()}
            from read_json({literals(files)}, columns = {{custom_id: 'varchar'}},
                format = 'newline_delimited', ignore_errors = true,
                maximum_object_size = {_LARGE_LINE_BYTES})
        )
        select distinct request_key, attempt
        from lines
        where request_key is not null and attempt is not null
    """


def _key_sql() -> str:
    return (
        "try_cast(left(custom_id, 32) as uuid) as request_key, "
        "try_cast(substr(custom_id, 34) as integer) as attempt"
    )


def _count(path: Path, workspace: Workspace) -> int:
    (count,) = workspace.row(f"select count(*) from read_parquet({literal(path)})")
    return int(count)


def _write_answers(
    shard: Shard,
    files: list[Path],
    manifest: Path,
    outputs: list[OutputColumn],
    target: Path,
    workspace: Workspace,
) -> None:
    query = _answers_query(shard, files, manifest, outputs, _LINE_BYTES)
    try:
        workspace.write_parquet(query, target)
    except duckdb.InvalidInputException:
        query = _answers_query(shard, files, manifest, outputs, _LARGE_LINE_BYTES)
        workspace.write_parquet(query, target)
    (repeated,) = workspace.row(
        f"select count(*) - count(distinct request_key) from read_parquet({literal(target)})"
    )
    if repeated:
        single = target.with_name(f".{target.name}.single")
        workspace.write_parquet(
            f"select * from read_parquet({literal(target)}) qualify row_number() over "
            "(partition by request_key order by kind = 'done' desc, content nulls last) = 1",
            single,
        )
        single.replace(target)


def _answers_query(
    shard: Shard, files: list[Path], manifest: Path, outputs: list[OutputColumn], line_bytes: int
) -> str:
    """Build the SELECT of one row for each line that belongs to the shard."""
    if not files:
        columns = ", ".join(f"cast(null as {k}) as {n}" for n, k in ANSWER_COLUMNS.items())
        return f"select {columns} where false"
    body = ", ".join(f"body[{i}] as {name}" for i, name in enumerate(_BODY, start=1))
    error = ", ".join(f"error[{i}] as {name}" for i, name in enumerate(_ERROR, start=1))
    read = f"""
        with lines as (
            select
                {_key_sql()},
                response.status_code as status_code,
                json_extract_string(response.body, {_paths(_BODY)}) as body,
                json_extract_string(error, {_paths(_ERROR)}) as error
            from read_json(
                {literals(files)},
                columns = {{
                    custom_id: 'varchar',
                    response: 'struct(status_code integer, body json)',
                    error: 'json'
                }},
                format = 'newline_delimited',
                ignore_errors = true,
                maximum_object_size = {line_bytes}
            )
        ),
        fields as (select request_key, attempt, status_code, {body}, {error} from lines),
        named as (
            select
                fields.*,
                case
                    when line_code in ('batch_expired', 'batch_cancelled')
                        then substr(line_code, 7)
                    when code = 'content_filter'
                        or inner_code = 'ResponsibleAIPolicyViolation'
                        or finish_reason = 'content_filter' then 'content_filter'
                    when line_code is not null or line_problem is not null
                        or status_code is null or status_code not between 200 and 299
                        then 'provider_error'
                    when coalesce(refusal, '') <> '' then 'refusal'
                    when finish_reason = 'length' then 'truncated'
                    else 'answered'
                end as outcome
            from fields
            join read_parquet({literal(manifest)}) as manifest using (request_key, attempt)
        )
        select *, if(outcome = 'answered', raw, null) as content from named
    """
    kind = "if(outcome <> 'answered', outcome, coalesce(mismatch_kind, 'done'))"
    values = {
        "kind": kind,
        "message": _message_sql(),
        "content": f"if({kind} = 'done', clean_content, coalesce(raw, refusal))",
        "batch_id": literal(shard.batch_id or ""),
        "shard": literal(shard.shard),
        "received_at": "now()",
    }
    columns = ", ".join(
        f"cast({values.get(name, name)} as {data_type}) as {name}"
        if "tokens" not in name
        else f"try_cast({name} as {data_type}) as {name}"
        for name, data_type in ANSWER_COLUMNS.items()
    )
    return f"select {columns} from ({validated_answers_sql(f'({read})', outputs)})"


def _paths(paths: dict[str, str]) -> str:
    return literals(paths.values()).removesuffix("::varchar[]")


def _message_sql() -> str:
    return """
        case outcome
            when 'answered' then mismatch
            when 'expired' then coalesce(line_problem, 'the completion window ended first')
            when 'cancelled' then coalesce(line_problem, 'the batch was cancelled first')
            when 'content_filter'
                then coalesce(problem, line_problem, 'the answer was cut by the content filter')
            when 'refusal' then refusal
            when 'truncated' then 'the answer was cut at the token limit'
            else concat_ws(': ', coalesce(code, line_code, 'HTTP ' || status_code),
                coalesce(problem, line_problem, 'no reason given'))
        end
    """


def _missing_sql(shard: Shard, manifest: Path, answers: Path) -> str:
    """Build the SELECT of the requests that no line answered, named by how the batch ended."""
    kinds = {"expired": "expired", "cancelled": "cancelled"}
    kind = kinds.get(shard.status or "", "missing")
    messages = {
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
        "received_at": "now()",
    }
    columns = ", ".join(
        f"cast({values.get(name, 'null')} as {data_type}) as {name}"
        for name, data_type in ANSWER_COLUMNS.items()
    )
    return f"""
        select {columns}
        from read_parquet({literal(manifest)}) as manifest
        anti join read_parquet({literal(answers)}) as answered using (request_key)
    """


def _remove_files(shard: Shard, store: StateDirectory) -> None:
    for path in (
        store.requests(shard.shard),
        store.manifest(shard.shard),
        store.response(shard.shard, "output"),
        store.response(shard.shard, "error"),
    ):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def outputs_of(ledger: Ledger, task_key: str) -> list[OutputColumn] | None:
    """Return the output columns that a task was noted with, or None if the ledger has not it.

    Raises:
        EnrichmentError: What the ledger holds is no list of output columns.
    """
    noted = ledger.task_outputs(task_key)
    if noted is None:
        return None
    try:
        return [OutputColumn(**column) for column in noted]
    except TypeError as error:
        raise EnrichmentError(
            f"the ledger's outputs of the task {task_key} cannot be read ({error}); upgrade "
            "dbt-enrich to the version that wrote them"
        ) from error
