"""Batches on blobs at the emulator: what it shows of them, and refuses as the service does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_server.blobs import Blobs
from batch_server.server import RunningEmulator, running_emulator
from functional.batch_server.resource import STYLES, Resource, line
from support.buckets import azure_environment, azurite, make_azure_container, needs_azurite

BLOB = "https://acc.blob.core.windows.net/rows"
_USUAL = {
    "input_blob": f"{BLOB}/in.jsonl",
    "output_folder": {"url": f"{BLOB}/out"},
    "endpoint": "/chat/completions",
    "completion_window": "24h",
}


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningEmulator]:
    """An emulator whose identity may read an account that nothing is asked of."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "acc")
    with running_emulator(tmp_path / "emulator", blobs=Blobs()) as running:
        running.blobs(read=False)
        yield running


def refusal_of(resource: Resource, **changes: Any) -> str:
    """Create a batch; return what is said where it is refused."""
    body = {key: value for key, value in {**_USUAL, **changes}.items() if value is not None}
    reply = resource.http.post("/batches", json=body)
    if reply.status_code == 201:
        return ""
    assert reply.status_code == 400
    return str(reply.json()["error"]["message"])


@pytest.mark.parametrize("style", STYLES)
def test_blobs_are_azures(emulator: RunningEmulator, style: str) -> None:
    """By both of its paths; OpenAI knows no such thing."""
    refusal = refusal_of(Resource(emulator, style))
    assert ("'input_blob' is not supported" in refusal) == (style == "openai")
    assert bool(refusal) == (style == "openai")


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({"metadata": {"a": "b"}}, "metadata"),
        ({"output_folder": None}, "output_folder"),
        ({"output_folder": {"url": ""}}, "output_folder.url"),
        ({"input_file_id": "file-1"}, "input_file_id"),
        ({"completion_window": "1h"}, "completion_window"),
    ],
)
def test_what_a_batch_on_a_blob_cannot_have(
    emulator: RunningEmulator, changes: dict[str, Any], about: str
) -> None:
    """Each is named."""
    assert about in refusal_of(Resource(emulator, "v1"), **changes)


def test_older_versions_and_a_server_without_an_account_have_no_blobs(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """They came with 2025-04-01-preview, and with an identity that may read them."""
    resource = Resource(emulator, "classic")
    resource.http.params = {"api-version": "2025-03-01-preview"}
    assert "'input_blob' is not supported" in refusal_of(resource)
    with running_emulator(tmp_path / "other") as other:
        assert "'input_blob' is not supported" in refusal_of(Resource(other, "v1"))


def test_a_blob_that_cannot_be_read_fails_its_batch_by_name(emulator: RunningEmulator) -> None:
    """And the batch names blobs that it never wrote."""
    resource = Resource(emulator, "v1")
    batch = resource.http.post("/batches", json=_USUAL).json()
    assert (batch["input_blob"], batch["output_blob"], batch["error_blob"]) == (
        _USUAL["input_blob"], "", "",
    )  # fmt: skip
    emulator.settle()
    batch = resource.http.get(f"/batches/{batch['id']}").json()
    assert [error["code"] for error in batch["errors"]["data"]] == ["input_no_permissions"]
    assert batch["output_blob"].startswith(f"{BLOB}/out/")
    assert batch["error_blob"].endswith("/errors.jsonl")
    assert {batch[f"{kind}_file_id"] for kind in ("input", "output", "error")} == {None}


@needs_azurite
def test_what_a_batch_writes_outlives_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers are in the folder, under a name that no other batch has; no errors, no blob."""
    import obstore
    from obstore.store import AzureStore

    with azurite() as address:
        for name, value in azure_environment(address).items():
            monkeypatch.setenv(name, value)
        make_azure_container(address, "rows")
        root = f"{azure_environment(address)['AZURE_STORAGE_ENDPOINT']}/rows"
        store = AzureStore("rows", client_options={"allow_http": True})
        obstore.put(store, "in put.jsonl", f"{line('a')}\n{line('b')}\n".encode())
        body = {
            **_USUAL,
            "input_blob": f"{root}/in%20put.jsonl",
            "output_folder": {"url": f"{root}/out/"},
        }
        with running_emulator(tmp_path / "emulator", blobs=Blobs()) as first:
            first.pause()
            batch = Resource(first, "v1").http.post("/batches", json=body).json()
        with running_emulator(tmp_path / "emulator", blobs=Blobs()) as again:
            again.settle()
            batch = Resource(again, "v1").http.get(f"/batches/{batch['id']}").json()
            assert Resource(again, "v1").http.get("/files").json()["data"] == []
        assert batch["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
        (written,) = [one["path"] for chunk in obstore.list(store, "out") for one in chunk]
        assert batch["output_blob"] == f"{root}/{written}"
        content = bytes(obstore.get(store, written).bytes())
        assert content.count(b'"custom_id"') == 2
