"""Bad input: what is refused, in whose words, and that nothing else suffers by it."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import openai
import pytest
from batch_server.http_client import httpx
from batch_server.responders.base import ChatReply, ChatRequest
from batch_server.responders.scripted import ScriptedResponder
from batch_server.server import RunningEmulator, running_emulator
from functional.batch_server.resource import STYLES, Resource, line

_DAY = 86_400
_HELLO = {"role": "user", "content": "hello"}
_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_CALLED: dict[str, Any] = {"role": "assistant", "tool_calls": [_CALL]}


@pytest.fixture(params=STYLES)
def resource(emulator: RunningEmulator, request: pytest.FixtureRequest) -> Resource:
    """The emulator by each style of paths."""
    return Resource(emulator, request.param)


def _strict(schema: object, *, strict: bool = True) -> dict[str, Any]:
    holder = {"name": "answer", "strict": strict, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": holder}}


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _deep(levels: int) -> Any:
    value: Any = {"type": "string"}
    for _ in range(levels):
        value = {"anyOf": [value]}
    return value


_FORM = "response_format"
_NAN, _INFINITE = float("nan"), float("inf")
# By a name: what is odd about a body, and which part of it the refusal names.
ODD_BODIES: dict[str, tuple[dict[str, Any], str]] = {
    "role-unknown": ({"messages": [{"role": "bot", "content": "x"}]}, "messages[0].role"),
    "role-number": ({"messages": [{"role": 5, "content": "x"}]}, "messages[0].role"),
    "role-missing": ({"messages": [_HELLO, {"content": "x"}]}, "messages[1].role"),
    "message-text": ({"messages": ["hello"]}, "messages[0]"),
    "content-missing": ({"messages": [{"role": "user"}]}, "messages[0].content"),
    "content-null": ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    "content-number": ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    "content-object": ({"messages": [{"role": "user", "content": {}}]}, "messages[0].content"),
    "content-empty": ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    "part-number": ({"messages": [{"role": "user", "content": [7]}]}, "messages[0].content[0]"),
    "part-untyped": (
        {"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"
    ),
    "part-without-text": (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages[0].content[0].text",
    ),
    "surrogate": ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content"),
    "surrogate-in-a-key": ({**_strict(_object(**{"\udfff": {"type": "string"}}))}, _FORM),
    "assistant-says-nothing": ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
    "calls-unanswered": ({"messages": [_HELLO, _CALLED]}, "messages[2].role"),
    "calls-empty": ({"messages": [{**_CALLED, "tool_calls": []}]}, "messages[0].tool_calls"),
    "calls-number": ({"messages": [{**_CALLED, "tool_calls": 5}]}, "messages[0].tool_calls"),
    "tool-unasked": (
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": "c1"}]}, "messages[0].role"
    ),
    "tools-empty": ({"tools": []}, "tools"),
    "tools-number": ({"tools": 5}, "tools"),
    "tool-nameless": ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    "tool-schema": (
        {"tools": [{"type": "function",
                    "function": {"name": "f", "parameters": {"properties": 5}}}]},
        "tools[0].function.parameters",
    ),
    "choice-without-tools": ({"tool_choice": "auto"}, "tool_choice"),
    "max-tokens-huge": ({"max_tokens": _INFINITE}, "max_tokens"),
    "max-tokens-nan": ({"max_tokens": _NAN}, "max_tokens"),
    "max-tokens-zero": ({"max_tokens": 0}, "max_tokens"),
    "max-tokens-text": ({"max_tokens": "5"}, "max_tokens"),
    "max-tokens-fraction": ({"max_tokens": 1.5}, "max_tokens"),
    "max-tokens-true": ({"max_tokens": True}, "max_tokens"),
    "max-tokens-wide": ({"max_completion_tokens": 10**400}, "max_completion_tokens"),
    "nan-within": ({"logit_bias": {"5": _NAN}}, "logit_bias.5"),
    "temperature-text": ({"temperature": "warm"}, "temperature"),
    "temperature-high": ({"temperature": 2.5}, "temperature"),
    "stop-number": ({"stop": 5}, "stop"),
    "stop-many": ({"stop": list("abcde")}, "stop"),
    "seed-text": ({"seed": "1"}, "seed"),
    "metadata-number": ({"metadata": {"a": 1}}, "metadata.a"),
    "stream-options": ({"stream_options": {"include_usage": True}}, "stream_options"),
    "form-number": ({_FORM: 5}, _FORM),
    "form-untyped": ({_FORM: {}}, f"{_FORM}.type"),
    "form-unknown": ({_FORM: {"type": "yaml"}}, f"{_FORM}.type"),
    "form-without-schema": ({_FORM: {"type": "json_schema"}}, f"{_FORM}.json_schema"),
    "schema-missing": (
        {_FORM: {"type": "json_schema", "json_schema": {"name": "a"}}},
        f"{_FORM}.json_schema.schema",
    ),
    "schema-number": (_strict(5), f"{_FORM}.json_schema.schema"),
    "required-number": (_strict({**_object(), "required": 5}), _FORM),
    "required-numbers": (_strict({**_object(), "required": [5]}), _FORM),
    "required-stranger": (_strict({**_object(), "required": ["a"]}), _FORM),
    "enum-number": (_strict(_object(a={"enum": 5})), _FORM),
    "enum-empty": (_strict(_object(a={"enum": []})), _FORM),
    "any-of-number": (_strict(_object(a={"anyOf": 5})), _FORM),
    "any-of-numbers": (_strict(_object(a={"anyOf": [5]})), _FORM),
    "properties-number": (_strict({**_object(), "properties": 5}), _FORM),
    "property-number": (_strict(_object(a=5)), _FORM),
    "items-number": (_strict(_object(a={"type": "array", "items": 5})), _FORM),
    "items-missing": (_strict(_object(a={"type": "array"})), _FORM),
    "type-unknown": (_strict(_object(a={"type": "text"})), _FORM),
    "type-number": (_strict(_object(a={"type": 5})), _FORM),
    "type-missing": (_strict(_object(a={})), _FORM),
    "reference-nowhere": (_strict(_object(a={"$ref": "#/$defs/a"})), _FORM),
    "reference-number": (_strict(_object(a={"$ref": 5})), _FORM),
    "loose-required-number": (_strict({"type": "object", "required": 5}, strict=False), _FORM),
    "loose-min-items": (
        _strict({"type": "array", "minItems": "many"}, strict=False), _FORM
    ),
    "deep": (_strict(_object(a=_deep(200))), _FORM),
}  # fmt: skip
# Odd, and yet what a model may answer.
FINE_BODIES: dict[str, dict[str, Any]] = {
    "calls-answered": {
        "messages": [_HELLO, _CALLED, {"role": "tool", "content": "x", "tool_call_id": "c1"}]
    },
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
    "developer": {"messages": [{"role": "developer", "content": "be brief"}, _HELLO]},
    "nulls": {"temperature": None, "stop": None, "tools": None, "response_format": None},
    "unknown-parameters": {"top_k": 5, "chat_template_kwargs": {"a": [1]}},
    "integers-for-decimals": {"temperature": 1, "top_p": 1, "logit_bias": {"5": 3}},
    "any-of-true": _strict({"anyOf": [True, {"type": "null"}]}, strict=False),
    "enum-of-null": _strict(_object(a={"enum": [None], "type": "null"})),
    "crossed-bounds": _strict(
        {"type": "object", "properties": {"a": {"type": "integer", "minimum": 5, "maximum": 1}}},
        strict=False,
    ),
    "items-without-end": _strict({"type": "array", "minItems": 10**12}, strict=False),
    "recursive": _strict(_object(a={"anyOf": [{"$ref": "#"}, {"type": "null"}]})),
}


def test_an_odd_line_is_refused_and_the_others_are_answered(resource: Resource) -> None:
    """With a 400 that names the part; whatever else stands in the file."""
    lines = [line(name, **body) for name, (body, _) in ODD_BODIES.items()]
    lines += [line(name, **body) for name, body in FINE_BODIES.items()]
    # More digits than Python reads at once, which JSON allows.
    lines.append(
        line("digits", max_tokens=7).replace('"max_tokens": 7', f'"max_tokens": {"9" * 5_000}')
    )
    batch = resource.reach(resource.create(*lines), "completed")
    refused = {found["custom_id"]: found for found in resource.lines_of(batch["error_file_id"])}
    answered = {found["custom_id"] for found in resource.lines_of(batch["output_file_id"])}
    assert answered == set(FINE_BODIES)
    named = {}
    for name, found in refused.items():
        assert found["response"]["status_code"] == 400, found
        error = found["response"]["body"]["error"]
        assert error["message"]
        assert error["type"] == "invalid_request_error"
        named[name] = error["param"]
    wanted = {name: param for name, (_, param) in ODD_BODIES.items()} | {"digits": "max_tokens"}
    deep = {name: named.pop(name) for name in ("deep", "surrogate-in-a-key")}
    assert named == {name: param for name, param in wanted.items() if name not in deep}
    assert all(param.startswith(_FORM) for param in deep.values())


@pytest.mark.parametrize("style", STYLES)
def test_the_same_bodies_are_refused_one_by_one(emulator: RunningEmulator, style: str) -> None:
    """By `chat/completions`, as JSON, and in the same words."""
    resource = Resource(emulator, style)
    path = "/deployments/any/chat/completions" if style == "classic" else "/chat/completions"

    def ask(body: dict[str, Any]) -> httpx.Response:
        asked = {"model": "any", "messages": [_HELLO], **body}
        content = json.dumps(asked)
        return resource.http.post(
            path, content=content, headers={"Content-Type": "application/json"}
        )

    for name, (body, param) in ODD_BODIES.items():
        reply = ask(body)
        assert reply.status_code == 400, (name, reply.text)
        error = reply.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert str(error["param"]).startswith(param.split(".json_schema.schema")[0]), name
    for name, body in FINE_BODIES.items():
        assert ask(body).status_code == 200, name


def test_the_codes_are_the_service_s(emulator: RunningEmulator) -> None:
    """As its own client raises them."""
    client = openai.OpenAI(base_url=f"{emulator.url}/v1", api_key=emulator.api_key, max_retries=0)
    asked: dict[str, Any] = {"model": "any", "messages": [_HELLO]}
    for change, code in (
        ({"model": None}, "invalid_type"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "invalid_value"),
        ({"messages": [{"role": "user", "content": 5}]}, "invalid_type"),
        ({"messages": [{"role": "user"}]}, "missing_required_parameter"),
        ({"messages": []}, "empty_array"),
        ({"temperature": 3}, "decimal_above_max_value"),
        ({"max_tokens": 0}, "integer_below_min_value"),
        ({"metadata": {"k": "v" * 513}}, "string_above_max_length"),
        ({"metadata": {f"k{i}": "" for i in range(17)}}, "object_above_max_properties"),
    ):
        with pytest.raises(openai.BadRequestError) as raised:
            client.chat.completions.create(**{**asked, **change})
        assert raised.value.code == code, change
        assert raised.value.param
    reply = httpx.post(
        f"{emulator.url}/v1/chat/completions",
        json={"messages": [_HELLO]},
        headers={"Authorization": f"Bearer {emulator.api_key}"},
    )
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "model")
    client.close()


@pytest.mark.parametrize(
    ("metadata", "param"),
    [
        ('{"a": "\\ud800"}', "metadata.a"),
        ('{"\\udc00": "a"}', "metadata"),
        ('{"a": {"b": "c"}}', "metadata.a"),
        ('"a"', "metadata"),
    ],
)
def test_bad_metadata_is_refused_and_not_stored(
    resource: Resource, metadata: str, param: str
) -> None:
    """A lone surrogate was stored, and then no list could be written."""
    file = resource.upload(line("a"))
    body = (
        f'{{"input_file_id": "{file}", "endpoint": "/v1/chat/completions", '
        f'"completion_window": "24h", "metadata": {metadata}}}'
    )
    reply = resource.http.post("/batches", content=body)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error.get("param", error.get("target")) == param
    assert resource.http.get("/batches").json()["data"] == []


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input_file_id": None}, "input_file_id"),
        ({"input_file_id": ""}, "input_file_id"),
        ({"endpoint": 5}, "endpoint"),
        ({"endpoint": "/v1/everything" * 100}, "endpoint"),
        ({"completion_window": 24}, "completion_window"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"output_expires_after": 5}, "output_expires_after"),
        ({"output_expires_after": {"seconds": 5}}, "output_expires_after.anchor"),
        ({"output_expires_after": {"anchor": "created_at"}}, "output_expires_after.seconds"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": str(20 * _DAY)}},
            "output_expires_after.seconds",
        ),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 2e6}},
            "output_expires_after.seconds",
        ),
    ],
)
def test_a_batch_s_body_is_held_to_its_types(
    resource: Resource, change: dict[str, Any], param: str
) -> None:
    """A number as a text is none, and the reply does not repeat what is long."""
    reply = resource.post_batch(resource.upload(line("a")), **change)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error.get("param", error.get("target")) == param
    assert len(reply.text) < 600
    assert resource.http.get("/batches").json()["data"] == []


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"purpose": "fun"}, "purpose"),
        ({"expires_after[anchor]": "created_at"}, "expires_after.seconds"),
        ({"expires_after[seconds]": str(20 * _DAY)}, "expires_after.anchor"),
        (
            {"expires_after[anchor]": "created_at", "expires_after[seconds]": "soon"},
            "expires_after.seconds",
        ),
        (
            {"expires_after[anchor]": "created_at", "expires_after[seconds]": "1e6"},
            "expires_after.seconds",
        ),
        (
            {"expires_after[anchor]": "created_at", "expires_after[seconds]": "-1"},
            "expires_after.seconds",
        ),
        (
            {"expires_after[anchor]": "yesterday", "expires_after[seconds]": str(20 * _DAY)},
            "expires_after.anchor",
        ),
    ],
)
def test_an_upload_s_form_is_held_to_its_types(
    resource: Resource, form: dict[str, str], param: str
) -> None:
    """Nothing is stored of it."""
    reply = resource.post_file(line("a"), **form)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error.get("param", error.get("target")) == param
    assert resource.http.get("/files").json()["data"] == []


def test_forms_that_are_none_are_refused(resource: Resource) -> None:
    """Without a file, with a file for a text, in a charset that nobody knows, or broken."""
    post = resource.http.post
    replies = [
        post("/files", data={"purpose": "batch"}),
        post("/files", json={"purpose": "batch"}),
        post("/files", files={"file": ("a", b"x")}),
        post("/files", files={"file": ("a", b"x"), "purpose": (None, b"batch\xff\xfe")}),
        post("/files", files={"purpose": ("a", b"batch")}, data={"file": "x"}),
        post("/files", content=b"--x", headers={"Content-Type": "multipart/form-data"}),
        post(
            "/files",
            content=b"--x\r\n",
            headers={"Content-Type": "multipart/form-data; boundary=y"},
        ),
        post(
            "/files",
            content=b'--y\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nbatch\r\n--y--\r\n',
            headers={"Content-Type": "multipart/form-data; boundary=y; charset=idna"},
        ),
    ]
    for reply in replies:
        assert reply.status_code == 400, reply.text
        assert reply.json()["error"]["message"]
    assert resource.http.get("/files").json()["data"] == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[]", b"5", b'"x"', b"[" * 100_000, b'{"a":' + b"9" * 5_000 + b"}"],
)
def test_bodies_that_are_no_object_are_refused(resource: Resource, content: bytes) -> None:
    """By every path that takes one."""
    paths = ["/batches"]
    classic = "api-version" in resource.http.params
    paths.append("/deployments/any/chat/completions" if classic else "/chat/completions")
    for path in paths:
        reply = resource.http.post(path, content=content)
        assert reply.status_code == 400, (path, reply.text)
        assert reply.json()["error"]["message"]


@pytest.mark.parametrize(
    "wrong",
    [
        f"created_at gt {'9' * 400}",
        f"created_at gt {'9' * 31}",
        "(" * 1_800,
        "(" * 900 + "status eq 'a'" + ")" * 900,
        "not " * 450 + "status eq 'a'",
        "status eq 'a' or " * 200 + "status eq 'a'",
        "created_at gt 0.0.0",
        "created_at gt ''' or '",
    ],
)
def test_filters_beyond_reason_are_refused(emulator: RunningEmulator, wrong: str) -> None:
    """With a 400 that names the parameter, and is not as long as the filter."""
    resource = Resource(emulator, "classic")
    reply = resource.http.get("/batches", params={"$filter": wrong})
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["target"] == "$filter"
    assert len(error["message"]) < 500


def test_filters_within_reason_are_understood(emulator: RunningEmulator) -> None:
    """Nested a little, and with the largest times."""
    resource = Resource(emulator, "classic")
    batch = resource.create(line("a"))
    for right in (
        f"created_at lt {'9' * 30}",
        "(" * 20 + "status ne 'x'" + ")" * 20,
        "not not not not status eq 'x'",
    ):
        found = resource.http.get("/batches", params={"$filter": right})
        assert found.status_code == 200, found.text
    assert [b["id"] for b in found.json()["data"]] in ([], [batch])


def test_a_list_of_its_first_state_counts_nothing(emulator: RunningEmulator) -> None:
    """What is created is validating, and has nothing answered, however fast the answers come."""
    resource = Resource(emulator, "v1")
    file = resource.upload(line("a"))
    record = emulator.jobs.create(
        input_file_id=file,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata=None,
        flavour=resource.flavour,
    )
    emulator.settle()
    assert record["status"] == "validating"
    assert emulator.jobs.counts(record) == {"total": 0, "completed": 0, "failed": 0}
    assert resource.batch(record["id"])["request_counts"]["completed"] == 1


def test_openai_knows_no_pending_files(emulator: RunningEmulator) -> None:
    """There a file is `uploaded` until it is looked at, and a batch needs no wait."""
    emulator.transitions(file={"kind": "never"})
    azure, plain = Resource(emulator, "v1"), Resource(emulator, "openai")
    file = plain.upload(line("a"))
    assert plain.http.get(f"/files/{file}").json()["status"] == "uploaded"
    assert [f["status"] for f in plain.http.get("/files").json()["data"]] == ["uploaded"]
    assert azure.http.get(f"/files/{file}").json()["status"] == "pending"
    assert azure.post_batch(file).status_code == 400
    assert plain.reach(plain.post_batch(file).json()["id"])["status"] == "completed"


def test_models_are_what_is_served(emulator: RunningEmulator, resource: Resource) -> None:
    """What answers to every name; once deployments are declared, these."""
    listed = resource.http.get("/models").json()["data"]
    assert [model["id"] for model in listed] == ["scripted"]
    emulator.deployments({"name": "a"}, {"name": "b"})
    listed = resource.http.get("/models").json()["data"]
    assert [model["id"] for model in listed] == ["a", "b"]
    assert resource.http.get("/models/a").status_code == 200
    assert resource.http.get("/models/c").status_code == 404
    emulator.deployments()
    assert resource.http.get("/models").json()["data"] == []


def test_wrong_methods_are_told_the_right_ones(resource: Resource) -> None:
    """In the header `Allow`, as HTTP has it."""
    for method, path, allowed in (
        ("PUT", "/files", {"GET", "POST"}),
        ("DELETE", "/batches", {"GET", "POST"}),
        ("POST", "/batches/batch_1", {"GET"}),
        ("PATCH", "/files/file-1", {"GET", "DELETE"}),
        ("GET", "/batches/batch_1/cancel", {"POST"}),
        ("POST", "/models", {"GET"}),
    ):
        reply = resource.http.request(method, path)
        assert reply.status_code == 405, path
        assert set(reply.headers["Allow"].split(", ")) - {"HEAD"} == allowed
        assert reply.json()["error"]["message"] == "Method not allowed"


@pytest.mark.parametrize("path", ["/", "/batches/", "/nothing", "/files/a/b/c", "/models/", "/%00"])
def test_paths_that_are_not_there_say_so_in_json(resource: Resource, path: str) -> None:
    """Never by a redirect."""
    reply = resource.http.get(path)
    assert reply.status_code == 404
    assert reply.json()["error"]["message"]


def test_files_are_not_imported(emulator: RunningEmulator) -> None:
    """Azure's `files/import` is there, is held to its body, and says why it is refused."""
    for style in ("classic", "v1"):
        resource = Resource(emulator, style)
        body = {"purpose": "batch", "filename": "a.jsonl", "content_url": "https://example.com/a"}
        reply = resource.http.post("/files/import", json=body)
        assert reply.status_code == 400
        assert reply.json()["error"]["code"] == "fileImportFailed"
        assert "POST /files" in reply.json()["error"]["message"]
        wrong = resource.http.post("/files/import", json={**body, "content_url": 5})
        assert wrong.json()["error"]["target"] == "content_url"
        missing = resource.http.post("/files/import", json={"purpose": "batch"})
        assert "'filename'" in missing.json()["error"]["message"]
    assert Resource(emulator, "openai").http.post("/files/import", json=body).status_code == 405


