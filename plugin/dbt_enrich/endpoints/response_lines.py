"""Response lines: SQL over the lines of output and error files, and of input files read back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dbt_enrich.endpoints.base import Endpoint, ReplyPaths
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
# What an error holds, read only where there is one.
_ERRORS = {
    "code": ("body_error", ("$.code", "$.type")),
    "inner_code": ("body_error", ("$.innererror.code",)),
    "problem": ("body_error", ("$.message", "$.detail")),
    "line_code": ("line_error", ("$.code", "$.type")),
    "line_problem": ("line_error", ("$.message", "$.detail")),
}
_CUSTOM_ID = r'"custom_id"\s*:\s*"([^"\\]+)"'
# Before the name of a field that a reply says more of.
_DETAIL = "more_of_"
_TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens")


def reply_line(custom_id: str | None, status: int, body: object) -> dict[str, Any]:
    """Return the line of an output file that has the reply to a request."""
    response = {"status_code": status, "body": body}
    return {"custom_id": custom_id, "response": response, "error": None}


def error_line(custom_id: str, code: str, message: str) -> dict[str, Any]:
    """Return the line of an error file for a request that has no reply."""
    error = {"code": code, "message": message}
    return {"custom_id": custom_id, "response": None, "error": error}


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


def custom_id_of(line: bytes) -> str:
    """Return the first custom_id that a line's text names, or an empty text."""
    found = re.search(_CUSTOM_ID.encode(), line)
    return found[1].decode("utf-8", "replace") if found else ""


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


def named_sql(
    endpoint: Endpoint,
    files: list[Path],
    line_bytes: int,
    manifest: Path | None = None,
    columns: Sequence[str] = (),
) -> str:
    """Build the SELECT of one row for each line that answers a request of a manifest, or any.

    Args:
        endpoint: The endpoint that was asked.
        files: Output and error files.
        line_bytes: How long their longest line is taken to be.
        manifest: The manifest, or None.
        columns: Those of its columns that the rows have, too.
    """
    among = ""
    if manifest:
        among = f"join read_parquet({literal(manifest)}) as manifest using (request_key, attempt)"
    return named_lines_sql(endpoint, lines_sql(files, line_bytes), among, columns)


def named_lines_sql(
    endpoint: Endpoint, lines: str, among: str = "", columns: Sequence[str] = ()
) -> str:
    """Build the SELECT of what each line says, with a name for the outcome of its request.

    `content` is the text of an answer, `raw` the text whatever the outcome, and `body` the whole
    body of a reply that was paid for and has no text.

    Args:
        endpoint: The endpoint that was asked.
        lines: A SELECT with the column `line`.
        among: A join that leaves only the lines of some requests.
        columns: What it brings along, by name.
    """
    brought = "".join(f"{name}, " for name in columns)
    reply = endpoint.reply
    places = _places(reply)
    paths = ", ".join(literal(path) for path in places.values())
    fields = {name: f"fields[{i}]" for i, name in enumerate(places, start=1)}
    replied = reply_fields("body", reply)
    unusual = f"{fields['several']} is not null or " if reply.several else ""
    broken = _patterns_of_broken(reply)
    known = ", ".join(
        f"{_known_sql(_field_sql(name, fields), replied.get(name), broken.get(name))} as {name}"
        for name in fields
        if name not in ("raw", "several") and not name.startswith(_DETAIL)
    )
    if "reasoning_tokens" not in fields:
        known += ", cast(null as varchar) as reasoning_tokens"
    # A list of parts comes as JSON, and so does a whole body that is a string.
    unusual += f"""coalesce({fields["raw"]}, '') = '' or starts_with({fields["raw"]}, '[')
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
            select *, case when whole is not null then {unwrapped_sql("whole", reply)} end as body
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
                {brought}
                case
                    -- It may hold an answer, so that it is named and kept as one without text.
                    when is_broken then 'answered'
                    when line_code in ('batch_expired', 'batch_cancelled')
                        then substr(line_code, 7)
                    when code = 'content_filter'
                        or inner_code = 'ResponsibleAIPolicyViolation'
                        or {_is_one_of("finish_reason", endpoint.filter_reasons)}
                        then 'content_filter'
                    when line_code is not null or line_problem is not null
                        or coalesce(status_code, if(raw is null, 0, 200)) not between 200 and 299
                        or (raw is null and (code is not null or problem is not null))
                        then 'provider_error'
                    when coalesce(refusal, '') <> '' then 'refusal'
                    when {_is_one_of("finish_reason", endpoint.cut_reasons)} then 'truncated'
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
                when outcome = 'answered' and raw is null then {no_text_sql("whole", reply)}
            end as no_text
        from named
    """


def _places(reply: ReplyPaths) -> dict[str, str]:
    """Return the paths of what a line of an output file or error file usually says."""
    of_body = {
        **reply.usual,
        **{_DETAIL + name: path for name, path in reply.details.items()},
        **({"several": reply.several[0]} if reply.several else {}),
    }
    return {
        "custom_id": "$.custom_id",
        "status": "$.response.status_code",
        **{name: path.replace("$", "$.response.body", 1) for name, path in of_body.items()},
        "body_error": "$.response.body.error",
        "line_error": "$.error",
    }


def _field_sql(name: str, fields: Mapping[str, str]) -> str:
    """Build what a line says by a name at its usual path, or at the one that says more."""
    detail = fields.get(_DETAIL + name)
    return f"coalesce({detail}, {fields[name]})" if detail else fields[name]


def _patterns_of_broken(reply: ReplyPaths) -> dict[str, str]:
    """Return the patterns of what a line that is no JSON still tells."""
    keys = {name: reply.usual[name].rpartition(".")[2] for name in _TOKENS}
    return {"custom_id": _CUSTOM_ID} | {name: rf'"{key}"\s*:\s*(\d+)' for name, key in keys.items()}


def _is_one_of(field: str, values: tuple[str, ...]) -> str:
    return f"{field} in ({', '.join(literal(value) for value in values)})" if values else "false"


def _known_sql(field: str, replied: str | None, pattern: str | None) -> str:
    """Build what is known by a name: the usual field, or what there is in its place."""
    places = [field]
    if replied:
        places.append(f"case when body is not null then {replied} end")
    if pattern:
        places.append(f"case when is_broken then {_broken_sql('whole', pattern)} end")
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


def message_sql(mismatch: str) -> str:
    """Build what there is to say of an outcome; `mismatch` is the validator's message."""
    text, of_line = "nullif(problem, '')", "nullif(line_problem, '')"
    return f"""
        case outcome
            when 'answered' then coalesce(no_text, {mismatch})
            when 'expired' then coalesce({of_line}, 'the completion window ended first')
            when 'cancelled' then coalesce({of_line}, 'the batch was cancelled first')
            when 'content_filter'
                then coalesce({text}, {of_line}, 'the answer was cut by the content filter')
            when 'refusal' then refusal
            when 'truncated' then 'the answer was cut at the token limit'
            else concat_ws(': ', coalesce(nullif(code, ''), nullif(line_code, ''),
                'HTTP ' || status_code), coalesce({text}, {of_line}, 'no reason given'))
        end
    """
