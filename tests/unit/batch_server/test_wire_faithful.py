"""The emulator on the wire: what the service refuses, and the shapes of what it answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from batch_server.checking import Deployment
from batch_server.server import RunningEmulator, running_emulator

URL: Literal["/v1/chat/completions"] = "/v1/chat/completions"


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[RunningEmulator]:
    """A resource with two batch deployments and a standard one."""
    known = [Deployment("m"), Deployment("n"), Deployment("std", sku="Standard")]
    with running_emulator(tmp_path, deployments=known) as running:
        yield running


def line(n: int = 1, model: str = "m", url: str = URL) -> str:
    """One request."""
    body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
    return json.dumps({"custom_id": f"k-{n}", "method": "POST", "url": url, "body": body}) + "\n"


def ended(emulator: RunningEmulator, text: str, path: str) -> tuple[Any, list[dict[str, Any]]]:
    """Run a batch with the official client; return it and the lines of its output file."""
    with openai.OpenAI(base_url=emulator.url + path, api_key=emulator.api_key) as client:
        file = client.files.create(file=("in.jsonl", text.encode()), purpose="batch").id
        made = client.batches.create(input_file_id=file, endpoint=URL, completion_window="24h")
        emulator.settle()
        batch = client.batches.retrieve(made.id)
        output = client.files.content(batch.output_file_id).text if batch.output_file_id else ""
    return batch, [json.loads(answer) for answer in output.splitlines()]


# Written with less work than `line` takes, as every worker of the tests imports it.
_LINE = line().replace("k-1", "k-%d")
TOO_MANY = "".join(_LINE % n for n in range(100_001))
BAD = [("", "empty_file", None), ("{\n", "invalid_json_line", 1), (line() * 2, "duplicate_custom_id", 2), (line(model="no"), "model_not_found", 1), (line() + line(2, "n"), "model_mismatch", 2), (line(url="/v1/embeddings"), "url_mismatch", 1), (line(model="std"), "invalid_request", 1), (TOO_MANY, "too_many_tasks", None)]  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("case", BAD, ids=[code for _, code, _ in BAD])
def test_a_bad_file_fails_with_its_code(emulator: RunningEmulator, case: tuple[Any, ...]) -> None:
    """Each error has the service's code and the line, and nothing was answered."""
    batch, _ = ended(emulator, case[0], "/openai/v1")
    assert [(error.code, error.line) for error in batch.errors.data][:1] == [case[1:]]
    assert emulator.account()["custom_ids"] == {}


@pytest.mark.parametrize("path", ["/openai/v1", "/v1"])
def test_lines_have_the_shape_of_their_service(emulator: RunningEmulator, path: str) -> None:
    """OpenAI's lines have an id, Azure's the content filter's results; the order is shuffled."""
    _, answers = ended(emulator, "".join(map(line, range(50))), path)
    ids = [int(answer["custom_id"][2:]) for answer in answers]
    assert ids != sorted(ids) == list(range(50))
    assert {"id" in a for a in answers} == {path == "/v1"}
    assert {"prompt_filter_results" in a["response"]["body"] for a in answers} == {path != "/v1"}
