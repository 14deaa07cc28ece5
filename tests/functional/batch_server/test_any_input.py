"""Any input: whatever a client sends, the server replies in JSON, and the lists stay whole."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from batch_server.http_client import httpx
from batch_server.server import RunningEmulator, running_emulator
from functional.batch_server.resource import DATED, STYLES, TERMINAL, Resource, line
from fuzz.mutate import VALUES, mutate_bytes, mutate_document
from hypothesis import given, settings
from hypothesis import strategies as st

_HELLO = {"role": "user", "content": "hello"}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "tags": {"type": "array", "items": {"enum": ["a", "b", None]}, "minItems": 1},
        "note": {"anyOf": [{"type": "string", "description": "YYYY-MM-DD"}, {"type": "null"}]},
        "part": {"$ref": "#/$defs/part"},
    },
    "required": ["tags", "note", "part"],
    "additionalProperties": False,
    "$defs": {"part": {"type": ["number", "null"], "minimum": 1, "maximum": 5}},
}
_CHAT: dict[str, Any] = {
    "model": "any",
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "answer in json"}]},
        _HELLO,
        {"role": "assistant", "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "x"},
        {"role": "assistant", "content": '{"a": "b"}'},
        {"role": "user", "content": '{"1": "x", "2": "y"}'},
    ],
    "temperature": 0.5,
    "max_tokens": 9,
    "stop": ["x"],
    "logit_bias": {"5": 1},
    "metadata": {"a": "b"},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": _SCHEMA}}],
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": False, "schema": _SCHEMA},
    },
}  # fmt: skip
_BATCH = {
    "input_file_id": "FILE",
    "endpoint": "/v1/chat/completions",
    "completion_window": "24h",
    "metadata": {"owner": "me"},
    "output_expires_after": {"anchor": "created_at", "seconds": 1_209_600},
}
_IMPORT = {"purpose": "batch", "filename": "a", "content_url": "https://example.com/a"}
_PATHS = (
    "/files", "/files/import", "/files/ID", "/files/ID/content", "/batches", "/batches/ID",
    "/batches/ID/cancel", "/models", "/models/ID", "/deployments", "/deployments/ID",
    "/deployments/ID/chat/completions", "/chat/completions", "/nothing", "/",
)  # fmt: skip
_BODIES: dict[str, dict[str, Any]] = {"/batches": _BATCH, "/files/import": _IMPORT}
_METHODS = ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS")
_QUERIES = ("limit", "after", "order", "purpose", "$filter", "$orderby", "api-version", "x")
_QUERY_VALUES = (
    "", "0", "1", "-1", "1e9", "9" * 400, "asc", "DESC", "batch", "status eq 'completed'",
    "created_at gt 5 and (status ne 'x' or not id eq 'y')", "(" * 500, "'", "%", "é", "\x00",
    "created_at desc", "status asc", "id", "metadata asc", DATED, "2024-10-21", "x" * 3_000,
)  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """One emulator for all that is sent."""
    with running_emulator(tmp_path_factory.mktemp("any")) as emulator:
        emulator.jobs.files.max_lasting_files = emulator.jobs.files.max_files = 10**6
        yield emulator


@pytest.fixture(scope="module")
def resources(served: RunningEmulator) -> dict[str, Resource]:
    """It by each style of paths."""
    return {style: Resource(served, style) for style in STYLES}


def _some_id(resource: Resource, chance: random.Random) -> str:
    known = [*resource.http.get("/files").json()["data"][:3]]
    known += resource.http.get("/batches").json()["data"][:3]
    odd = ("", "file-0", "..", "%", "\x00", "é", "a/b", "x" * 300, "import", " ", "?", "#")
    return chance.choice([*(str(found["id"]) for found in known), *odd])


def _content(path: str, file_id: str, chance: random.Random) -> bytes:
    """Return a body like the one that a path takes, with something wrong with it more often."""
    body = json.loads(json.dumps(_BODIES.get(path, _CHAT)).replace('"FILE"', json.dumps(file_id)))
    if chance.random() < 0.8:
        body = mutate_document(body, chance)
    raw = json.dumps(body, ensure_ascii=True).encode()
    return mutate_bytes(raw, chance) if chance.random() < 0.2 else raw


def _upload(resource: Resource, chance: random.Random) -> httpx.Response:
    """Upload something, in a form with something wrong with it."""
    fields: dict[str, Any] = {
        "purpose": "batch",
        "expires_after[anchor]": "created_at",
        "expires_after[seconds]": "1209600",
    }
    for name in list(fields):
        if chance.random() < 0.3:
            value = chance.choice(VALUES)
            text = value if isinstance(value, str) else json.dumps(value)
            fields[name] = text.encode("utf-8", "replace")
    content = mutate_bytes(line("a").encode(), chance)
    boundary = {"Content-Type": "multipart/form-data; boundary=between"}
    request = resource.http.build_request(
        "POST", "/files", files={"file": ("a.jsonl", content)}, data=fields, headers=boundary
    )
    if chance.random() < 0.4:
        body = mutate_bytes(request.read(), chance)
        kind = request.headers["content-type"]
        if chance.random() < 0.3:
            kind = mutate_bytes(kind.encode(), chance).decode("latin-1")
            kind = "".join(c for c in kind if c.isprintable() and c.isascii()).strip()
        request = resource.http.build_request(
            "POST", "/files", content=body, headers={"Content-Type": kind}
        )
    return resource.http.send(request)


def _send(resource: Resource, chance: random.Random) -> httpx.Response:
    if chance.random() < 0.2:
        return _upload(resource, chance)
    path = chance.choice(_PATHS)
    method = chance.choice(_METHODS) if chance.random() < 0.5 else "POST"
    address = path.replace("ID", quote(_some_id(resource, chance), safe=""))
    query = {
        chance.choice(_QUERIES): chance.choice(_QUERY_VALUES)
        for _ in range(chance.choice((0, 1, 2)))
    }
    headers = {"Range": chance.choice(("bytes=0-", "bytes=9-1", "x", "bytes=-0"))}
    listed = resource.http.get("/files", params={"limit": 1}).json()["data"]
    file_id = listed[0]["id"] if listed else "file-0"
    content = _content(path, file_id, chance) if method in ("POST", "PUT", "PATCH") else None
    return resource.http.request(method, address, params=query, content=content, headers=headers)


def _check(reply: httpx.Response) -> None:
    """A reply is no server error, and a document of the service."""
    given = f"{reply.request.method} {reply.request.url} {reply.status_code} {reply.text[:300]}"
    assert reply.status_code < 500, given
    if reply.request.method == "HEAD":
        return
    kind = reply.headers["content-type"]
    if reply.is_success and kind.startswith(("application/octet-stream", "text/event-stream")):
        return
    assert kind == "application/json", given
    document = json.loads(reply.content)
    if reply.is_success:
        assert document.get("object") or document.get("id"), given
    else:
        assert isinstance(document["error"]["message"], str), given


@settings(max_examples=100)
@given(seed=st.integers(0, 2**32), style=st.sampled_from(sorted(STYLES)))
def test_every_call_is_replied_to_and_the_lists_stay_whole(
    resources: dict[str, Resource], seed: int, style: str
) -> None:
    """By every route, with bodies, forms, queries, paths and methods that may be anything."""
    resource, chance = resources[style], random.Random(seed)
    for _ in range(4):
        _check(_send(resource, chance))
    for path in ("/files", "/batches"):
        listed = resource.http.get(path)
        assert listed.status_code == 200, listed.text
        _check(listed)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), style=st.sampled_from(sorted(STYLES)))
def test_every_batch_ends_and_its_good_lines_are_answered(
    resources: dict[str, Resource], seed: int, style: str
) -> None:
    """Whatever the other lines' bodies are; no line is the server's own error."""
    resource, chance = resources[style], random.Random(seed)
    lines = [_odd_line(f"odd{i}", chance) for i in range(8)]
    batch = resource.reach(resource.create(line("good"), *lines, line("well")), *TERMINAL)
    answers = resource.lines_of(batch["output_file_id"])
    refusals = resource.lines_of(batch["error_file_id"])
    if batch["status"] == "failed":
        # A body without messages is found when the file is checked.
        assert {e["code"] for e in batch["errors"]["data"]} == {"invalid_request"}
        return
    assert {"good", "well"} <= {found["custom_id"] for found in answers}
    assert len(answers) + len(refusals) == 10
    for found in refusals:
        assert found["response"]["status_code"] == 400, found


def _odd_line(custom_id: str, chance: random.Random) -> str:
    """Return a request of the file's model, with something wrong with the rest of its body."""
    changed = mutate_document(_CHAT, chance)
    document = json.loads(line(custom_id))
    document["body"] = {**_CHAT, **(changed if isinstance(changed, dict) else {}), "model": "any"}
    return json.dumps(document)
