"""What a client asked of a batch, while the server was about to move it on."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_server.errors import Flavour, WireError
from batch_server.jobs import Jobs
from batch_server.responders.scripted import ScriptedResponder
from batch_server.storage import Storage


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """A resource that nothing moves on but the test."""
    jobs = Jobs(Storage(tmp_path / "serve"), ScriptedResponder())
    yield jobs
    jobs.close()


def in_progress(jobs: Jobs) -> dict[str, Any]:
    """Return a batch of one request that is being answered, as the server saw it."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    file = jobs.files.add(
        io.BytesIO(json.dumps(line).encode() + b"\n"),
        filename="a.jsonl",
        purpose="batch",
        expires_after=None,
        flavour=Flavour.OPENAI,
    )
    created = jobs.create(
        input_file_id=file["id"],
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata=None,
        flavour=Flavour.OPENAI,
    )
    jobs.validate(created)
    seen = jobs.current(created["id"], "in_progress")
    assert seen is not None
    return seen


@pytest.mark.parametrize("status", ["finalizing", "completed"])
def test_a_lost_batch_stays_lost(jobs: Jobs, status: str) -> None:
    """Whichever of the two states was to be next."""
    seen = in_progress(jobs)
    jobs.forget_batch(seen["id"])
    if status == "finalizing":
        assert not jobs.enter(seen, status)
    else:
        jobs.finish(seen, status)
    with pytest.raises(WireError, match=seen["id"]):
        jobs.batch(seen["id"])
    assert [file["purpose"] for file in jobs.files.all()] == ["batch"]


@pytest.mark.parametrize("status", ["finalizing", "completed"])
def test_a_cancel_that_was_answered_holds(jobs: Jobs, status: str) -> None:
    """The batch goes on to be cancelled, and no file is there of what it was to be."""
    seen = in_progress(jobs)
    assert jobs.cancel(seen["id"])["status"] == "cancelling"
    if status == "finalizing":
        assert not jobs.enter(seen, status)
    else:
        jobs.finish(seen, status)
    assert jobs.batch(seen["id"])["status"] == "cancelling"
    assert [file["purpose"] for file in jobs.files.all()] == ["batch"]
    assert [record["id"] for record in jobs.open_batches()] == [seen["id"]]
