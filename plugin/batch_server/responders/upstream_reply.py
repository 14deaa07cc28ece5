"""What a model server says, as the service's reply: passed on where it can be, else an error."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from batch_server.responders.base import ChatReply

MAX_REPLY_BYTES: Final = 32_000_000
_MAX_MESSAGE: Final = 2_000
# What is passed on of an error, beside its message.
_KEPT: Final = ("type", "param", "code", "innererror")
# What a body may have that is an error and nothing else.
_OF_ERRORS: Final = frozenset(
    {"error", "message", "detail", "code", "type", "object", "param", "status", "statusCode"}
)


def reply_of(status: int, content: bytes) -> ChatReply:
    """Return the reply for a status and body that the server sent.

    A good reply is passed on as it came, whatever its shape: it may be paid for, and its reader
    knows more shapes than one. A body that is no JSON is passed on as a text.

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
        return ChatReply(status, {"error": error_of(status, content)})
    body = body_of(content)
    if isinstance(body, dict) and body.get("error") and body.keys() <= _OF_ERRORS:
        # Some servers send their errors at status 200.
        text = f"The model server's reply is an error: {_message_of(body['error'])}"
        return error_reply(502, text, code="invalid_reply")
    return ChatReply(200, body)


def error_reply(status: int, message: str, *, code: str) -> ChatReply:
    """Return an error of our own about a request."""
    kind = "invalid_request_error" if status == 400 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": code}
    return ChatReply(status, {"error": error})


def error_of(status: int, content: bytes) -> dict[str, Any]:
    """Return the server's own error object, made from whatever it sent."""
    body = body_of(content)
    error = body.get("error", body) if isinstance(body, dict) else None
    document = {"type": "server_error" if status >= 500 else "invalid_request_error"}
    if isinstance(error, Mapping):
        known = {name: error[name] for name in _KEPT if name in error}
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


def body_of(content: bytes) -> Any:
    """Return the JSON that a body is, such that it can be written again, or else its text.

    Numbers that JSON does not have, as in some servers' `logprobs`, are null.
    """
    try:
        return json.loads(content, parse_constant=lambda _: None, parse_float=_finite)
    except (ValueError, RecursionError):
        return content.decode("utf-8", "replace")


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _excerpt(content: bytes) -> str:
    return content[: 4 * 200].decode("utf-8", "replace").strip()[:200]
