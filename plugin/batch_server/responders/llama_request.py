"""A `chat/completions` body as a request to llama.cpp's server: checked, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batch_server.responders.transcript import STOP, transcript

# A model that never ends its answer would hold a slot until its context is full.
DEFAULT_MAX_TOKENS = 1024
ROLES = ("system", "developer", "user", "assistant")
# Separators as in `json.dumps`, which wrote the examples. Free white space would let a small model
# fill the answer with it. https://github.com/guidance-ai/llguidance/blob/main/docs/json_schema.md
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# Keywords that the grammar compiler knows, to name the one that it does not.
_KNOWN = (
    "$anchor $defs $id $ref $schema additionalItems additionalProperties allOf anyOf const default "
    "definitions description enum examples exclusiveMaximum exclusiveMinimum format items "
    "maxItems maxLength maxProperties maximum minItems minLength minProperties minimum multipleOf "
    "oneOf pattern patternProperties prefixItems properties required title type x-guidance"
)
_NUMBERS = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}


class BadRequest(Exception):  # noqa: N818
    """A request that gets the status 400.

    Attributes:
        param: The body's key that is wrong.
        code: The service's code for it, or None.
    """

    def __init__(self, message: str, *, param: str, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


@dataclass(frozen=True)
class Completion:
    """What is asked of llama.cpp's server.

    Attributes:
        messages: The conversation, `role` and plain `content` of each.
        schema: The JSON Schema that holds the answer, or None for free text.
        options: Sampling and limits, in the server's own names.
    """

    messages: tuple[dict[str, str], ...]
    schema: dict[str, Any] | None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """What other rows of the same task share: all messages but the last, as one text."""
        return json.dumps(self.messages[:-1])

    def body(self, *, has_chat_template: bool) -> dict[str, Any]:
        """Return the server's request: the messages for a chat model, a transcript for others."""
        body = {**self.options, "cache_prompt": True}
        if has_chat_template:
            body["messages"] = list(self.messages)
            # A model that thinks first cannot, as its grammar begins with the answer.
            body["chat_template_kwargs"] = {"enable_thinking": False}
            if self.schema is not None:
                body["response_format"] = {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "strict": True, "schema": self.schema},
                }
            return body
        body["prompt"] = transcript(self.messages)
        if self.schema is not None:
            body["json_schema"] = self.schema
        else:
            body["stop"] = [*body.get("stop", ()), STOP]
        return body


def parse_request(body: Mapping[str, Any]) -> Completion:
    """Return what a `chat/completions` body asks.

    Parameters that the server has no counterpart for, such as `user`, are passed over, as are those
    that are null.

    Raises:
        BadRequest: A value has the wrong type or is out of range.
    """
    if body.get("n") not in (None, 1):
        raise BadRequest("Only one choice can be answered; leave out 'n'.", param="n")
    if body.get("stream"):
        raise BadRequest("Streaming is not supported; leave out 'stream'.", param="stream")
    return Completion(_messages(body), _schema(body), _options(body))


def unknown_keyword(schema: object) -> str | None:
    """Return a keyword of a JSON Schema that the grammar compiler does not know, if there is one.

    Args:
        schema: A JSON Schema that could not be compiled.
    """
    if not isinstance(schema, Mapping):
        return None
    for keyword, value in schema.items():
        if keyword not in _KNOWN.split():
            return str(keyword)
        below = _unknown_below(keyword, value)
        if below is not None:
            return below
    return None


def _unknown_below(keyword: str, value: object) -> str | None:
    if keyword in ("properties", "patternProperties", "$defs", "definitions"):
        schemas = list(value.values()) if isinstance(value, Mapping) else []
    elif keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
        schemas = list(value) if isinstance(value, list) else []
    elif keyword in ("items", "additionalProperties", "additionalItems"):
        schemas = [value]
    else:
        schemas = []
    return next((found for schema in schemas if (found := unknown_keyword(schema))), None)


def _messages(body: Mapping[str, Any]) -> tuple[dict[str, str], ...]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a list with at least one message.", param="messages")
    return tuple(_message(index, message) for index, message in enumerate(messages))


def _message(index: int, message: object) -> dict[str, str]:
    where = f"messages[{index}]"
    if not isinstance(message, Mapping) or message.get("role") not in ROLES:
        raise BadRequest(
            f"'{where}' must have a 'role' out of {', '.join(ROLES)}.", param=f"{where}.role"
        )
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_part(where, part) for part in content)
    if not isinstance(content, str):
        raise BadRequest(f"'{where}' must have a text as 'content'.", param=f"{where}.content")
    # A lone surrogate, which JSON can spell, has no UTF-8.
    text = content.encode("utf-8", "replace").decode()
    # `developer` is the newer name of `system`, which chat templates do not know.
    role = "system" if message["role"] == "developer" else str(message["role"])
    return {"role": role, "content": text}


def _part(where: str, part: object) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text":
        text = part.get("text")
        if isinstance(text, str):
            return text
    raise BadRequest(
        f"'{where}' has content that is not text; the model reads text only.",
        param=f"{where}.content",
    )


def _schema(body: Mapping[str, Any]) -> dict[str, Any] | None:
    form = body.get("response_format")
    if form is None:
        return None
    kind = form.get("type") if isinstance(form, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object", "x-guidance": _LAYOUT}
    if kind != "json_schema":
        raise BadRequest(
            "'response_format' must have the 'type' text, json_object or json_schema.",
            param="response_format.type",
        )
    holder = form.get("json_schema")
    schema = holder.get("schema") if isinstance(holder, Mapping) else None
    if not isinstance(schema, Mapping):
        raise BadRequest(
            "'response_format.json_schema' must have an object as 'schema'.",
            param="response_format.json_schema.schema",
        )
    return {**schema, "x-guidance": _LAYOUT}


def _options(body: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0}
    for key, (low, high) in _NUMBERS.items():
        value = body.get(key)
        if value is None:
            continue
        if not _is_number(value) or not low <= value <= high:
            raise BadRequest(f"'{key}' must be a number from {low:g} to {high:g}.", param=key)
        options[key] = value
    seed = body.get("seed")
    if seed is not None:
        if not _is_integer(seed):
            raise BadRequest("'seed' must be an integer.", param="seed")
        # The sampler takes 32 bits, and all ones are its sign for a random seed.
        options["seed"] = seed % (2**32 - 1)
    options["max_tokens"] = _max_tokens(body)
    stop = _stop(body)
    return {**options, **({"stop": stop} if stop else {})}


def _max_tokens(body: Mapping[str, Any]) -> int:
    for key in ("max_completion_tokens", "max_tokens"):
        value = body.get(key)
        if value is None:
            continue
        if not _is_integer(value) or value < 1:
            raise BadRequest(f"'{key}' must be an integer of at least 1.", param=key)
        # The server counts in 32 bits; the context ends every answer long before.
        return min(int(value), 2**31 - 1)
    return DEFAULT_MAX_TOKENS


def _stop(body: Mapping[str, Any]) -> list[str]:
    stop = body.get("stop")
    texts = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise BadRequest("'stop' must be a text or a list of texts.", param="stop")
    return list(texts)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
