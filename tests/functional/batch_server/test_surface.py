"""The emulator's surface, call by call: paths, lists, filters, expiry, metadata and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from batch_server.http_client import httpx
from batch_server.server import RunningEmulator
from functional.batch_server.resource import DATED, STYLES, Resource, line

_DAY = 86_400


@pytest.fixture(params=STYLES)
def resource(emulator: RunningEmulator, request: pytest.FixtureRequest) -> Resource:
    """The emulator by each style of paths."""
    return Resource(emulator, request.param)


def test_created_things_are_answered_as_each_service_does(
    emulator: RunningEmulator, resource: Resource
) -> None:
    """Azure: 201 and a Location that leads to what was made; OpenAI: 200."""
    file = resource.post_file(line("a"))
    batch = resource.post_batch(file.json()["id"])
    if str(resource.http.base_url).endswith("/v1/") and "openai" not in str(resource.http.base_url):
        assert (file.status_code, batch.status_code) == (200, 200)
        return
    assert (file.status_code, batch.status_code) == (201, 201)
    assert batch.headers["Location"].startswith(emulator.url)
    found = resource.http.get(batch.headers["Location"])
    assert found.json()["id"] == batch.json()["id"]


@pytest.mark.parametrize("version", [None, "", "v1", "2024-10", "latest"])
def test_classic_paths_demand_a_dated_version(
    emulator: RunningEmulator, version: str | None
) -> None:
    """Without one they are not there, as at Azure."""
    headers = {"api-key": emulator.api_key}
    query = {} if version is None else {"api-version": version}
    reply = httpx.get(f"{emulator.url}/openai/batches", headers=headers, params=query)
    assert reply.status_code == 404
    assert reply.json()["error"]["message"] == "Resource not found"


def test_keys_are_taken_as_each_service_takes_them(emulator: RunningEmulator) -> None:
    """Azure by `api-key` and as a bearer token, OpenAI by the token only; each refuses its way."""
    for header in ({"api-key": emulator.api_key}, {"Authorization": f"Bearer {emulator.api_key}"}):
        reply = httpx.get(f"{emulator.url}/openai/v1/batches", headers=header)
        assert reply.status_code == 200
    refused = httpx.get(f"{emulator.url}/v1/batches", headers={"api-key": emulator.api_key})
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "invalid_api_key"
    refused = httpx.get(f"{emulator.url}/openai/v1/batches", headers={"api-key": "other"})
    assert refused.json()["error"]["code"] == "401"


def test_unknown_things_are_not_found(resource: Resource) -> None:
    """Whatever the id is, also one that looks like a path."""
    for path in ("/files/file-0", "/batches/batch_0", "/files/..%2f..%2femulator.sqlite/content"):
        reply = resource.http.get(path)
        assert reply.status_code == 404
        assert reply.json()["error"]["message"]
    assert resource.post_batch("file-0").status_code == 404


def test_lists_come_in_pages(resource: Resource) -> None:
    """By `after` and `limit`, newest first; files also oldest first and by purpose."""
    batches = [resource.create(line(f"r{i}")) for i in range(5)]
    first = resource.http.get("/batches", params={"limit": 2}).json()
    assert [b["id"] for b in first["data"]] == batches[:2:-1]
    assert first["has_more"]
    assert first["last_id"] == batches[3]
    rest = resource.http.get("/batches", params={"after": first["last_id"], "limit": 100}).json()
    assert [b["id"] for b in rest["data"]] == batches[2::-1]
    assert not rest["has_more"]
    files = resource.http.get("/files", params={"order": "asc", "purpose": "batch"}).json()
    assert [f["id"] for f in files["data"]] == [
        resource.batch(batch)["input_file_id"] for batch in batches
    ]
    assert resource.http.get("/files", params={"purpose": "fine-tune"}).json()["data"] == []


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/batches", {"limit": 0}),
        ("/batches", {"limit": 101}),
        ("/batches", {"limit": "many"}),
        ("/batches", {"after": "batch_unknown"}),
        ("/files", {"limit": 10_001}),
        ("/files", {"order": "sideways"}),
    ],
)
def test_lists_refuse_what_they_do_not_know(
    resource: Resource, path: str, query: dict[str, Any]
) -> None:
    """With a 400 that names the parameter."""
    reply = resource.http.get(path, params=query)
    assert reply.status_code == 400
    assert next(iter(query)) in reply.json()["error"]["message"]


def test_filters_of_the_dated_api(emulator: RunningEmulator) -> None:
    """`$filter` and `$orderby` are OData, case-insensitive in the status."""
    resource = Resource(emulator, "classic")
    done = [resource.create(line(f"r{i}")) for i in range(2)]
    for batch in done:
        resource.reach(batch, "completed")
    emulator.advance(1000)
    emulator.pause()
    late = resource.create(line("late"))
    limit = resource.batch(late)["created_at"] - 500

    def listed(expression: str, **more: str) -> list[str]:
        query = {"$filter": expression, **more}
        return [b["id"] for b in resource.http.get("/batches", params=query).json()["data"]]

    assert listed("status eq 'Completed'") == done[::-1]
    assert listed(f"created_at gt {limit}") == [late]
    assert listed(f"created_at lt {limit} and status ne 'failed'") == done[::-1]
    assert listed(f"not (status eq 'completed') or created_at le {limit}") == [late, *done[::-1]]
    assert listed("created_at gt 0", **{"$orderby": "created_at asc"})[-1] == late
    for wrong in (
        "status",
        "status eq",
        "color eq 'red'",
        "status like 'x'",
        "(status eq 'x'",
        "%",
    ):
        reply = resource.http.get("/batches", params={"$filter": wrong})
        assert reply.status_code == 400, wrong
        assert "$filter" in reply.json()["error"]["message"]


def test_a_file_expires_when_its_time_is_over(
    emulator: RunningEmulator, resource: Resource
) -> None:
    """It is gone from the list, its content too, and no batch can be made of it."""
    expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(14 * _DAY)}
    file = resource.post_file(line("a"), **expiry).json()
    assert file["expires_at"] == file["created_at"] + 14 * _DAY
    emulator.advance(14 * _DAY + 1)
    assert resource.http.get(f"/files/{file['id']}").status_code == 404
    assert resource.http.get(f"/files/{file['id']}/content").status_code == 404
    assert resource.post_batch(file["id"]).status_code == 404
    assert resource.http.get("/files").json()["data"] == []


def test_expiries_are_held_to_each_service_s_range(emulator: RunningEmulator) -> None:
    """Azure takes 14 to 30 days, OpenAI from one hour, and deletes after 30 days unasked."""

    def upload(style: str, seconds: int) -> httpx.Response:
        expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(seconds)}
        return Resource(emulator, style).post_file(line("a"), **expiry)

    assert upload("v1", 3_600).status_code == 400
    assert upload("openai", 3_600).is_success
    assert upload("openai", 31 * _DAY).status_code == 400
    assert Resource(emulator, "v1").post_file(line("a")).json()["expires_at"] is None
    unasked = Resource(emulator, "openai").post_file(line("a")).json()
    assert unasked["expires_at"] == unasked["created_at"] + 30 * _DAY


def test_old_versions_pass_over_an_expiry(emulator: RunningEmulator) -> None:
    """As Azure does before 2025-03-01-preview, without a word."""
    resource = Resource(emulator, "classic")
    expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(14 * _DAY)}
    old = resource.http.post(
        "/files",
        params={"api-version": "2024-10-21"},
        files={"file": ("a.jsonl", b"x")},
        data={"purpose": "batch", **expiry},
    )
    assert old.json()["expires_at"] is None
    assert resource.post_file(line("a"), **expiry).json()["expires_at"]


def test_output_expires_as_asked(emulator: RunningEmulator, resource: Resource) -> None:
    """Counted from the making of the output file."""
    expiry = {"anchor": "created_at", "seconds": 14 * _DAY}
    batch = resource.reach(resource.create(line("a"), output_expires_after=expiry), "completed")
    output = resource.http.get(f"/files/{batch['output_file_id']}").json()
    assert output["expires_at"] == output["created_at"] + 14 * _DAY
    emulator.advance(15 * _DAY)
    assert resource.http.get(f"/files/{batch['output_file_id']}/content").status_code == 404


@pytest.mark.parametrize(
    "metadata",
    [{"a": 1}, {"a": None}, ["a"], {f"k{i}": "v" for i in range(17)}, {"k" * 65: "v"},
     {"k": "v" * 513}],
)  # fmt: skip
def test_metadata_is_held_to_the_rules(resource: Resource, metadata: object) -> None:
    """At most 16 pairs of text, with their lengths."""
    reply = resource.post_batch(resource.upload(line("a")), metadata=metadata)
    assert reply.status_code == 400
    assert "metadata" in reply.json()["error"]["message"]


def test_wrong_batches_are_refused(resource: Resource) -> None:
    """Before anything is created."""
    file = resource.upload(line("a"))
    for wrong in ({"endpoint": "/v1/images"}, {"completion_window": "1h"}, {"input_file_id": 7},
                  {"output_expires_after": {"anchor": "x", "seconds": 1}},
                  {"input_blob": "https://account.blob.core.windows.net/c/in.jsonl"}):  # fmt: skip
        assert resource.post_batch(file, **wrong).status_code == 400
    assert resource.http.get("/batches").json()["data"] == []


def test_openai_tells_the_model_and_the_tokens(emulator: RunningEmulator) -> None:
    """In the batch; Azure does not."""
    resource = Resource(emulator, "openai")
    batch = resource.reach(resource.create(line("a"), line("b")), "completed")
    assert batch["model"] == "any"
    assert batch["usage"]["total_tokens"] > 0
    azure = Resource(emulator, "v1")
    assert "usage" not in azure.batch(azure.create(line("a")))


def test_azure_tells_what_its_filter_found(emulator: RunningEmulator) -> None:
    """In each answer, of a batch and of a single request."""
    resource = Resource(emulator, "v1")
    batch = resource.reach(resource.create(line("a")), "completed")
    (answer,) = resource.lines_of(batch["output_file_id"])
    body = answer["response"]["body"]
    assert body["choices"][0]["content_filter_results"]["hate"]["severity"] == "safe"
    single = resource.http.post(
        "/chat/completions",
        json={"model": "any", "messages": [{"role": "user", "content": "hello"}]},
    )
    assert single.json()["prompt_filter_results"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"response_format": {"type": "json_object"}}, "must contain the word 'json'"),
        ({"response_format": {"type": "yaml"}}, "Invalid value: 'yaml'"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream": True}, "not supported in a batch"),
    ],
)
def test_a_body_that_the_service_refuses_is_an_error_line(
    resource: Resource, body: dict[str, Any], said: str
) -> None:
    """Of its own; the other requests are answered."""
    batch = resource.reach(resource.create(line("bad", **body), line("good")), "completed")
    (refused,) = resource.lines_of(batch["error_file_id"])
    assert refused["custom_id"] == "bad"
    assert refused["response"]["status_code"] == 400
    assert said in refused["response"]["body"]["error"]["message"]
    assert [found["custom_id"] for found in resource.lines_of(batch["output_file_id"])] == ["good"]


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    form = {"name": "answer", "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": form}}


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "array", "items": {"type": "string"}}, "object"),
        ({"type": "object", "properties": {}}, "additionalProperties"),
        ({**_object(a={"type": "string"}), "required": []}, "Missing 'a'"),
        (_object(a={"type": "string", "maxLength": 5}), "'maxLength' is not permitted"),
        (_object(a={"enum": [str(i) for i in range(501)]}), "501 enum values"),
        (_object(**{f"p{i}": {"type": "string"} for i in range(101)}), "101 properties"),
    ],
)
def test_a_schema_that_strict_mode_does_not_take_is_refused(
    emulator: RunningEmulator, schema: dict[str, Any], said: str
) -> None:
    """Before a model is asked, with the place that is wrong."""
    reply = Resource(emulator, "v1").http.post(
        "/chat/completions",
        json={"model": "any", "messages": [{"role": "user", "content": "x"}], **_strict(schema)},
    )
    assert reply.status_code == 400
    assert said in reply.json()["error"]["message"]


def test_deep_schemas_are_refused(emulator: RunningEmulator) -> None:
    """Six levels are one too many."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(6):
        schema = _object(a=schema)
    batch = Resource(emulator, "v1")
    ended = batch.reach(batch.create(line("a", **_strict(schema))), "completed")
    (refused,) = batch.lines_of(ended["error_file_id"])
    assert "levels of nesting" in refused["response"]["body"]["error"]["message"]


