"""`/embeddings`: the only module that knows the format of its requests and its replies.

A request's `input` is the text of a row, or a list of texts, one for each row of a pack. The reply
has one entry of `data` for each, and `index` is its place. Vectors are asked for in base64, which
takes a quarter of the bytes of numbers as JSON. Servers that take no notice of that (Ollama,
BerriAI/litellm#42426) send numbers.

Before the replies are read by SQL, `slim_reply` takes their vectors out; in the place of `data` it
leaves a mark with the number of the line.
"""

from __future__ import annotations

import binascii
import json
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from dbt_enrich.endpoints.base import Endpoint, Image, Prompt, ReplyPaths
from dbt_enrich.sql import literal
from dbt_enrich.task.endpoint_names import EndpointName

# https://platform.openai.com/docs/api-reference/embeddings/create: inputs of a request, and tokens
# of all of them together.
MAX_INPUTS: Final = 2_048
MAX_REQUEST_TOKENS: Final = 300_000
_FLOAT_BYTES: Final = 4
# What gateways put a body into.
_WRAPPERS: Final = ("result", "response", "body")

_REPLY = ReplyPaths(
    usual={
        "raw": "$.data",
        "finish_reason": "$.finish_reason",
        "refusal": "$.refusal",
        "model": "$.model",
        "prompt_tokens": "$.usage.prompt_tokens",
        "cached_tokens": "$.usage.prompt_tokens_details.cached_tokens",
        "completion_tokens": "$.usage.completion_tokens",
    },
    others={"prompt_tokens": ("$.usage.total_tokens", "$.prompt_eval_count")},
    keys=("data", "usage"),
    answers="$.data",
)


class _Embeddings:
    name = EndpointName.EMBEDDINGS
    path = "/embeddings"
    message_path = "$.input"
    reply = _REPLY
    cut_reasons = ()
    filter_reasons = ("content_filter",)
    takes_lists = True
    takes_images = False

    def body(
        self,
        prompt: Prompt,
        user_message: str,
        parameters: Mapping[str, Any],
        images: Sequence[Image] = (),  # noqa: ARG002 - there are none
    ) -> dict[str, Any]:
        dimensions = {} if prompt.dimensions is None else {"dimensions": prompt.dimensions}
        return {
            "input": user_message,
            "encoding_format": "base64",
            **dimensions,
            **parameters,
        }

    def repair_sql(self, answer: str, problem: str) -> str:  # noqa: ARG002
        # There is nothing to say to a model that reads texts alone.
        return "cast(null as varchar)"

    def prompt_tokens(self, prompt: Prompt, model: str) -> int:  # noqa: ARG002
        return 0


EMBEDDINGS: Final[Endpoint] = _Embeddings()


def slim_reply(reply: Any, mark: str) -> list[tuple[int, bytes]]:
    """Take the vectors out of the line of an output file, parsed; what else it says stays.

    Args:
        reply: The line, which is changed: the `data` of its body becomes `mark`.
        mark: What no service can have written there, by which the line is found again.

    Returns:
        The vectors, each with its place from 0 on, as little-endian floats of 32 bits; an empty one
        for what is no vector. Of a place that is there twice there is none.
    """
    body = next((body for body in _bodies(reply) if isinstance(body.get("data"), list)), None)
    if body is None:
        return []
    entries = body["data"]
    body["data"] = mark if entries else None
    found: dict[int, bytes] = {}
    twice = set()
    for place, vector in _vectors(entries):
        if place in found:
            twice.add(place)
        found[place] = vector
    return [(place, vector) for place, vector in found.items() if place not in twice]


def _bodies(reply: Any) -> Iterator[dict[str, Any]]:
    """Return what may be a line's body, where `reply_shapes` finds it, the usual place first.

    One that is written as a JSON text is replaced by what it says.
    """
    if not isinstance(reply, dict):
        return
    response = reply.get("response")
    places = ((response, "body"), (reply, "response"), (reply, "body"), (reply, "result"))
    for holder, key in places:
        if not isinstance(holder, dict):
            continue
        body = holder.get(key)
        if isinstance(body, str):
            with suppress(ValueError, RecursionError):
                holder[key] = body = json.loads(body)
        if isinstance(body, dict):
            yield body
            yield from (inner for name in _WRAPPERS if isinstance(inner := body.get(name), dict))


