"""The emulator's states, validation, quotas and limits, on a clock that the test moves on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator, running_emulator
from functional.batch_server.resource import Resource, line

_DAY = 86_400


@pytest.fixture
def azure(emulator: RunningEmulator) -> Resource:
    """The emulator as Azure's v1 API."""
    return Resource(emulator, "v1")


@pytest.mark.parametrize(
    ("lines", "code", "number"),
    [
        ([line("a"), "{not json"], "invalid_json_line", 2),
        ([line("a"), '"text"'], "invalid_request", 2),
        ([line("a"), line("a")], "duplicate_custom_id", 2),
        ([line("a"), line("b", url="/v1/embeddings")], "url_mismatch", 2),
        ([line("a"), line("b", url="/chat/completions")], "url_mismatch", 2),
        ([line("a"), line("b", model="other")], "model_mismatch", 2),
        ([line("a", messages=[])], "invalid_request", 1),
        ([line("a", messages="hello")], "invalid_request", 1),
        ([line("")], "invalid_request", 1),
        ([], "empty_file", None),
        (["", " "], "empty_file", None),
    ],
)
def test_a_wrong_file_fails_the_batch(
    azure: Resource, lines: list[str], code: str, number: int | None
) -> None:
    """With the service's code and the line's number; nothing of it is answered."""
    error = azure.failed(*lines)
    assert (error["code"], error["line"]) == (code, number)


def test_a_bom_hides_the_deployment(azure: Resource) -> None:
    """The service's own message does not speak of the BOM."""
    file = azure.post_file(b"\xef\xbb\xbf" + line("a").encode()).json()["id"]
    batch = azure.reach(azure.post_batch(file).json()["id"])
    assert batch["status"] == "failed"
    assert "model deployment name couldn't be extracted" in batch["errors"]["data"][0]["message"]


def test_openai_wants_the_url_of_the_endpoint(emulator: RunningEmulator) -> None:
    """Where Azure takes it with and without /v1."""
    openai = Resource(emulator, "openai")
    assert openai.failed(line("a", url="/chat/completions"))["code"] == "url_mismatch"
    azure = Resource(emulator, "v1")
    batch = azure.reach(azure.create(line("a", url="/chat/completions")))
    assert batch["status"] == "completed"


def test_deployments_are_known_and_of_the_right_type(
    emulator: RunningEmulator, azure: Resource
) -> None:
    """Unknown ones are `model_not_found`, those of another type `invalid_request`."""
    emulator.deployments({"name": "any", "sku": "Standard"}, {"name": "batch"})
    assert azure.failed(line("a", model="strange"))["code"] == "model_not_found"
    assert azure.failed(line("a"))["code"] == "invalid_request"
    assert azure.reach(azure.create(line("a", model="batch")))["status"] == "completed"
    assert [d["id"] for d in azure.http.get("/models").json()["data"]] == ["any", "batch"]


def test_a_pending_file_makes_no_batch(emulator: RunningEmulator, azure: Resource) -> None:
    """Until it has been looked at as often as was declared."""
    emulator.transitions(file={"kind": "polls", "amount": 2})
    file = azure.upload(line("a"))
    refused = azure.post_batch(file)
    assert refused.status_code == 400
    assert "is in 'pending' state" in refused.json()["error"]["message"]
    statuses = [azure.http.get(f"/files/{file}").json()["status"] for _ in range(2)]
    assert statuses == ["pending", "processed"]
    assert azure.post_batch(file).is_success


def test_states_follow_the_clock(emulator: RunningEmulator, azure: Resource) -> None:
    """Validating, in progress, finalizing: each for as long as was declared."""
    emulator.transitions(
        validating={"kind": "time", "amount": 60},
        in_progress={"kind": "time", "amount": 3_600},
        finalizing={"kind": "time", "amount": 60},
    )
    batch = azure.create(line("a"))
    assert azure.batch(batch)["status"] == "validating"
    for seconds, status in ((61, "in_progress"), (3_601, "finalizing"), (61, "completed")):
        emulator.advance(seconds)
        ended = azure.reach(batch, status)
    assert ended["completed_at"] - ended["created_at"] >= 3_600