def test_the_official_clients_go_the_whole_way(emulator: RunningEmulator, tmp_path: Path) -> None:
    """With their own typed methods and their own paging, in all three styles."""
    clients: list[openai.OpenAI] = [
        openai.AzureOpenAI(
            azure_endpoint=emulator.url, api_key=emulator.api_key, api_version=DATED
        ),
        openai.OpenAI(base_url=f"{emulator.url}/openai/v1/", api_key=emulator.api_key),
        openai.OpenAI(base_url=f"{emulator.url}/v1", api_key=emulator.api_key),
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(line(f"r{i}") + "\n" for i in range(3)))
    for client in clients:
        file = client.files.create(
            file=path,
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 14 * _DAY},
        )
        assert client.files.wait_for_processing(file.id, poll_interval=0.01).status == "processed"
        batch = client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"owner": "me"},
        )
        emulator.settle()
        batch = client.batches.retrieve(batch.id)
        assert batch.status == "completed"
        assert batch.metadata == {"owner": "me"}
        assert batch.request_counts
        assert batch.request_counts.completed == 3
        assert client.files.content(batch.output_file_id or "").text.count("\n") == 3
        assert batch.id in [found.id for found in client.batches.list(limit=1)]
        assert client.files.delete(file.id).deleted
        assert file.id not in [found.id for found in client.files.list()]
        client.close()
