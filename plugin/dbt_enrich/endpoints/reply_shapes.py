"""A reply's text, its end and its tokens, wherever its body has them, as SQL: pure builders.

Nearly every reply has them at its endpoint's usual paths, and none of this is asked of it.
Whole bodies are also found as a JSON string, in place of `response` (vLLM's run-batch), and in a
gateway's `result`, `data` or `response`.
"""

from __future__ import annotations

from dbt_enrich.endpoints.base import ReplyPaths
from dbt_enrich.sql import literal

NO_TEXT = "the reply has no text of an answer"

_BODIES = ("$.response.body", "$.response", "$.body", "$.result.message", "$.result")
_WRAPPERS = ("$.result", "$.data", "$.response", "$.body", "$.message.body")


def body_sql(line: str) -> str:
    """Build the body of the reply in a line, as JSON text, or NULL."""
    body, *elsewhere = (f"try(json_extract_string({line}, {literal(path)}))" for path in _BODIES)
    has_body = f"try(json_exists({line}, {literal(_BODIES[0])}))"
    return f"case when {has_body} then {body} else coalesce({', '.join(elsewhere)}) end"


def unwrapped_sql(body: str, paths: ReplyPaths) -> str:
    """Build the object in a body that holds the answer: itself, or what a gateway put it into."""
    holds = " or ".join(f"json_exists({body}, {literal(f'$.{key}')})" for key in paths.keys)
    inner = ", ".join(
        f"case when json_type({body}, {literal(path)}) = 'OBJECT' "
        f"then json_extract_string({body}, {literal(path)}) end"
        for path in _WRAPPERS
    )
    return f"""case
        when not json_valid({body}) or json_type({body}) <> 'OBJECT' then null
        when {holds} then {body}
        else coalesce({inner}, {body})
    end"""


def reply_fields(body: str, paths: ReplyPaths) -> dict[str, str]:
    """Build what there is to know of a reply, from the JSON text of its body.

    Returns:
        SQL expressions, each NULL where the body does not have it, by the names of
        `response_lines`.
    """
    usual = dict(paths.usual)
    return {
        "raw": _text(body, usual.pop("raw"), paths),
        "refusal": _refusal(body, usual.pop("refusal"), paths),
        "body_error": _error(body),
        **{name: _first(body, _paths_of(name, paths)) for name in usual},
    }


def no_text_sql(body: str, paths: ReplyPaths) -> str:
    """Build what a body without a text has in its place."""
    is_empty = ""
    if paths.answers:
        answers = literal(paths.answers)
        is_empty = f"""when json_type({body}, {answers}) = 'ARRAY'
            and json_array_length({body}, {answers}) = 0
            then ': `{paths.answers.removeprefix("$.")}` is empty'"""
    has_keys = "\n".join(
        f"""when json_type({body}, {literal(path)}) = 'OBJECT'
            then ': `{path.removeprefix("$.")}` has ' || {_keys(body, path)}"""
        for path in paths.places
    )
    return f"""{literal(NO_TEXT)} || case
        when {body} is null then ': it has no body'
        when not json_valid({body}) then ': it is no JSON'
        {is_empty}
        {has_keys}
        when json_type({body}) = 'OBJECT' then ': it has ' || {_keys(body, "$")}
        else ': it is no object'
    end"""


def _text(body: str, usual: str, paths: ReplyPaths) -> str:
    several = []
    if paths.several:
        second, parts = paths.several
        there = f"json_exists({body}, {literal(second)})"
        several = [f"case when {there} then {_joined(body, parts)} end"]
    places = [
        *several,
        *(_string(body, path) for path in (usual, *paths.texts)),
        *(_joined(body, path) for path in paths.parts),
        *(_listed(body, path) for path in paths.objects),
        *(_whole_object(f"({body} ->> {literal(path)})") for path in paths.thoughts),
    ]
    return f"coalesce({', '.join(places)})"


def _paths_of(name: str, paths: ReplyPaths) -> tuple[str, ...]:
    """Return the paths of a field, the one that says most first."""
    detail = (paths.details[name],) if name in paths.details else ()
    return (*detail, paths.usual[name], *paths.others.get(name, ()))


def _string(body: str, path: str) -> str:
    is_string = f"json_type({body}, {literal(path)}) = 'VARCHAR'"
    return f"case when {is_string} then nullif({body} ->> {literal(path)}, '') end"


def _whole_object(text: str) -> str:
    is_object = f"json_valid({text}) and json_type({text}) = 'OBJECT'"
    return f"case when {is_object} then {text} end"


def _joined(body: str, path: str) -> str:
    """Build the text of a list of parts."""
    return f"""nullif(array_to_string(list_transform(
        json_extract({body}, {literal(path)}),
        lambda part: case
            when json_type(part) = 'VARCHAR' then part ->> '$'
            when json_type(part) <> 'OBJECT' then null
            when coalesce(part ->> '$.type', 'text') not in ('text', 'output_text') then null
            when part ->> '$.thought' = 'true' then null
            else coalesce(part ->> '$.text.value', part ->> '$.text')
        end
    ), ''), '')"""


def _listed(body: str, path: str) -> str:
    """Build the texts or objects at a path, a line each; several that differ are no one answer."""
    texts = f"json_extract_string({body}, {literal(path)})"
    return f"""nullif(array_to_string(list_filter(
        {texts}, lambda text: text not in ('', 'null') and not starts_with(text, '[')
    ), e'\\n'), '')"""


def _refusal(body: str, usual: str, paths: ReplyPaths) -> str:
    listed = (_listed(body, path) for path in paths.refusals)
    return f"coalesce({', '.join([f'{body} ->> {literal(usual)}', *listed, 'null'])})"


def _error(body: str) -> str:
    """Build the error in a body; that of Azure's gateway has a status code in its place."""
    is_gateways = f"json_exists({body}, '$.statusCode') and json_exists({body}, '$.message')"
    return f"coalesce({body} ->> '$.error', case when {is_gateways} then {body} end)"


def _first(body: str, paths: tuple[str, ...]) -> str:
    return f"coalesce({', '.join(f'{body} ->> {literal(path)}' for path in paths)}, null)"


def _keys(body: str, path: str) -> str:
    keys = f"json_keys({body}, {literal(path)})"
    return f"coalesce(nullif('`' || array_to_string({keys}[:12], '`, `') || '`', '``'), 'nothing')"
