"""The emulator's records as each flavour of the service writes them."""

from __future__ import annotations

import os
from typing import Any

from batch_server.errors import Flavour
from batch_server.responders.base import ChatReply, ChatRequest

RESULTS, ERRORS = "results.jsonl", "errors.jsonl"
"""The names of the blobs that a batch writes."""
_SAFE = {
    kind: {"filtered": False, "severity": "safe"}
    for kind in ("hate", "self_harm", "sexual", "violence")
}
_FILE_FIELDS = ("id", "bytes", "created_at", "filename", "purpose", "status", "expires_at")
_BATCH_FIELDS = (
    "id", "endpoint", "input_file_id", "completion_window", "status", "output_file_id",
    "error_file_id", "created_at", "in_progress_at", "expires_at", "finalizing_at",
    "completed_at", "failed_at", "expired_at", "cancelling_at", "cancelled_at", "metadata",
)  # fmt: skip
_ENDS = ("completed", "failed", "expired", "cancelled")
_CONTENT_FILTER = "content_filter"


def new_id(prefix: str) -> str:
    """Return an id of the service's form."""
    return f"{prefix}{os.urandom(16).hex()}"


def file_document(record: dict[str, Any], flavour: Flavour) -> dict[str, Any]:
    """Return a file as the API shows it: OpenAI knows no `pending`."""
    document = {"object": "file", **{name: record.get(name) for name in _FILE_FIELDS}}
    if document["status"] == "pending" and not flavour.is_azure:
        document["status"] = "uploaded"
    return document


def batch_document(record: dict[str, Any], counts: dict[str, int]) -> dict[str, Any]:
    """Return a batch as the API shows it, with the counts so far."""
    document = {"object": "batch", **{name: record.get(name) for name in _BATCH_FIELDS}}
    errors = record.get("errors") or []
    document["errors"] = {"object": "list", "data": errors} if errors else None
    document["request_counts"] = counts
    if record.get("input_blob"):
        document |= _blobs_of(record)
    if record.get("flavour") == Flavour.OPENAI:
        document |= {"model": record.get("deployment"), "usage": _usage(record.get("usage") or {})}
    return document


def _blobs_of(record: dict[str, Any]) -> dict[str, str]:
    """Return the names of a batch's blobs, which Azure says also of those that it did not write."""
    folder = record["output_folder"] if record["status"] in _ENDS else ""
    return {
        "input_blob": record["input_blob"],
        "output_blob": folder and f"{folder}/{RESULTS}",
        "error_blob": folder and f"{folder}/{ERRORS}",
    }


def _usage(counted: dict[str, int]) -> dict[str, Any]:
    asked, answered = counted.get("prompt_tokens", 0), counted.get("completion_tokens", 0)
    return {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": counted.get("cached_tokens", 0)},
        "output_tokens": answered,
        "output_tokens_details": {"reasoning_tokens": counted.get("reasoning_tokens", 0)},
        "total_tokens": asked + answered,
    }


def usage_of(body: object) -> dict[str, int]:
    """Return what a chat.completion or a response says of its tokens, as flat counts."""
    usage = _object(_object(body).get("usage"))
    names = ("prompt_tokens", "completion_tokens")
    if names[0] not in usage:
        names = ("input_tokens", "output_tokens")
    asked, answered = (_object(usage.get(f"{name}_details")) for name in names)
    counts = {
        "prompt_tokens": usage.get(names[0]),
        "completion_tokens": usage.get(names[1]),
        "cached_tokens": asked.get("cached_tokens"),
        "reasoning_tokens": answered.get("reasoning_tokens"),
    }
    return {name: count for name, count in counts.items() if isinstance(count, int)}


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def page(items: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return one page of a list."""
    return {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }


def result_line(request: ChatRequest, reply: ChatReply, flavour: Flavour) -> dict[str, Any]:
    """Return the line of the output or error file that answers a request."""
    body = shown_body(reply, flavour)
    line: dict[str, Any] = {
        "custom_id": request.custom_id,
        "response": {
            "status_code": reply.status_code,
            "request_id": _request_id(),
            "body": body,
        },
        "error": None,
    }
    return line if flavour.is_azure else {"id": new_id("batch_req_"), **line}


def _request_id() -> str:
    """Return a random UUID, of version 4 and variant 10 (RFC 9562)."""
    digits = os.urandom(16).hex()
    version, variant = f"4{digits[13:16]}", f"a{digits[17:20]}"
    return f"{digits[:8]}-{digits[8:12]}-{version}-{variant}-{digits[20:]}"


def is_completion(body: object) -> bool:
    """Whether a body is a `chat.completion`, as far as its choices tell."""
    choices = _object(body).get("choices")
    return isinstance(choices, list) and all(
        isinstance(choice, dict) and isinstance(choice.get("message"), dict) for choice in choices
    )


def shown_body(reply: ChatReply, flavour: Flavour) -> Any:
    """Return a reply's body as a flavour writes it: Azure adds what its content filter found."""
    if not flavour.is_azure or reply.status_code != 200:
        return reply.body
    if is_completion(reply.body):
        return _with_filter_results(reply.body)
    if _object(reply.body).get("object") == "response":
        return {**reply.body, "content_filters": _content_filters(reply.body)}
    return reply.body


def unanswered_line(custom_id: str, status: str, flavour: Flavour) -> dict[str, Any]:
    """Return the error line of a request that the batch's end left unanswered."""
    messages = {
        "expired": "This request could not be executed before the completion window expired.",
        "cancelled": "This request was cancelled before it could be executed.",
    }
    line = {
        "custom_id": custom_id,
        "response": None,
        "error": {"code": f"batch_{status}", "message": messages[status]},
    }
    return line if flavour.is_azure else {"id": new_id("batch_req_"), **line}


def _with_filter_results(body: dict[str, Any]) -> dict[str, Any]:
    choices = [{"content_filter_results": _found(choice), **choice} for choice in body["choices"]]
    return {
        **body,
        "choices": choices,
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": _SAFE}],
    }


def _content_filters(response: dict[str, Any]) -> list[dict[str, Any]]:
    reason = _object(response.get("incomplete_details")).get("reason")
    found = _found({"finish_reason": reason})
    sides = (("prompt", _SAFE), ("completion", found))
    return [
        {
            "blocked": found is not _SAFE and side == "completion",
            "source_type": side,
            "content_filter_results": results,
        }
        for side, results in sides
    ]


def _found(choice: dict[str, Any]) -> dict[str, Any]:
    if choice.get("finish_reason") != _CONTENT_FILTER:
        return _SAFE
    return {**_SAFE, "violence": {"filtered": True, "severity": "medium"}}
