"""A finished answer as the stream of server-sent events in which a service sends it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.responses import StreamingResponse

from batch_server.plain import readable

Document = dict[str, Any]
# Characters of an answer in one chunk: about four tokens.
_PIECE = 16


def stream_of(completion: Mapping[str, Any], *, include_usage: bool) -> StreamingResponse:
    """Return the reply that streams a `chat.completion`.

    Args:
        completion: The finished answer, as the flavour writes it.
        include_usage: Whether a last chunk says how many tokens it took.
    """
    events = _events(completion, include_usage=include_usage)
    return StreamingResponse(events, media_type="text/event-stream; charset=utf-8")


def _events(completion: Mapping[str, Any], *, include_usage: bool) -> Iterator[bytes]:
    for chunk in _chunks(completion, include_usage=include_usage):
        text = json.dumps(chunk, ensure_ascii=False, separators=(",", ":"))
        yield f"data: {readable(text)}\n\n".encode()
    yield b"data: [DONE]\n\n"


def _chunks(completion: Mapping[str, Any], *, include_usage: bool) -> Iterator[Document]:
    head = {
        "id": completion.get("id"),
        "object": "chat.completion.chunk",
        "created": completion.get("created"),
        "model": completion.get("model"),
        "system_fingerprint": completion.get("system_fingerprint"),
    }
    # While more is to come, the usage is null where it was asked for, and absent else.
    unknown: Document = {"usage": None} if include_usage else {}
    if "prompt_filter_results" in completion:
        found = completion["prompt_filter_results"]
        yield {**head, "model": "", "choices": [], "prompt_filter_results": found, **unknown}
    for choice in completion.get("choices") or ():
        for part in _choice_chunks(choice):
            yield {**head, "choices": [part], **unknown}
    if include_usage:
        yield {**head, "choices": [], "usage": completion.get("usage")}


def _choice_chunks(choice: Mapping[str, Any]) -> Iterator[Document]:
    index, message = choice.get("index", 0), choice.get("message") or {}
    filtered = {k: v for k, v in choice.items() if k == "content_filter_results"}

    def part(delta: Document, reason: str | None = None, **more: Any) -> Document:
        end = {"finish_reason": reason, "logprobs": None}
        return {"index": index, "delta": delta, **end, **more}

    yield part({"role": "assistant", "content": "", "refusal": None})
    for name in ("content", "refusal"):
        text = message.get(name) or ""
        for start in range(0, len(text), _PIECE):
            yield part({name: text[start : start + _PIECE]}, **filtered)
    for number, call in enumerate(message.get("tool_calls") or ()):
        yield part({"tool_calls": [{"index": number, **call}]})
    yield part({}, choice.get("finish_reason"), **filtered)