def test_ranges_of_a_file(resource: Resource) -> None:
    """One range is served, one behind the end refused, others passed over, as HTTP allows."""
    file = resource.upload(line("a"))
    path = f"/files/{file}/content"
    whole = resource.http.get(path).content

    def part(asked: str) -> httpx.Response:
        return resource.http.get(path, headers={"Range": asked})

    assert part("bytes=5-").content == whole[5:]
    assert part("bytes=0-4").content == whole[:5]
    assert part("bytes=-3").content == whole[-3:]
    for beyond in (f"bytes={len(whole)}-", "bytes=-0", f"bytes={10**17}-"):
        refused = part(beyond)
        assert refused.status_code == 416, beyond
        assert refused.json()["error"]["message"]
        assert refused.headers["Content-Range"] == f"bytes */{len(whole)}"
    for odd in (
        "bytes",
        "bytes=",
        "bytes=a-b",
        "rows=0-1",
        "bytes=4-2",
        "bytes=0-1,3-4",
        "x" * 500,
    ):
        assert (part(odd).status_code, part(odd).content) == (200, whole), odd


def test_what_is_gone_from_the_disk_is_not_found(emulator: RunningEmulator) -> None:
    """A content that somebody removed, and a batch's input file while it is answered."""
    resource = Resource(emulator, "v1")
    file = resource.upload(line("a"))
    emulator.jobs.storage.content(file).unlink()
    assert resource.http.get(f"/files/{file}/content").status_code == 404
    emulator.pause()
    lost = resource.create(line("a"))
    resource.reach(lost, "in_progress")
    emulator.jobs.storage.content(resource.batch(lost)["input_file_id"]).unlink()
    emulator.resume()
    (error,) = resource.reach(lost, "failed")["errors"]["data"]
    assert error["message"] == "The batch's input file is no longer there."
    assert resource.reach(resource.create(line("b")), "completed")