def test_a_stuck_batch_can_be_cancelled(emulator: RunningEmulator, azure: Resource) -> None:
    """And cancelling takes its time."""
    emulator.endings(stuck=True)
    emulator.transitions(cancelling={"kind": "time", "amount": 600})
    batch = azure.create(line("a"))
    emulator.advance(7 * _DAY)
    assert azure.batch(batch)["status"] == "validating"
    assert azure.http.post(f"/batches/{batch}/cancel").json()["status"] == "cancelling"
    assert azure.http.post(f"/batches/{batch}/cancel").is_success
    emulator.advance(601)
    ended = azure.reach(batch, "cancelled")
    (error,) = azure.lines_of(ended["error_file_id"])
    assert error["error"]["code"] == "batch_cancelled"
    assert azure.http.post(f"/batches/{batch}/cancel").status_code == 409


def test_openai_expires_a_batch_after_its_window(emulator: RunningEmulator) -> None:
    """With what was answered; Azure lets it run on."""
    emulator.pause()
    late = {style: Resource(emulator, style) for style in ("openai", "v1")}
    batches = {style: resource.create(line("a")) for style, resource in late.items()}
    for style, resource in late.items():
        resource.reach(batches[style], "in_progress")
    emulator.advance(_DAY + 1)
    expired = late["openai"].reach(batches["openai"], "expired")
    (error,) = late["openai"].lines_of(expired["error_file_id"])
    assert error["error"]["code"] == "batch_expired"
    assert late["v1"].batch(batches["v1"])["status"] == "in_progress"
    emulator.resume()
    late["v1"].reach(batches["v1"], "completed")


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_a_batch_ends_with_part_of_it_done(
    emulator: RunningEmulator, azure: Resource, status: str
) -> None:
    """The rest is in the error file, and is not counted as failed."""
    emulator.endings(status=status, after=2)
    batch = azure.reach(azure.create(*(line(f"r{i}") for i in range(5))))
    assert batch["status"] == status
    assert batch["request_counts"] == {"total": 5, "completed": 2, "failed": 0}
    assert len(azure.lines_of(batch["output_file_id"])) == 2
    assert len(azure.lines_of(batch["error_file_id"])) == 3


def test_a_batch_of_errors_only_is_completed(emulator: RunningEmulator, azure: Resource) -> None:
    """Without an output file, and nothing of it is paid."""
    emulator.endings({"only_errors": True, "call": 2})
    first, second = azure.create(line("a")), azure.create(line("b"))
    assert azure.reach(first)["output_file_id"]
    batch = azure.reach(second)
    assert (batch["status"], batch["output_file_id"]) == ("completed", None)
    assert batch["request_counts"]["failed"] == 1
    assert emulator.account()["paid"] == {"a": 1}


def test_tokens_are_held_until_a_batch_has_ended(
    emulator: RunningEmulator, azure: Resource
) -> None:
    """A batch that finds no room is refused when it is created; the headers tell why."""
    emulator.deployments({"name": "any", "max_enqueued_tokens": 100})
    emulator.pause()
    text = "x" * 200
    created = azure.post_batch(azure.upload(line("a", text)))
    assert int(created.headers["deployment-maximum-enqueued-tokens"]) == 100
    assert 50 < int(created.headers["deployment-enqueued-tokens"]) <= 100
    file = azure.upload(line("b", text))
    refused = azure.post_batch(file)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "token_limit_exceeded"
    assert len(azure.http.get("/batches").json()["data"]) == 1
    emulator.resume()
    azure.reach(created.json()["id"], "completed")
    assert azure.post_batch(file).is_success


