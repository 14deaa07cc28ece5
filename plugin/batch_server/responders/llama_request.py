"""A `chat/completions` body as a request to llama.cpp's server.

Bodies were held to `body_rules` before; what is refused here is what this model cannot do.
"""

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
_SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty")


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

    Args:
        body: A body in which `body_problem` finds nothing.

    Raises:
        BadRequest: It asks for what the model cannot do.
    """
    if body.get("n") not in (None, 1):
        raise BadRequest("Only one choice can be answered; leave out 'n'.", param="n")
    messages = tuple(_message(place, message) for place, message in enumerate(body["messages"]))
    return Completion(messages, _schema(body), _options(body))


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


def _message(place: int, message: Mapping[str, Any]) -> dict[str, str]:
    where, content = f"messages[{place}]", message.get("content")
    if message["role"] not in ROLES:
        raise BadRequest(
            f"'{where}' must have a 'role' out of {', '.join(ROLES)}.", param=f"{where}.role"
        )
    if isinstance(content, list):
        content = "".join(_text(where, part) for part in content)
    if content is None:
        raise BadRequest(f"'{where}' must have a text as 'content'.", param=f"{where}.content")
    # A lone surrogate, which JSON can spell, has no UTF-8.
    text = content.encode("utf-8", "replace").decode()
    # `developer` is the newer name of `system`, which chat templates do not know.
    role = "system" if message["role"] == "developer" else str(message["role"])
    return {"role": role, "content": text}


def _text(where: str, part: Mapping[str, Any]) -> str:
    if part["type"] == "image_url":
        raise BadRequest(
            f"'{where}' has an image, and the model reads text only.", param=f"{where}.content"
        )
    if part["type"] != "text":
        raise BadRequest(
            f"'{where}' has content that is not text; the model reads text only.",
            param=f"{where}.content",
        )
    return str(part["text"])


def _schema(body: Mapping[str, Any]) -> dict[str, Any] | None:
    form = body.get("response_format") or {"type": "text"}
    if form["type"] == "text":
        return None
    if form["type"] == "json_object":
        return {"type": "object", "x-guidance": _LAYOUT}
    return {**form["json_schema"]["schema"], "x-guidance": _LAYOUT}


def _options(body: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: body[name] for name in _SAMPLING if body.get(name) is not None}
    options = {"temperature": 1.0, "top_p": 1.0, **given}
    if (seed := body.get("seed")) is not None:
        # The sampler takes 32 bits, and all ones are its sign for a random seed.
        options["seed"] = seed % (2**32 - 1)
    wanted = body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_MAX_TOKENS
    # The server counts in 32 bits; the context ends every answer long before.
    options["max_tokens"] = min(wanted, 2**31 - 1)
    stop = body.get("stop") or []
    # An empty text would end every answer before it has begun.
    if texts := [text for text in ([stop] if isinstance(stop, str) else stop) if text]:
        options["stop"] = texts
    return options
