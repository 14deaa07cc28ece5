"""The services' contract, against the emulator over real HTTP, in each of the three styles."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_server.checking import Deployment
from batch_server.server import RunningEmulator, running_emulator
from batch_server.transitions import Transition, Transitions
from dbt_enrich.errors import (
    AuthenticationError,
    ConfigurationError,
    NotFoundError,
    QuotaError,
    ServiceError,
    TransientError,
    UnknownOutcomeError,
)
from dbt_enrich.services.base import BatchService, BatchStatus, FileStatus, RemoteBatch
from dbt_enrich.services.openai import OpenAIBatchService
from functional.services.wire import settings
from support.clock import HastyClock

MODEL = "gpt-4o-mini-batch"


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[RunningEmulator]:
    """A resource with a batch deployment, a small one and a standard one.

    Its key is part of nearly every text that it says.
    """
    deployments = [
        Deployment(MODEL),
        Deployment("small", max_enqueued_tokens=5),
        Deployment("gpt-standard", sku="GlobalStandard"),
    ]
    served = running_emulator(tmp_path / "emulator", api_key="e", deployments=deployments)
    with served as running:
        yield running


@pytest.fixture
def service(emulator: RunningEmulator, style: str) -> Iterator[OpenAIBatchService]:
    """A service that calls it."""
    given = settings(emulator.url, style, api_key=emulator.api_key, max_retries=3)
    service = OpenAIBatchService(given, clock=HastyClock())
    yield service
    service.close()


def shard(path: Path, service: BatchService, *, requests: int = 3, model: str = MODEL) -> Path:
    """Write an input file."""
    prefix = "/v1" if service.service_id.startswith("openai") else ""
    lines = [
        {
            "custom_id": f"key-{number}",
            "method": "POST",
            "url": f"{prefix}/chat/completions",
            "body": {"model": model, "messages": [{"role": "user", "content": f"é {number}"}]},
        }
        for number in range(requests)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def submitted(service: BatchService, path: Path, **metadata: str) -> RemoteBatch:
    """Upload a file, wait until it is processed, and create a batch on it."""
    file = service.upload(path, filename=path.name)
    while file.status is FileStatus.PENDING:
        file = service.file(file.id)
    return service.create(file.id, metadata, "/chat/completions")


def ended(service: BatchService, batch_id: str) -> RemoteBatch:
    """Poll a batch until it has ended."""
    while not (batch := service.batch(batch_id)).status.is_terminal:
        pass
    return batch


def lines(service: BatchService, file_id: str | None, path: Path) -> list[dict[str, Any]]:
    """Download a file and read its lines; none for no file."""
    if file_id is None:
        return []
    assert service.download(file_id, path) == path.stat().st_size
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def creates(emulator: RunningEmulator) -> int:
    """How many calls to create a batch arrived."""
    calls = Counter((call["method"], call["path"]) for call in emulator.account()["calls"])
    return calls["POST", "/batches"]


def test_a_batch_goes_all_the_way(
    service: OpenAIBatchService, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Upload, wait, create, poll, download: each request is answered once, under its own id."""
    service.check(MODEL)
    created = submitted(service, shard(tmp_path / "s.jsonl", service), shard="s", dbt_enrich="1")
    batch = ended(service, created.id)
    assert batch.status is BatchStatus.COMPLETED
    assert batch.metadata == {"shard": "s", "dbt_enrich": "1"}
    assert (batch.counts.total, batch.counts.completed, batch.counts.failed) == (3, 3, 0)
    assert batch.created_at is not None
    answers = lines(service, batch.output_file_id, tmp_path / "out.jsonl")
    assert sorted(line["custom_id"] for line in answers) == ["key-0", "key-1", "key-2"]
    assert lines(service, batch.error_file_id, tmp_path / "err.jsonl") == []
    assert creates(emulator) == 1


def test_a_pending_file_is_waited_for(
    service: OpenAIBatchService, emulator: RunningEmulator, style: str, tmp_path: Path
) -> None:
    """Azure refuses a batch on it, with an error that says to come back; OpenAI has none."""
    emulator.jobs.transitions = Transitions(file=Transition("polls", 2))
    path = shard(tmp_path / "s.jsonl", service)
    file = service.upload(path, filename="s.jsonl")
    if style == "openai":
        assert file.status is FileStatus.PROCESSED
        assert submitted(service, path).id
        return
    assert file.status is FileStatus.PENDING
    with pytest.raises(TransientError, match="still being checked"):
        service.create(file.id, {}, "/chat/completions")
    assert submitted(service, path).id
    assert creates(emulator) == 2