def _vectors(entries: list[Any]) -> Iterator[tuple[int, bytes]]:
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            continue
        place = number if entry.get("index") is None else entry["index"]
        if isinstance(place, int) and 0 <= place < 2**31:
            yield place, _bytes_of(entry.get("embedding"))


def _bytes_of(embedding: Any) -> bytes:
    """Return a vector's bytes, of base64 or of numbers; none of what is neither."""
    try:
        if isinstance(embedding, str):
            vector = binascii.a2b_base64(embedding, strict_mode=True)
            return vector if len(vector) % _FLOAT_BYTES == 0 else b""
        numbers = array("f", embedding)
    except (TypeError, ValueError, OverflowError):
        return b""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def numbers_of(vector: bytes) -> list[float]:
    """Return a vector's numbers, of its bytes as `slim_reply` returns them."""
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def lines_sql(named: str, marked: str) -> str:
    """Build the SELECT of what the lines of an output file say, without the vectors.

    Args:
        named: A SELECT of the lines, slim: custom_id, outcome, what was said of it, its fields, and
            in `raw` the mark of the line.
        marked: How each mark begins; the number of the line follows.
    """
    return f"""
        select
            custom_id, outcome, said, body, refusal, finish_reason,
            status_code, model,
            prompt_tokens, cached_tokens, completion_tokens,
            case when starts_with(raw, {literal(marked)})
                then try_cast(substr(raw, {len(marked) + 1}) as bigint)
            end as line
        from ({named})
    """


def asked_sql(lines: str, standing: str, requests: str) -> str:
    """Build the SELECT of a shard's requests, each with the line that answers it.

    Args:
        lines: Table expression of the lines, each with its `number`.
        standing: A SELECT of the number of the line that stands, of each custom_id.
        requests: Table expression of the requests: request_key, attempt, custom_id, the `place` in
            the request from 0 on, and what else they have.
    """
    return f"""
        with sizes as (
            select custom_id, count(*) as rows_in_pack from {requests} group by custom_id
        ),
        standing as (
            select lines.* from {lines} as lines semi join ({standing}) as preferred using (number)
        )
        select requests.*, standing.* exclude (custom_id, number), sizes.rows_in_pack
        from {requests} as requests
        join standing using (custom_id)
        join sizes using (custom_id)
    """


def opened_sql(asked: str, vectors: str) -> str:
    """Build the SELECT of one row for each request: its vector, or what became of it.

    Requests and numbers are held in memory; the vectors stream past them.

    Args:
        asked: Table expression of the requests.
        vectors: Table expression of line, place and vector.
    """
    shares = ", ".join(
        f"try_cast(asked.{name} as bigint) // rows_in_pack + "
        f"if(asked.place < try_cast(asked.{name} as bigint) % rows_in_pack, 1, 0) as {name}"
        for name in ("prompt_tokens", "cached_tokens")
    )
    # A vector is no tokens.
    shares += ", cast(if(try_cast(asked.prompt_tokens as bigint) is null, null, 0) as bigint)"
    shares += " as completion_tokens"
    columns = f"""
        asked.* exclude (outcome, line, prompt_tokens, cached_tokens, completion_tokens),
        cast(null as varchar) as raw, cast(null as bigint) as reasoning_tokens, {shares}
    """
    return f"""
        select {columns}, asked.outcome as outcome_of_pack, 'answered' as outcome, vector
        from {vectors} as vectors
        join (select * from {asked} where outcome = 'answered') as asked using (line, place)
        union all by name
        select
            {columns},
            asked.outcome as outcome_of_pack,
            case
                when asked.outcome = 'answered' then 'missing'
                when asked.outcome in ('expired', 'cancelled') or asked.rows_in_pack = 1
                    then asked.outcome
                else 'pack_failed'
            end as outcome,
            cast(null as float[]) as vector
        from {asked} as asked
        anti join (select line, place from {vectors}) as vectors
            on vectors.line = asked.line and vectors.place = asked.place
            and asked.outcome = 'answered'
    """


def vector_message_sql() -> str:
    """Build what there is to say of the outcome of a request; `mismatch` is of its vector."""
    return """
        case outcome
            when 'answered' then mismatch
            when 'missing'
                then coalesce(said, 'the reply does not have the vector of the row exactly once')
            when 'pack_failed' then outcome_of_pack || ': ' || coalesce(said, 'no reason given')
            else said
        end
    """
