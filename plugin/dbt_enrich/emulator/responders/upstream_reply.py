"""What a model server says, as the service's reply: passed on where it can be, else an error."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from dbt_enrich.emulator.responders.base import ChatReply

MAX_REPLY_BYTES: Final = 32_000_000
_MAX_MESSAGE: Final = 2_000


class _BrokenReplyError(Exception):
    """A reply that is no `chat.completion`; the text says why."""


def reply_of(status: int, content: bytes) -> ChatReply:
    """Return the reply for a status and body that the server sent.

    Args:
        status: The HTTP status code.
        content: The body; what is beyond `MAX_REPLY_BYTES` may be left out.
    """
    if len(content) > MAX_REPLY_BYTES:
        return error_reply(
            502,
            f"The model server's reply is larger than {MAX_REPLY_BYTES} bytes.",
            code="reply_too_large",
        )
    if 300 <= status < 400:
        return error_reply(
            502,
            f"The model server sent the request elsewhere (HTTP {status}); its base_url must be "
            "the address that answers.",
            code="redirected",
        )
    if status >= 400:
        return ChatReply(status, {"error": _error_of(status, content)})
    try:
        return ChatReply(200, _completion(content))
    except _BrokenReplyError as problem:
        return error_reply(502, f"The model server's reply {problem}.", code="invalid_reply")


def error_reply(status: int, message: str, *, code: str) -> ChatReply:
    """Return an error of our own about a request."""
    kind = "invalid_request_error" if status == 400 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": code}
    return ChatReply(status, {"error": error})


def _completion(content: bytes) -> dict[str, Any]:
    """Return the body as it is, once it is known to be a `chat.completion`."""
    body = _parsed(content)
    if not isinstance(body, dict):
        raise _BrokenReplyError(f"is no JSON object: {_excerpt(content)}")
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        # Some servers send their errors at status 200.
        error = body.get("error")
        said = f" but an error: {_message_of(error)}" if error else f": {_excerpt(content)}"
        raise _BrokenReplyError(f"has no choices{said}")
    if not all(isinstance(c, dict) and isinstance(c.get("message"), dict) for c in choices):
        raise _BrokenReplyError(f"has a choice without a message: {_excerpt(content)}")
    if not _can_be_counted(body.get("usage")):
        # The answer is worth more than the count of its tokens.
        del body["usage"]
    return body


def _can_be_counted(usage: object) -> bool:
    """Whether tokens can be counted by a `usage`; there may be none: some servers do not count."""
    if usage is None:
        return True
    if not isinstance(usage, dict):
        return False
    details = (usage.get("prompt_tokens_details"), usage.get("completion_tokens_details"))
    return all(found is None or isinstance(found, dict) for found in details)


def _error_of(status: int, content: bytes) -> dict[str, Any]:
    """Return the server's own error object, made from whatever it sent."""
    try:
        body = _parsed(content)
    except _BrokenReplyError:
        body = None
    error = body.get("error", body) if isinstance(body, dict) else None
    document = {"type": "server_error" if status >= 500 else "invalid_request_error"}
    if isinstance(error, Mapping):
        known = {name: error[name] for name in ("type", "param", "code") if name in error}
        return {**document, **known, "message": _message_of(error)}
    text = error if isinstance(error, str) else _excerpt(content)
    message = text[:_MAX_MESSAGE] or f"The model server answered with HTTP {status}."
    return {**document, "message": message, "param": None, "code": None}


def _message_of(error: object) -> str:
    """Return what an error says, in the spellings of the servers that there are."""
    if isinstance(error, Mapping):
        for name in ("message", "detail", "error"):
            if error.get(name):
                return _text(error[name])[:_MAX_MESSAGE]
    return _text(error)[:_MAX_MESSAGE]


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parsed(content: bytes) -> Any:
    """Parse JSON as the standard has it, so that it can be written as such again."""
    try:
        return json.loads(content, parse_constant=_refused, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise _BrokenReplyError(f"is not JSON: {_excerpt(content)}") from error


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number that can be kept")
    return number


def _excerpt(content: bytes) -> str:
    return content[: 4 * 200].decode("utf-8", "replace").strip()[:200]
