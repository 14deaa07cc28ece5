"""Where well-known servers put an answer's text, its end and its tokens in a reply's body, as SQL.

Nearly every reply has its text at `choices[0].message.content`, and none of this is asked of it.
Read beside that, in this order:

- `choices[0].text` (legacy completions), `delta.content` (one chunk), `message.content` (Ollama's
  own API, Cohere), `output_text` and `output[]` (Responses API), `content[]` (Anthropic),
  `output.message` (Bedrock), `candidates[0].content.parts[]` (Gemini), `response` (Ollama).
- Lists of parts: those of the types `text` and `output_text`. Parts that are thinking are not
  (Mistral's Magistral: infiniflow/ragflow#14805; NousResearch/hermes-agent#4748).
- A later choice, where the first one has no text.
- The object as the server has parsed it, or as the arguments of a call that the model made in
  place of an answer: `parsed`, `tool_calls[]`, `function_call`, `output[].arguments`,
  `content[].input`.
- What a server has taken for thinking, where it is one JSON object and nothing else: vLLM with
  `include_reasoning` off (vllm-project/vllm#48863), OpenRouter (chunkhound/chunkhound#415).

Whole bodies are also found as a JSON string, in place of `response` (vLLM's run-batch), and in a
gateway's `result`, `data` or `response`.
"""

from __future__ import annotations

from dbt_enrich.sql import literal

NO_TEXT = "the reply has no text of an answer"

_TEXTS = (
    "$.choices[0].message.content",
    "$.choices[0].text",
    "$.choices[0].delta.content",
    "$.message.content",
    "$.output_text",
    "$.output",
    "$.content",
    "$.response",
    "$.generated_text",
)
_PARTS = (
    "$.choices[0].message.content[*]",
    "$.choices[0].delta.content[*]",
    "$.output[*].content[*]",
    "$.message.content[*]",
    "$.output.message.content[*]",
    "$.content[*]",
    "$.candidates[0].content.parts[*]",
)
_OBJECTS = (
    "$.choices[*].message.content",
    "$.choices[*].message.parsed",
    "$.choices[0].message.tool_calls[*].function.arguments",
    "$.choices[*].message.function_call.arguments",
    "$.message.tool_calls[*].function.arguments",
    "$.output[*].content[*].parsed",
    "$.output[*].arguments",
    "$.content[*].input",
    "$.candidates[0].content.parts[*].functionCall.args",
)
_THOUGHTS = (
    "$.choices[0].message.reasoning_content",
    "$.choices[0].message.reasoning",
    "$.message.thinking",
)
_REFUSALS = (
    "$.choices[0].message.refusal",
    "$.choices[0].message.content[*].refusal",
    "$.output[*].content[*].refusal",
)
_ENDS = (
    "$.choices[0].finish_reason",
    "$.incomplete_details.reason",
    "$.done_reason",
    "$.stop_reason",
    "$.candidates[0].finishReason",
)
_MODELS = ("$.model", "$.modelVersion")
_TOKENS = {
    "prompt_tokens": (
        "$.usage.prompt_tokens",
        "$.usage.input_tokens",
        "$.prompt_eval_count",
        "$.usageMetadata.promptTokenCount",
    ),
    "cached_tokens": (
        "$.usage.prompt_tokens_details.cached_tokens",
        "$.usage.input_tokens_details.cached_tokens",
        "$.usage.cache_read_input_tokens",
        "$.usageMetadata.cachedContentTokenCount",
    ),
    "completion_tokens": (
        "$.usage.completion_tokens",
        "$.usage.output_tokens",
        "$.eval_count",
        "$.usageMetadata.candidatesTokenCount",
    ),
}
_BODIES = ("$.response.body", "$.response", "$.body", "$.result.message", "$.result")
_WRAPPERS = ("$.result", "$.data", "$.response", "$.body", "$.message.body")
# What a body has that may hold a text.
_HOLDERS = ("choices", "output", "output_text", "message", "content", "candidates", "usage")


def body_sql(line: str) -> str:
    """Build the body of the reply in a line, as JSON text, or NULL."""
    body, *elsewhere = (f"try(json_extract_string({line}, {literal(path)}))" for path in _BODIES)
    has_body = f"try(json_exists({line}, {literal(_BODIES[0])}))"
    return f"case when {has_body} then {body} else coalesce({', '.join(elsewhere)}) end"


def unwrapped_sql(body: str) -> str:
    """Build the object in a body that holds the answer: itself, or what a gateway put it into."""
    holds = " or ".join(f"json_exists({body}, {literal(f'$.{name}')})" for name in _HOLDERS)
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


def reply_fields(body: str) -> dict[str, str]:
    """Build what there is to know of a reply, from the JSON text of its body.

    Returns:
        SQL expressions, each NULL where the body does not have it, by the names of
        `response_lines`.
    """
    return {
        "raw": _text(body),
        "finish_reason": _first(body, _ENDS),
        "refusal": _refusal(body),
        "model": _first(body, _MODELS),
        "body_error": _error(body),
        **{name: _first(body, paths) for name, paths in _TOKENS.items()},
    }


def no_text_sql(body: str) -> str:
    """Build what a body without a text has in its place."""
    return f"""{literal(NO_TEXT)} || case
        when {body} is null then ': it has no body'
        when not json_valid({body}) then ': it is no JSON'
        when json_type({body}, '$.choices') = 'ARRAY'
            and json_array_length({body}, '$.choices') = 0 then ': `choices` is empty'
        when json_type({body}, '$.choices[0].message') = 'OBJECT'
            then ': `choices[0].message` has ' || {_keys(body, "$.choices[0].message")}
        when json_type({body}, '$.choices[0]') = 'OBJECT'
            then ': `choices[0]` has ' || {_keys(body, "$.choices[0]")}
        when json_type({body}) = 'OBJECT' then ': it has ' || {_keys(body, "$")}
        else ': it is no object'
    end"""


def _text(body: str) -> str:
    places = [
        *(_string(body, path) for path in _TEXTS),
        *(_joined(body, path) for path in _PARTS),
        *(_listed(body, path) for path in _OBJECTS),
        *(_whole_object(f"({body} ->> {literal(path)})") for path in _THOUGHTS),
    ]
    return f"coalesce({', '.join(places)})"


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


def _refusal(body: str) -> str:
    alone, *listed = _REFUSALS
    return f"coalesce({body} ->> {literal(alone)}, {', '.join(_listed(body, p) for p in listed)})"


def _error(body: str) -> str:
    """Build the error in a body; that of Azure's gateway has a status code in its place."""
    is_gateways = f"json_exists({body}, '$.statusCode') and json_exists({body}, '$.message')"
    return f"coalesce({body} ->> '$.error', case when {is_gateways} then {body} end)"


def _first(body: str, paths: tuple[str, ...]) -> str:
    return f"coalesce({', '.join(f'{body} ->> {literal(path)}' for path in paths)}, null)"


def _keys(body: str, path: str) -> str:
    keys = f"json_keys({body}, {literal(path)})"
    return f"coalesce(nullif('`' || array_to_string({keys}[:12], '`, `') || '`', '``'), 'nothing')"
