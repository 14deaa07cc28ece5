"""Response lines: SQL over the lines of output and error files, and of input files read back."""

from __future__ import annotations

from pathlib import Path

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
    "code": ("body_error", "$.code"),
    "inner_code": ("body_error", "$.innererror.code"),
    "problem": ("body_error", "$.message"),
    "line_code": ("line_error", "$.code"),
    "line_problem": ("line_error", "$.message"),
}


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


def key_sql() -> str:
    """Build the columns `request_key` and `attempt`, which a custom_id consists of."""
    return (
        "try_cast(left(custom_id, 32) as uuid) as request_key, "
        "try_cast(substr(custom_id, 34) as integer) as attempt"
    )


def named_sql(files: list[Path], line_bytes: int, manifest: Path | None = None) -> str:
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
        with lines as ({lines_sql(files, line_bytes)}),
        extracted as (select try(json_extract_string(line, [{paths}])) as fields from lines),
        named_fields as (select {fields} from extracted),
        keyed as (
            select *, {key_sql()}, try_cast(status as integer) as status_code, {errors}
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
