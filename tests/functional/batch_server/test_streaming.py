"""`stream: true`, by the official client and on the wire."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from batch_server.server import RunningEmulator
from functional.batch_server.resource import DATED, STYLES, Resource

_ASKED: dict[str, Any] = {
    "model": "any",
    "messages": [
        {"role": "user", "content": "a message long enough for several chunks: é 東京 😀"}
    ],
}


def _client(emulator: RunningEmulator, style: str) -> openai.OpenAI:
    if style == "classic":
        return openai.AzureOpenAI(
            azure_endpoint=emulator.url, api_key=emulator.api_key, api_version=DATED
        )
    path = {"v1": "/openai/v1", "openai": "/v1"}[style]
    return openai.OpenAI(base_url=emulator.url + path, api_key=emulator.api_key, max_retries=0)


@pytest.mark.parametrize("style", STYLES)
def test_the_official_client_reads_the_stream(emulator: RunningEmulator, style: str) -> None:
    """The pieces are the answer that comes in one piece otherwise, and the tokens are the same."""
    client = _client(emulator, style)
    whole = client.chat.completions.create(**_ASKED)
    chunks = list(
        client.chat.completions.create(
            **_ASKED, stream=True, stream_options={"include_usage": True}
        )
    )
    text = [choice for chunk in chunks for choice in chunk.choices]
    assert (
        "".join(choice.delta.content or "" for choice in text) == whole.choices[0].message.content
    )
    assert len(text) > 4
    assert text[0].delta.role == "assistant"
    assert [choice.finish_reason for choice in text if choice.finish_reason] == ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    client.close()


@pytest.mark.parametrize("style", STYLES)
def test_the_wire_is_server_sent_events(emulator: RunningEmulator, style: str) -> None:
    """Each with one JSON document, then `[DONE]`; Azure tells first what its filter found."""
    resource = Resource(emulator, style)
    path = "/deployments/any/chat/completions" if style == "classic" else "/chat/completions"
    reply = resource.http.post(path, json={**_ASKED, "stream": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    *events, rest = reply.text.split("\n\n")
    assert rest == ""
    assert events.pop() == "data: [DONE]"
    documents = [json.loads(event.removeprefix("data: ")) for event in events]
    assert not any("usage" in document for document in documents)
    assert ("prompt_filter_results" in documents[0]) == (style != "openai")


def test_tokens_other_than_the_answer_s_come_too(emulator: RunningEmulator) -> None:
    """A refusal, and an answer that was cut off."""
    client = _client(emulator, "openai")
    emulator.rules([{"match": "", "refusal": "I would rather not say anything about that."}])
    chunks = list(client.chat.completions.create(**_ASKED, stream=True))
    text = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(d.refusal or "" for d in text).endswith("anything about that.")
    emulator.rules([{"match": "", "fault": "truncated"}])
    chunks = list(client.chat.completions.create(**_ASKED, stream=True))
    assert chunks[-1].choices[0].finish_reason == "length"
    client.close()


def test_an_error_is_no_stream(emulator: RunningEmulator) -> None:
    """Whoever is refused reads it as without a stream."""
    client = _client(emulator, "openai")
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.chat.completions.create(**_ASKED, stream=True, temperature=3)
    emulator.rules([{"match": "", "status": 429}])
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(**_ASKED, stream=True)
    client.close()


def test_stream_must_be_a_boolean(emulator: RunningEmulator) -> None:
    """And false is as if it were not there."""
    resource = Resource(emulator, "openai")
    assert resource.http.post("/chat/completions", json={**_ASKED, "stream": 1}).status_code == 400
    plain = resource.http.post("/chat/completions", json={**_ASKED, "stream": False})
    assert plain.json()["object"] == "chat.completion"