def test_quota_may_be_found_wanting_later(emulator: RunningEmulator, azure: Resource) -> None:
    """The batch is created, and fails while it is validated, as in older regions."""
    emulator.deployments({"name": "any", "max_enqueued_tokens": 30_000, "quota_fails": "later"})
    error = azure.failed(line("a", "x" * 130_000))
    assert error["code"] == "token_limit_exceeded"
    assert "configured limit of 30K for the deployment 'any'" in error["message"]
    assert error["line"] is None


def test_files_without_expiry_have_a_smaller_quota(
    emulator: RunningEmulator, azure: Resource
) -> None:
    """In the service's own words."""
    emulator.jobs.files.max_lasting_files = 1
    azure.upload(line("a"))
    refused = azure.post_file(line("b"))
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "quotaExceeded"
    assert "files without expiry is reached. The maximum is 1." in refused.text
    expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(14 * _DAY)}
    assert azure.post_file(line("b"), **expiry).is_success


def test_rate_limits_say_when_to_come_back(emulator: RunningEmulator, azure: Resource) -> None:
    """And let calls through again once that time is over."""
    emulator.limits({"operation": "GET /batches", "calls": 2, "seconds": 60})
    codes = [azure.http.get("/batches").status_code for _ in range(3)]
    assert codes == [200, 200, 429]
    refused = azure.http.get("/batches")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    emulator.advance(61)
    assert azure.http.get("/batches").status_code == 200


def test_chance_follows_its_seed(emulator: RunningEmulator, azure: Resource) -> None:
    """The same seed hits the same calls."""

    def hit() -> list[int]:
        emulator.seed(7)
        emulator.faults({"name": "status", "status": 503, "probability": 0.5, "times": None})
        return [azure.http.get("/batches").status_code for _ in range(20)]

    first = hit()
    assert {200, 503} == set(first)
    assert hit() == first


def test_state_outlives_the_server(tmp_path: Path) -> None:
    """Files, batches and answers are there again, and what was under way goes on."""
    directory = tmp_path / "emulator"
    with running_emulator(directory) as first:
        done = Resource(first).create(line("a"))
        Resource(first).reach(done, "completed")
        first.pause()
        open_batch = Resource(first).create(line("b"))
    with running_emulator(directory) as second:
        resource = Resource(second)
        assert resource.lines_of(resource.batch(done)["output_file_id"])
        resource.reach(open_batch, "completed")
        assert second.account()["custom_ids"] == {"a": 1, "b": 1}


def test_reset_forgets_everything(emulator: RunningEmulator, azure: Resource) -> None:
    """Files, batches, faults, limits, deployments and the account."""
    azure.reach(azure.create(line("a")))
    emulator.deployments()
    emulator.limits({"operation": "GET /batches", "calls": 1, "seconds": 60})
    emulator.faults({"name": "status", "operation": "GET /files", "times": None})
    control = {"api-key": emulator.api_key}
    reset = azure.http.post(f"{emulator.url}/_control/reset", headers=control)
    assert reset.is_success
    for path in ("/batches", "/files", "/batches"):
        assert azure.http.get(path).json()["data"] == []
    assert emulator.account()["custom_ids"] == {}
    assert azure.reach(azure.create(line("a")))["status"] == "completed"


@pytest.mark.parametrize(
    ("action", "document"),
    [
        ("faults", [{"name": "fire"}]),
        ("endings", [{"status": "exploded"}]),
        ("limits", [{"operation": "", "calls": 0, "seconds": 1}]),
        ("transitions", {"sleeping": {"kind": "immediate"}}),
        ("transitions", {"validating": {"kind": "someday"}}),
        ("rules", [{"fault": "fire"}]),
        ("clock", {}),
        ("nonsense", None),
    ],
)
def test_the_control_plane_refuses_what_it_does_not_know(
    emulator: RunningEmulator, azure: Resource, action: str, document: Any
) -> None:
    """So that a test cannot believe in a fault that was never set."""
    reply = azure.http.post(f"{emulator.url}/_control/{action}", content=json.dumps(document))
    assert reply.status_code in (400, 404)