class Clumsy(ScriptedResponder):
    """A responder that works on four requests at once and trips over some."""

    def answer(
        self, requests: Iterable[ChatRequest]
    ) -> Generator[tuple[ChatRequest, ChatReply], None, None]:
        """Yield replies, last taken first, and raise over a request that says so."""
        source = iter(requests)
        taken: list[ChatRequest] = []
        while True:
            while len(taken) < 4 and (request := next(source, None)) is not None:
                taken.append(request)
            if not taken:
                return
            request = taken.pop()
            if "trip" in str(request.body["messages"]):
                raise KeyError("a step that is not there")
            yield request, self._reply(request)


def test_what_a_responder_trips_over_is_one_line_s_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are answered once each; the log has the traceback."""
    with running_emulator(tmp_path, responder=Clumsy()) as emulator:
        resource = Resource(emulator, "openai")
        rows = [line(f"r{i}", "trip" if i in (3, 4, 11) else "walk") for i in range(20)]
        batch = resource.reach(resource.create(*rows), "completed")
        assert batch["request_counts"] == {"total": 20, "completed": 17, "failed": 3}
        failed = resource.lines_of(batch["error_file_id"])
        assert {found["custom_id"] for found in failed} == {"r3", "r4", "r11"}
        for found in failed:
            assert found["response"]["status_code"] == 500
            assert "KeyError" not in json.dumps(found)
        assert set(emulator.account()["custom_ids"].values()) == {1}
        single = resource.http.post(
            "/chat/completions",
            json={"model": "any", "messages": [{"role": "user", "content": "trip"}]},
        )
        assert single.status_code == 500
        assert single.json()["error"]["type"] == "server_error"
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert "a step that is not there" in str(tracebacks[0].exc_info)


def test_what_cannot_be_read_on_the_disk_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Records of before, broken or odd, spoil no list; the log names them."""
    with running_emulator(tmp_path) as emulator:
        resource = Resource(emulator)
        kept = resource.reach(resource.create(line("a"), metadata={"a": "b"}), "completed")
        odd = resource.reach(resource.create(line("b")), "completed")
    with sqlite3.connect(tmp_path / "emulator.sqlite") as database:
        surrogate = json.dumps({**_record(database, odd["id"]), "metadata": {"\udc00": "\ud800"}})
        database.execute("update records set document = ? where id = ?", (surrogate, odd["id"]))
        good = _record(database, kept["id"])
        file = _record(database, kept["input_file_id"])
        broken = {
            "batch": ["{", "[]", "5", '{"id": "x3"}', json.dumps({**good, "id": "other"}),
                      json.dumps({**good, "id": "x5", "status": "asleep"}),
                      json.dumps({**good, "id": "x6", "created_at": "now"})],
            "file": ["", "null", json.dumps({**file, "id": "x2", "bytes": None}),
                     json.dumps({**file, "id": "../x3"})],
        }  # fmt: skip
        for kind, documents in broken.items():
            rows = [(kind, f"x{i}", 1_000 + i, text) for i, text in enumerate(documents)]
            database.executemany("insert into records values (?, ?, ?, ?)", rows)
    database.close()
    results = tmp_path / "results" / f"{kept['id']}.jsonl"
    results.write_bytes(b"nonsense\n[5]\n" + results.read_bytes())
    with running_emulator(tmp_path) as emulator:
        resource = Resource(emulator)
        listed = resource.http.get("/batches").json()["data"]
        assert [batch["id"] for batch in listed] == [odd["id"], kept["id"]]
        assert listed[0]["metadata"] == {"?": "?"}
        assert listed[1]["request_counts"]["completed"] == 1
        assert len(resource.http.get("/files").json()["data"]) == 4
        assert resource.http.get("/batches/x5").status_code == 404
        assert resource.reach(resource.create(line("c")), "completed")
        assert emulator.account()["custom_ids"] == {"a": 1, "b": 1, "c": 1}
    named = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert all(any(f"the batch x{i} " in text for text in named) for i in range(7))
    assert all(any(f"the file x{i} " in text for text in named) for i in range(4))