def test_batches_and_files_are_listed(
    service: OpenAIBatchService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adoption finds a batch by its file or its metadata, on whatever page it is."""
    monkeypatch.setattr("dbt_enrich.services.openai._PAGE_SIZE", 2)
    path = shard(tmp_path / "s.jsonl", service, requests=1)
    file = service.upload(path, filename="ns-s.jsonl")
    made = [
        service.create(file.id, {"number": str(number)}, "/chat/completions").id
        for number in range(5)
    ]
    found = list(service.batches())
    assert [batch.id for batch in found] == made[::-1]
    assert {batch.input_file_id for batch in found} == {file.id}
    assert found[-1].metadata == {"number": "0"}
    assert [(f.id, f.filename) for f in service.files()] == [(file.id, "ns-s.jsonl")]


def test_a_file_is_deleted_twice(service: OpenAIBatchService, tmp_path: Path) -> None:
    """The second time changes nothing; asking for it names it."""
    file = service.upload(shard(tmp_path / "s.jsonl", service), filename="s.jsonl")
    assert service.file(file.id).bytes == (tmp_path / "s.jsonl").stat().st_size
    service.delete_file(file.id)
    service.delete_file(file.id)
    with pytest.raises(NotFoundError, match=file.id):
        service.file(file.id)
    with pytest.raises(NotFoundError, match=file.id):
        service.download(file.id, tmp_path / "gone")


def test_a_lost_reply_to_create_is_found_again(
    service: OpenAIBatchService, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """The service has acted: one call, one batch, and the list tells it by its file."""
    path = shard(tmp_path / "s.jsonl", service)
    file = service.upload(path, filename="s.jsonl")
    emulator.faults({"name": "lost_reply", "operation": "POST /batches"})
    with pytest.raises(UnknownOutcomeError):
        service.create(file.id, {"shard": "s"}, "/chat/completions")
    (found,) = [batch for batch in service.batches() if batch.input_file_id == file.id]
    assert found.metadata == {"shard": "s"}
    assert ended(service, found.id).status is BatchStatus.COMPLETED
    assert creates(emulator) == 1
    assert set(emulator.account()["custom_ids"].values()) == {1}


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_a_failing_create_is_never_repeated(
    service: OpenAIBatchService, emulator: RunningEmulator, tmp_path: Path, status: int
) -> None:
    """Only 429 says for certain that nothing was created."""
    file = service.upload(shard(tmp_path / "s.jsonl", service), filename="s.jsonl")
    emulator.faults({"name": "status", "operation": "POST /batches", "status": status})
    with pytest.raises(TransientError if status == 429 else UnknownOutcomeError):
        service.create(file.id, {}, "/chat/completions")
    assert creates(emulator) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"name": "status", "status": 429, "retry_after": "0.05"},
        {"name": "status", "status": 503},
        {"name": "reset"},
        {"name": "lost_reply"},
        {"name": "truncated"},
    ],
)
def test_polls_and_uploads_ride_over_faults(
    service: OpenAIBatchService, emulator: RunningEmulator, tmp_path: Path, fault: dict[str, Any]
) -> None:
    """One fault in each is not seen by the caller."""
    path = shard(tmp_path / "s.jsonl", service)
    emulator.faults(
        fault | {"operation": "POST /files"},
        fault | {"operation": "GET /batches"},
    )
    file = service.upload(path, filename="s.jsonl")
    assert file.bytes == path.stat().st_size
    batch = service.create(file.id, {}, "/chat/completions")
    assert ended(service, batch.id).status is BatchStatus.COMPLETED


@pytest.mark.parametrize("name", ["truncated", "wrong_length", "reset", "lost_reply"])
def test_a_download_rides_over_faults(
    service: OpenAIBatchService, emulator: RunningEmulator, tmp_path: Path, name: str
) -> None:
    """The file is whole in the end, and nothing else is beside it."""
    batch = ended(service, submitted(service, shard(tmp_path / "s.jsonl", service)).id)
    emulator.faults({"name": name, "operation": "GET /files", "times": 2})
    target = tmp_path / "answers" / "out.jsonl"
    target.parent.mkdir()
    assert len(lines(service, batch.output_file_id, target)) == 3
    assert list(target.parent.iterdir()) == [target]


def test_a_full_quota_is_told_by_create(service: OpenAIBatchService, tmp_path: Path) -> None:
    """The file stays good for another try."""
    file = service.upload(shard(tmp_path / "s.jsonl", service, model="small"), filename="s.jsonl")
    with pytest.raises(QuotaError, match="once earlier work has finished") as caught:
        service.create(file.id, {}, "/chat/completions")
    assert caught.value.code == "token_limit_exceeded"
    assert (caught.value.is_of_tokens, caught.value.token_limit) == (True, 5)
    assert service.file(file.id).status is FileStatus.PROCESSED


def test_a_resource_full_of_files_is_told(
    service: OpenAIBatchService, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """An upload beyond the number of files waits like any quota."""
    emulator.jobs.files.max_files = 0
    with pytest.raises(QuotaError):
        service.upload(shard(tmp_path / "s.jsonl", service), filename="s.jsonl")


def test_a_batch_that_fails_as_a_whole_says_why(
    service: OpenAIBatchService, tmp_path: Path
) -> None:
    """Each error has its code and its line."""
    path = shard(tmp_path / "s.jsonl", service)
    with path.open("a", encoding="utf-8") as file:
        file.write("not json\n")
    batch = ended(service, submitted(service, path).id)
    assert batch.status is BatchStatus.FAILED
    assert [(error.code, error.line) for error in batch.errors] == [("invalid_json_line", 4)]
    assert (batch.output_file_id, batch.error_file_id) == (None, None)


def test_a_batch_is_cancelled_once_and_for_all(
    service: OpenAIBatchService, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """A second cancel returns the batch as it ended."""
    emulator.pause()
    created = submitted(service, shard(tmp_path / "s.jsonl", service))
    assert service.cancel(created.id).status in (BatchStatus.CANCELLING, BatchStatus.CANCELLED)
    assert ended(service, created.id).status is BatchStatus.CANCELLED
    assert service.cancel(created.id).status is BatchStatus.CANCELLED
    emulator.resume()


def test_a_batch_that_vanished_is_not_found(
    service: OpenAIBatchService, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """It is named, so that the engine can say which."""
    created = submitted(service, shard(tmp_path / "s.jsonl", service))
    emulator.forget(created.id)
    with pytest.raises(NotFoundError, match=created.id):
        service.batch(created.id)


def test_chat_is_answered(service: OpenAIBatchService, style: str) -> None:
    """One request at a time, by a deployment that is none for batches, where there are such."""
    hello = [{"role": "user", "content": "hello"}]
    reply = service.ask("/chat/completions", {"model": "gpt-standard", "messages": hello})
    assert "e" in reply["choices"][0]["message"]["content"]
    if style != "openai":
        with pytest.raises(ServiceError, match="`preview_model`"):
            service.ask("/chat/completions", {"model": MODEL, "messages": hello})
    with pytest.raises(NotFoundError, match="`deployments`"):
        service.ask("/chat/completions", {"model": "none", "messages": []})


def test_a_deployment_that_is_not_there_is_refused(service: OpenAIBatchService) -> None:
    """Before anything is uploaded."""
    with pytest.raises(NotFoundError, match="'no-such-deployment'"):
        service.check("no-such-deployment")


def test_a_standard_deployment_is_refused_where_the_service_tells(
    service: OpenAIBatchService, style: str
) -> None:
    """OpenAI has no deployments, and its models do not say."""
    if style == "openai":
        service.check("gpt-standard")
        return
    with pytest.raises(ConfigurationError, match="'gpt-standard'.*GlobalStandard"):
        service.check("gpt-standard")


def test_a_wrong_key_is_refused(emulator: RunningEmulator, style: str) -> None:
    """In the words of each service."""
    service = OpenAIBatchService(settings(emulator.url, style))
    with pytest.raises(AuthenticationError, match="Access denied|Incorrect API key"):
        service.check(MODEL)
