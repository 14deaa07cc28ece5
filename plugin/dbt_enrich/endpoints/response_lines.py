"""Response lines: SQL over the lines of output and error files, and of input files read back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dbt_enrich.endpoints.reply_shapes import (
    NO_TEXT,
    body_sql,
    no_text_sql,
    reply_fields,
    unwrapped_sql,
)
from dbt_enrich.sql import literal, literals

# Few lines are longer, and the reader keeps several buffers of twice this size.
LINE_BYTES = 1_048_576
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
    "code": ("body_error", ("$.code", "$.type")),
    "inner_code": ("body_error", ("$.innererror.code",)),
    "problem": ("body_error", ("$.message", "$.detail")),
    "line_code": ("line_error", ("$.code", "$.type")),
    "line_problem": ("line_error", ("$.message", "$.detail")),
}
_CUSTOM_ID = r'"custom_id"\s*:\s*"([^"\\]+)"'
# What a line that is no JSON still tells.
_OF_BROKEN = {
    "custom_id": _CUSTOM_ID,
    **{
        name: rf'"{name}"\s*:\s*(\d+)'
        for name in ("prompt_tokens", "cached_tokens", "completion_tokens")
    },
}
_FILTERED = "('content_filter', 'SAFETY', 'PROHIBITED_CONTENT')"
_CUT = "('length', 'max_tokens', 'max_output_tokens', 'MAX_TOKENS')"


def lines_sql(files: list[Path], line_bytes: int) -> str:
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


def custom_id_sql(line: str) -> str:
    """Build the custom_id of a line; of one that is no JSON, the first that its text names."""
    return (
        f"coalesce(try(json_extract_string({line}, '$.custom_id')), "
        f"case when not json_valid({line}) then {_broken_sql(line, _CUSTOM_ID)} end)"
    )


def _broken_sql(line: str, pattern: str) -> str:
    return f"nullif(regexp_extract({line}, {literal(pattern)}, 1), '')"


def key_sql() -> str:
    """Build the columns `request_key` and `attempt`, which a custom_id consists of."""
    return (
        "try_cast(left(custom_id, 32) as uuid) as request_key, "
        "try_cast(substr(custom_id, 34) as integer) as attempt"
    )


def named_sql(files: list[Path], line_bytes: int, manifest: Path | None = None) -> str:
    """Build the SELECT of one row for each line that answers a request of a manifest, or any."""
    among = ""
    if manifest:
        among = f"join read_parquet({literal(manifest)}) as manifest using (request_key, attempt)"
    return named_lines_sql(lines_sql(files, line_bytes), among)


def named_lines_sql(lines: str, among: str = "") -> str:
    """Build the SELECT of what each line says, with a name for the outcome of its request.

    `content` is the text of an answer, `raw` the text whatever the outcome, and `body` the whole
    body of a reply that was paid for and has no text.

    Args:
        lines: A SELECT with the column `line`.
        among: A join that leaves only the lines of some requests.
    """
    paths = ", ".join(literal(path) for path in _FIELDS.values())
    fields = {name: f"fields[{i}]" for i, name in enumerate(_FIELDS, start=1)}
    replied = reply_fields("body")
    known = ", ".join(
        f"{_known_sql(name, field, replied)} as {name}"
        for name, field in fields.items()
        if name != "raw"
    )
    # A list of parts comes as JSON, and so does a whole body that is a string.
    unusual = f"""coalesce({fields["raw"]}, '') = '' or starts_with({fields["raw"]}, '[')
        or {fields["prompt_tokens"]} is null"""
    errors = ", ".join(
        f"case when {source} is not null then {_of_error(source, paths)} end as {name}"
        for name, (source, paths) in _ERRORS.items()
    )
    return f"""
        with lines as ({lines}),
        extracted as (
            select line, try(json_extract_string(line, [{paths}])) as fields from lines
        ),
        bodies as (
            select
                fields,
                fields is null as is_broken,
                case
                    when fields is null then line
                    when {unusual} then {body_sql("line")}
                end as whole
            from extracted
        ),
        unwrapped as (
            select *, case when whole is not null then {unwrapped_sql("whole")} end as body
            from bodies
        ),
        named_fields as (
            select
                {known},
                whole,
                is_broken,
                case
                    when body is null then {fields["raw"]}
                    else coalesce({replied["raw"]}, case
                        when not starts_with({fields["raw"]}, '[') then nullif({fields["raw"]}, '')
                    end)
                end as raw
            from unwrapped
        ),
        keyed as (
            select *, {key_sql()}, try_cast(status as integer) as status_code, {errors}
            from named_fields
        ),
        named as (
            select
                keyed.*,
                case
                    -- It may hold an answer, so that it is named and kept as one without text.
                    when is_broken then 'answered'
                    when line_code in ('batch_expired', 'batch_cancelled')
                        then substr(line_code, 7)
                    when code = 'content_filter'
                        or inner_code = 'ResponsibleAIPolicyViolation'
                        or finish_reason in {_FILTERED} then 'content_filter'
                    when line_code is not null or line_problem is not null
                        or coalesce(status_code, if(raw is null, 0, 200)) not between 200 and 299
                        or (raw is null and (code is not null or problem is not null))
                        then 'provider_error'
                    when coalesce(refusal, '') <> '' then 'refusal'
                    when finish_reason in {_CUT} then 'truncated'
                    else 'answered'
                end as outcome
            from keyed
            {among}
        )
        select
            * exclude (whole, is_broken),
            if(outcome = 'answered', raw, null) as content,
            case when raw is null then whole end as body,
            case
                when is_broken then {literal(f"{NO_TEXT}: its line is no JSON")}
                when outcome = 'answered' and raw is null then {no_text_sql("whole")}
            end as no_text
        from named
    """


def _known_sql(name: str, field: str, replied: Mapping[str, str]) -> str:
    """Build what is known by a name: the usual field, or what there is in its place."""
    places = [field]
    if name in replied:
        places.append(f"case when body is not null then {replied[name]} end")
    if name in _OF_BROKEN:
        places.append(f"case when is_broken then {_broken_sql('whole', _OF_BROKEN[name])} end")
    return f"coalesce({', '.join([*places, 'null'])})"


def _of_error(error: str, paths: tuple[str, ...]) -> str:
    """Build what an error says; one that is no object is a message by itself."""
    is_object = f"coalesce(try(json_type({error})) = 'OBJECT', false)"
    found = ", ".join(f"{error} ->> {literal(path)}" for path in paths)
    alone = "null" if "$.code" in paths or len(paths) == 1 else f"nullif({error}, '')"
    return f"case when {is_object} then coalesce({found}, null) else {alone} end"


def packed_message_sql() -> str:
    """Build what there is to say of the outcome of a row that was asked in a pack."""
    return """
        case
            when outcome = 'answered' then mismatch
            when outcome = 'expired' then 'the completion window ended first'
            when outcome = 'cancelled' then 'the batch was cancelled first'
            else pack_problem
        end
    """


def said_sql(mismatch: str) -> str:
    """Build what there is to say of an outcome; `mismatch` is the validator's message."""
    said, of_line = "nullif(problem, '')", "nullif(line_problem, '')"
    return f"""
        case outcome
            when 'answered' then coalesce(no_text, {mismatch})
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