def _record(database: sqlite3.Connection, identifier: str) -> dict[str, Any]:
    found = database.execute("select document from records where id = ?", (identifier,)).fetchone()
    return dict(json.loads(found[0]))


@pytest.mark.parametrize(
    ("raw", "code", "param"),
    [
        ('{"custom_id": "\\ud800"', "invalid_request", "custom_id"),
        ('{"custom_id": 5', "invalid_request", "custom_id"),
        ('{"custom_id": "' + "x" * 513 + '"', "invalid_request", "custom_id"),
        ('{"custom_id": "a", "method": "GET"', "invalid_request", "method"),
        ('{"custom_id": "a", "body": 5', "invalid_request", "body"),
        ('{"custom_id": "a", "url": null', "invalid_request", "url"),
        ('{"custom_id": "a", "body": {"model": "m"}', "invalid_request", "body.messages"),
        ('{"custom_id": "a", "body": {"messages": ["x"]}', "invalid_request", "body.model"),
        ('{"custom_id": "a", "body": {"model": "\\ud800", "messages": [1]}', "invalid_request",
         "body.model"),
        ('{"custom_id": "a", "body": ' + "[" * 100_000, "invalid_json_line", None),
    ],
)  # fmt: skip
def test_a_line_that_is_no_request_fails_the_batch(
    emulator: RunningEmulator, raw: str, code: str, param: str | None
) -> None:
    """As the service's check of the file does, with the line and the part."""
    whole = {"method": "POST", "url": "/v1/chat/completions",
             "body": {"model": "any", "messages": [_HELLO]}}  # fmt: skip
    rest = "".join(f', "{k}": {json.dumps(v)}' for k, v in whole.items() if f'"{k}":' not in raw)
    resource = Resource(emulator, "v1")
    error = resource.failed(line("first"), f"{raw}{rest}}}")
    assert (error["code"], error["line"], error["param"]) == (code, 2, param)
    assert resource.http.get("/batches").status_code == 200
