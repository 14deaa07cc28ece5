"""A `/responses` request as a `chat/completions` one, and the reply to it back in its own form.

So a responder that knows conversations answers both. Sources: OpenAI's openapi.yaml
(`CreateResponse`, `Response`) and its guide "Migrate to the Responses API".
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from batch_server.responders.base import CHAT, RESPONSES, ChatReply, ChatRequest

# What is called the same in both.
_SHARED = ("model", "temperature", "top_p", "seed", "tools", "user")
_TEXTS = ("input_text", "output_text", "text")
# Why an answer is not whole, by the reason for which chat completions finish.
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
# What a response repeats of its request, with what it says where the request did not.
_REPEATED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "store": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


def as_chat(request: ChatRequest) -> ChatRequest:
    """Return a request as chat completions have it; one of theirs is returned as it is."""
    if request.path != RESPONSES:
        return request
    return replace(request, path=CHAT, body=_chat_body(request.body))


def in_form_of(request: ChatRequest, reply: ChatReply) -> ChatReply:
    """Return the reply of chat completions in the form of the request that it answers.

    Args:
        request: The request, as it came.
        reply: The reply to `as_chat` of it.
    """
    if request.path != RESPONSES or reply.status_code != 200:
        return reply
    return replace(reply, body=_response(request.body, reply.body))


def _chat_body(body: Mapping[str, Any]) -> dict[str, Any]:
    chat: dict[str, Any] = {name: body[name] for name in _SHARED if body.get(name) is not None}
    chat["messages"] = _messages(body)
    text, reasoning = body.get("text") or {}, body.get("reasoning") or {}
    if form := text.get("format"):
        chat["response_format"] = _response_format(form)
    spelled = {
        "verbosity": text.get("verbosity"),
        "reasoning_effort": reasoning.get("effort"),
        "max_completion_tokens": body.get("max_output_tokens"),
    }
    return chat | {name: value for name, value in spelled.items() if value is not None}


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    asked = body.get("input") or ""
    items = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    first = (
        [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
    )
    return first + [_message(item) for item in items if item.get("role")]


def _message(item: Mapping[str, Any]) -> dict[str, Any]:
    content = item.get("content")
    if isinstance(content, list):
        content = [_part(part) for part in content]
    return {"role": item["role"], "content": content}


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    match part.get("type"):
        case kind if kind in _TEXTS:
            return {"type": "text", "text": part.get("text")}
        case "input_image":
            detail = {"detail": part["detail"]} if part.get("detail") else {}
            return {"type": "image_url", "image_url": {"url": part.get("image_url"), **detail}}
    return dict(part)


def _response_format(form: Mapping[str, Any]) -> dict[str, Any]:
    if form.get("type") != "json_schema":
        return dict(form)
    return {"type": "json_schema", "json_schema": {k: v for k, v in form.items() if k != "type"}}


def _response(asked: Mapping[str, Any], completion: Mapping[str, Any]) -> dict[str, Any]:
    choice = next(iter(completion.get("choices") or ()), None)
    reason = _INCOMPLETE.get((choice or {}).get("finish_reason") or "")
    status = "incomplete" if reason else "completed"
    reasoning = asked.get("reasoning") or {}
    response = {
        "id": f"resp_{os.urandom(24).hex()}",
        "object": "response",
        "created_at": completion.get("created"),
        "status": status,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "model": completion.get("model"),
        "output": _output(choice, status, reasoning) if choice else [],
        **{name: asked.get(name, usual) for name, usual in _REPEATED.items()},
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "text": asked.get("text") or {"format": {"type": "text"}},
    }
    if "usage" in completion:
        response["usage"] = _usage(completion["usage"])
    return response


def _output(
    choice: Mapping[str, Any], status: str, reasoning: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the items of an output: what the model thought, if it was to think, and the answer."""
    message = choice.get("message") or {}
    parts: list[dict[str, Any]] = []
    if message.get("content"):
        text = message["content"]
        parts.append({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
    if message.get("refusal"):
        parts.append({"type": "refusal", "refusal": message["refusal"]})
    items: list[dict[str, Any]] = []
    if reasoning.get("effort") not in (None, "none"):
        items.append({"id": f"rs_{os.urandom(24).hex()}", "type": "reasoning", "summary": []})
    # Where the limit came before a word of the answer, there is no message at all.
    if parts or status == "completed":
        items.append(
            {
                "id": f"msg_{os.urandom(24).hex()}",
                "type": "message",
                "role": "assistant",
                "status": status,
                "content": parts,
            }
        )
    return items


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    asked = usage.get("prompt_tokens_details") or {}
    answered = usage.get("completion_tokens_details") or {}
    return {
        "input_tokens": usage.get("prompt_tokens"),
        "input_tokens_details": {"cached_tokens": asked.get("cached_tokens") or 0},
        "output_tokens": usage.get("completion_tokens"),
        "output_tokens_details": {"reasoning_tokens": answered.get("reasoning_tokens") or 0},
        "total_tokens": usage.get("total_tokens"),
    }
