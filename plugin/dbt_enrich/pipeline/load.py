"""Load: a shard's downloaded files into the answer store, every request with a name for its end."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from dbt_enrich.errors import EnrichmentError
from dbt_enrich.ledger import Ledger, Shard, Step
from dbt_enrich.packs import MARK, keys_sql
from dbt_enrich.pipeline.answers import ANSWER_COLUMNS
from dbt_enrich.pipeline.pieces import in_pieces
from dbt_enrich.pipeline.unpack import unpacked
from dbt_enrich.schema import OutputColumn
from dbt_enrich.sql import literal, literals, preferred_sql
from dbt_enrich.store import StateDirectory
from dbt_enrich.validation import validated_answers_sql
from dbt_enrich.workspace import LONG_ROW_GROUP_BYTES, ROW_GROUP_BYTES, Workspace

# A manifest that names no request.
NO_REQUESTS = (
    "select cast(null as uuid) as request_key, cast(null as integer) as attempt where false"
)
# Few lines are longer, and the reader keeps several buffers of twice this size.
_LINE_BYTES = 1_048_576
# How much memory the functions of all threads reserve for what they read at once.
_READINGS = 96
# Rows of one row group of answers: validation needs memory beside those that each thread holds.
_ANSWER_GROUP = 12_288
_FIELDS = {
    "custom_id": "$.custom_id",
    "status": "$.response.status_code",
    "raw": "$.response.body.choices[0].message.content",
    "finish_reason": "$.response.body.choices[0].finish_reason",
    "refusal": "$.response.body.choices[0].message.refusal",
    "model": "$.response.body.model",
    "prompt_tokens": "$.response.body.usage.prompt_tokens",
    "cached_tokens": "$.response.body.usage.prompt_tokens_details.cached_tokens",
    "completion_tokens": "$.response.body.usage.completion_tokens",
    "body_error": "$.response.body.error",
    "line_error": "$.error",
}
# What an error holds, read only where there is one.
_ERRORS = {
    "code": ("body_error", "$.code"),
    "inner_code": ("body_error", "$.innererror.code"),
    "problem": ("body_error", "$.message"),
    "line_code": ("line_error", "$.code"),
    "line_problem": ("line_error", "$.message"),
}


@dataclass(frozen=True)
class LoadedShard:
    """What a shard's files held.

    Attributes:
        shard: The closed shard.
        done: Requests with a valid answer.
        failed: Requests that failed, those without a line included.
        unassigned: Lines that answer packs of which nobody knows the rows; their files stay.
    """

    shard: Shard
    done: int
    failed: int
    unassigned: int = 0


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
        _write_manifest(files, manifest, workspace)
    answers = store.answers(shard.shard)
    requests = workspace.count(manifest)
    unassigned = 0 if requests else _count_packs(files, workspace)
    _write_answers(shard, files, manifest, outputs, answers, workspace, _LINE_BYTES)
    if workspace.count(answers) < requests and (longest := _longest_line(files)) > _LINE_BYTES:
        _write_answers(shard, files, manifest, outputs, answers, workspace, longest)
    written = {shard.shard: workspace.count(answers)}
    missing = requests - written[shard.shard]
    if shard.synchronous:
        # What nobody replied to was not asked, or is as if it had not been.
        missing = 0
        replies = sum(path.read_bytes().count(b"\n") for path in files)
        ledger.note(shard.shard, requests=replies, rows=written[shard.shard])
    if missing:
        name = f"{shard.shard}-missing"
        query = _missing_sql(shard, manifest, answers)
        workspace.write_parquet(query, store.answers(name), durable=True)
        written[name] = missing
    done, *tokens = workspace.row(
        "select count(*) filter (kind = 'done'), sum(prompt_tokens), sum(cached_tokens), "
        f"sum(completion_tokens) from read_parquet({literal(answers)})"
    )
    names = ("prompt_tokens", "cached_tokens", "completion_tokens")
    counts = {n: None if v is None else int(v) for n, v in zip(names, tokens, strict=True)}
    closed = ledger.store(shard.shard, files=written, tokens=counts)
    workspace.give_back(sum(path.stat().st_size for path in files))
    if not keep_files and not unassigned:
        _remove_files(shard, store)
    failed = sum(written.values()) - done
    return LoadedShard(closed, done=done, failed=failed, unassigned=unassigned)


def manifest_from_requests(
    path: Path, manifest: Path, workspace: Workspace, *, task_key: str
) -> None:
    """Write the manifest of an adopted batch from its input file, read back from the service."""
    _write_manifest([path], manifest, workspace, task_key)


def count_requests(manifest: Path, workspace: Workspace) -> tuple[int, int]:
    """Return how many requests a manifest names, and how many rows they ask."""
    file = f"read_parquet({literal(manifest)})"
    is_packed = "custom_id" in workspace.columns(f"from {file}")
    requests = "count(distinct custom_id)" if is_packed else "count(*)"
    counted, rows = workspace.row(f"select {requests}, count(*) from {file}")
    return int(counted), int(rows)


def _write_manifest(
    files: list[Path], manifest: Path, workspace: Workspace, task_key: str | None = None
) -> None:
    """Write the manifest of the requests whose custom_ids the files hold."""
    if files:
        longest = _longest_line(files)
        workspace.make_room(8 * longest)
        workspace.write_parquet(_custom_ids_sql(files, longest), manifest, durable=True)
        if task_key and not workspace.count(manifest):
            packed = keys_sql(f"({_lines_sql(files, longest)})", task_key)
            workspace.write_parquet(packed, manifest, durable=True)
        return
    workspace.write_parquet(
        NO_REQUESTS,
        manifest,
    )


def _count_packs(files: list[Path], workspace: Workspace) -> int:
    """Count the lines of files that answer packs."""
    if not files:
        return 0
    (count,) = workspace.row(
        f"select count(*) from ({_lines_sql(files, _longest_line(files))}) as lines "
        f"where starts_with(try(json_extract_string(line, '$.custom_id')), {literal(MARK)})"
    )
    return int(count)


def _custom_ids_sql(files: list[Path], line_bytes: int) -> str:
    return f"""
        with lines as ({_lines_sql(files, line_bytes)}),
        ids as (select try(json_extract_string(line, '$.custom_id')) as custom_id from lines),
        keys as (select {_key_sql()} from ids)
        select distinct request_key, attempt
        from keys
        where request_key is not null and attempt is not null
    """


def _longest_line(files: list[Path]) -> int:
    """Return the bytes of the longest line, at least the usual bound; read only when in doubt."""
    longest = _LINE_BYTES
    for path in files:
        with path.open("rb") as file:
            longest = max(longest, max(map(len, file), default=0) + 1)
    return longest


def _lines_sql(files: list[Path], line_bytes: int) -> str:
    """Build the SELECT of a file's lines as they are: the reader of raw text that streams.

    DuckDB's CSV reader with a delimiter that no JSON line can hold gives each line as one value,
    in a fraction of the memory that its JSON reader takes, and loses no text of a broken line.
    """
    return f"""
        select line
        from read_csv(
            {literals(files)},
            columns = {{line: 'varchar'}},
            delim = e'\\x01', quote = '', escape = '', header = false, auto_detect = false,
            strict_mode = false, ignore_errors = true,
            max_line_size = {line_bytes}, buffer_size = {2 * line_bytes}
        )
    """


def _key_sql() -> str:
    return (
        "try_cast(left(custom_id, 32) as uuid) as request_key, "
        "try_cast(substr(custom_id, 34) as integer) as attempt"
    )


def _write_answers(
    shard: Shard,
    files: list[Path],
    manifest: Path,
    outputs: list[OutputColumn],
    target: Path,
    workspace: Workspace,
    line_bytes: int,
) -> None:
    is_packed = "custom_id" in workspace.columns(f"from read_parquet({literal(manifest)})")
    with ExitStack() as scratch:
        pieces = scratch.enter_context(
            in_pieces(files, workspace.directory, least_lines=workspace.least_rows)
        )
        row_group_bytes = ROW_GROUP_BYTES
        if pieces != files:
            row_group_bytes = LONG_ROW_GROUP_BYTES
            # A piece is read at once, and each JSON function reserves room for all of it.
            largest = max(path.stat().st_size for path in pieces)
            line_bytes = max(line_bytes, largest)
            workspace.make_room(_READINGS * largest)
        workspace.make_room(8 * line_bytes)
        if is_packed and files:
            named = f"select *, {_said_sql('null')} as said from ({_named_sql(pieces, line_bytes)})"
            read = scratch.enter_context(unpacked(named, manifest, workspace))
        elif files:
            read = _named_sql(pieces, line_bytes, manifest)
        else:
            read = None
        query = _answers_query(shard, read, outputs, is_packed=is_packed)
        workspace.write_parquet(
            query,
            target,
            compression="zstd",
            row_group=_ANSWER_GROUP,
            row_group_bytes=row_group_bytes,
            durable=True,
        )
    (repeated,) = workspace.row(
        f"select count(*) - count(distinct request_key) from read_parquet({literal(target)})"
    )
    if repeated:
        single = target.with_name(f".{target.name}.single")
        workspace.write_parquet(
            _single_sql(target),
            single,
            compression="zstd",
            row_group=_ANSWER_GROUP,
            row_group_bytes=row_group_bytes,
            durable=True,
        )
        single.replace(target)


def _single_sql(answers: Path) -> str:
    """Build the SELECT of one answer for each request, of those that are there."""
    order = "kind = 'done' desc, content nulls last, kind, message"
    placed = f"(select *, file_row_number as place from read_parquet({literal(answers)}))"
    return f"""
        select answers.* exclude (place)
        from {placed} as answers
        semi join (
            {preferred_sql(placed, "request_key", "place", order, ["kind", "content", "message"])}
        ) as preferred using (place)
    """


def _answers_query(
    shard: Shard, read: str | None, outputs: list[OutputColumn], *, is_packed: bool
) -> str:
    """Build the SELECT of the answers that a shard's files hold, each validated.

    Args:
        shard: The shard.
        read: A SELECT of the requests with what became of them, or None where there is no file.
        outputs: The output columns.
        is_packed: Whether they come out of packs.
    """
    if read is None:
        columns = ", ".join(f"cast(null as {k}) as {n}" for n, k in ANSWER_COLUMNS.items())
        return f"select {columns} where false"
    kind = "if(outcome <> 'answered', outcome, coalesce(mismatch_kind, 'done'))"
    values = {
        "kind": kind,
        "message": _packed_message_sql() if is_packed else _said_sql("mismatch"),
        "content": f"if({kind} = 'done', clean_content, coalesce(raw, refusal))",
        "batch_id": "null" if shard.synchronous else literal(shard.batch_id or ""),
        "shard": literal(shard.shard),
        "received_at": "now()",
    }
    columns = ", ".join(
        f"try_cast({values.get(name, name)} as {data_type}) as {name}"
        for name, data_type in ANSWER_COLUMNS.items()
    )
    return f"select {columns} from ({validated_answers_sql(f'({read})', outputs)})"


def _named_sql(files: list[Path], line_bytes: int, manifest: Path | None = None) -> str:
    """Build the SELECT of one row for each line that answers a request of a manifest, or any."""
    paths = ", ".join(literal(path) for path in _FIELDS.values())
    fields = ", ".join(f"fields[{i}] as {name}" for i, name in enumerate(_FIELDS, start=1))
    errors = ", ".join(
        f"case when {source} is not null then try(json_extract_string({source}, {literal(path)})) "
        f"end as {name}"
        for name, (source, path) in _ERRORS.items()
    )
    among = ""
    if manifest:
        among = f"join read_parquet({literal(manifest)}) as manifest using (request_key, attempt)"
    return f"""
        with lines as ({_lines_sql(files, line_bytes)}),
        extracted as (select try(json_extract_string(line, [{paths}])) as fields from lines),
        named_fields as (select {fields} from extracted),
        keyed as (
            select *, {_key_sql()}, try_cast(status as integer) as status_code, {errors}
            from named_fields
        ),
        named as (
            select
                keyed.*,
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
            from keyed
            {among}
        )
        select *, if(outcome = 'answered', raw, null) as content from named
    """


def _packed_message_sql() -> str:
    return """
        case
            when outcome = 'answered' then mismatch
            when outcome = 'expired' then 'the completion window ended first'
            when outcome = 'cancelled' then 'the batch was cancelled first'
            else pack_problem
        end
    """


def _said_sql(mismatch: str) -> str:
    """Build what there is to say of an outcome; `mismatch` is the validator's message."""
    said, of_line = "nullif(problem, '')", "nullif(line_problem, '')"
    return f"""
        case outcome
            when 'answered' then {mismatch}
            when 'expired' then coalesce({of_line}, 'the completion window ended first')
            when 'cancelled' then coalesce({of_line}, 'the batch was cancelled first')
            when 'content_filter'
                then coalesce({said}, {of_line}, 'the answer was cut by the content filter')
            when 'refusal' then refusal
            when 'truncated' then 'the answer was cut at the token limit'
            else concat_ws(': ', coalesce(nullif(code, ''), nullif(line_code, ''),
                'HTTP ' || status_code), coalesce({said}, {of_line}, 'no reason given'))
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


def sweep_files(run_id: str, *, ledger: Ledger, store: StateDirectory) -> None:
    """Remove the request and response files that nothing needs any more.

    They are what a killed run did not finish, what it had not yet removed of shards that it had
    closed, and input files of shards whose answers are downloaded.

    Args:
        run_id: The run that sweeps; while another one is alive, what may be its own stays.
        ledger: Says how far each shard has come.
        store: Where the files lie.
    """
    with store.no_run_begins(run_id) as is_alone:
        files = store.shard_files()
        unfinished = store.unfinished_files() if is_alone else []
        shards = ledger.shards({name for _, name in files})
        needed = {path for shard in shards for path in _needed_files(shard, store)}
        known = {shard.shard for shard in shards}
        whole = [path for path, name in files if name in known or is_alone]
        for path in [*unfinished, *whole]:
            if path not in needed:
                _remove(path)


def _needed_files(shard: Shard, store: StateDirectory) -> list[Path]:
    name = shard.shard
    if shard.is_closed:
        # Of a shard without requests nobody knows whom its answers are for.
        kinds = ("output", "error")
        return [] if shard.requests else [store.response(name, kind) for kind in kinds]
    kept = [store.manifest(name), store.response(name, "output"), store.response(name, "error")]
    return kept if shard.step == Step.DOWNLOADED else [store.requests(name), *kept]


def _remove_files(shard: Shard, store: StateDirectory) -> None:
    for path in (
        store.requests(shard.shard),
        store.manifest(shard.shard),
        store.response(shard.shard, "output"),
        store.response(shard.shard, "error"),
    ):
        _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
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
