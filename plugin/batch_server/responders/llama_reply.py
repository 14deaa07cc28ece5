"""What llama.cpp's server says as the service's reply."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

from batch_server.responders.base import ChatReply
from batch_server.responders.llama_request import BadRequest, unknown_keyword

# The server's name for a prompt that is longer than its context.
_TOO_LONG = "exceed_context_size_error"


def completion_reply(result: Mapping[str, Any], *, text: str, model: str) -> ChatReply:
    """Return the `chat.completion` object.

    Args:
        result: The server's last chunk, with `usage` and the reason why the answer ended.
        text: The answer.
        model: The name of the weights.
    """
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "finish_reason": result["choices"][0]["finish_reason"],
        "logprobs": None,
    }
    body = {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [choice],
        "usage": _usage(result.get("usage") or {}),
    }
    return ChatReply(200, body)


def bad_request_reply(problem: BadRequest) -> ChatReply:
    """Return the reply to a request that is wrong."""
    return _error(
        400, str(problem), kind="invalid_request_error", param=problem.param, code=problem.code
    )


def error_reply(error: Mapping[str, Any]) -> ChatReply:
    """Return the reply to a request that the server refused.

    Args:
        error: The server's error object.
    """
    if error.get("type") == _TOO_LONG:
        return _error(
            400,
            f"This model's maximum context length is {error.get('n_ctx')} tokens. However, your "
            f"messages resulted in {error.get('n_prompt_tokens')} tokens. Please reduce the length "
            "of the messages.",
            kind="invalid_request_error",
            param="messages",
            code="context_length_exceeded",
        )
    status = error.get("code")
    if isinstance(status, int) and 400 <= status < 500:
        return _error(status, str(error.get("message")), kind="invalid_request_error")
    return server_error_reply(str(error.get("message")))


def server_error_reply(message: str) -> ChatReply:
    """Return the reply to a request that the model failed on."""
    return _error(500, message, kind="server_error")


def schema_reply(schema: Mapping[str, Any]) -> ChatReply:
    """Return the reply to a request whose schema cannot be compiled into a grammar."""
    keyword = unknown_keyword(schema)
    reason = f"'{keyword}' is not permitted" if keyword else "it is not a schema that it can follow"
    return _error(
        400,
        f"Invalid schema for response_format: the local model holds its answers to the schema, and "
        f"{reason}. Please change the schema.",
        kind="invalid_request_error",
        param="response_format",
    )


def _error(
    status: int, message: str, *, kind: str, param: str | None = None, code: str | None = None
) -> ChatReply:
    error = {"message": message, "type": kind, "param": param, "code": code}
    return ChatReply(status, {"error": error})


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    prompt = int(usage.get("prompt_tokens") or 0)
    completion = int(usage.get("completion_tokens") or 0)
    details = usage.get("prompt_tokens_details") or {}
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": int(details.get("cached_tokens") or 0)},
    }
