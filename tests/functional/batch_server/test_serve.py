"""`dbt-enrich serve` and the shared process: real processes, the official client, real kills."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from batch_server.http_client import httpx
from batch_server.problems import BatchServerError, SetupError
from batch_server.process import join_emulator
from batch_server.responders import ResponderSpec
from support.waiting import wait_until

KEY = "served-key"
SCRIPTED = ResponderSpec("scripted")


def lines(count: int) -> bytes:
    """An input file of so many requests."""
    body: dict[str, Any] = {"model": "any", "messages": [{"role": "user", "content": "hello"}]}
    made = [
        {"custom_id": f"r-{i}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for i in range(count)
    ]
    return "".join(json.dumps(line) + "\n" for line in made).encode()


@contextmanager
def served(directory: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the command as a user does, and yield its address and process."""
    command = [sys.executable, "-c", "from dbt_enrich.cli import main; main()", "serve"]
    process = subprocess.Popen(
        [*command, "--port", "0", "--responder", "scripted", "--directory", str(directory)],
        env={**os.environ, "DBT_ENRICH_SERVE_KEY": KEY, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    address = process.stdout.readline().split()[-3]
    wait_until(lambda: is_healthy(address, KEY))
    try:
        yield address, process
    finally:
        process.kill()
        process.communicate(timeout=30)


def is_healthy(address: str, key: str) -> bool:
    """Whether the emulator answers."""
    try:
        reply = httpx.get(f"{address}/_control/health", headers={"api-key": key}, trust_env=False)
    except httpx.HTTPError:
        return False
    return reply.status_code == 200


def clients(address: str) -> dict[str, openai.OpenAI]:
    """The official client in the three path styles."""
    return {
        "classic": openai.AzureOpenAI(
            azure_endpoint=address, api_key=KEY, api_version="2024-10-21"
        ),
        "v1": openai.OpenAI(base_url=f"{address}/openai/v1/", api_key=KEY),
        "openai": openai.OpenAI(base_url=f"{address}/v1/", api_key=KEY),
    }


def test_the_official_client_runs_a_batch_in_each_style(tmp_path: Path) -> None:
    """Unchanged: upload, create, poll, download, and a synchronous request."""
    with served(tmp_path) as (address, _):
        for style, client in clients(address).items():
            file = client.files.create(file=("in.jsonl", io.BytesIO(lines(3))), purpose="batch")
            batch = client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            wait_until(lambda c=client, b=batch: c.batches.retrieve(b.id).status == "completed")  # type: ignore[misc]
            done = client.batches.retrieve(batch.id)
            assert done.output_file_id is not None, style
            answers = client.files.content(done.output_file_id).text.splitlines()
            assert {json.loads(line)["custom_id"] for line in answers} == {"r-0", "r-1", "r-2"}
            chat = client.chat.completions.create(
                model="any", messages=[{"role": "user", "content": "hi"}]
            )
            assert chat.model == "scripted"


def test_killed_in_the_middle_of_a_batch_it_goes_on(tmp_path: Path) -> None:
    """A restarted server answers what is left, and no request twice."""
    count = 12_000
    with served(tmp_path) as (address, process):
        client = clients(address)["openai"]
        file = client.files.create(file=("in.jsonl", io.BytesIO(lines(count))), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )

        def done_so_far() -> int:
            counts = client.batches.retrieve(batch.id).request_counts
            return counts.completed if counts else 0

        wait_until(lambda: done_so_far() > 100)
        process.send_signal(signal.SIGKILL)
    results = (tmp_path / "results" / f"{batch.id}.jsonl").read_bytes()
    assert results.count(b"\n") < count
    with served(tmp_path) as (address, _):
        client = clients(address)["openai"]
        wait_until(lambda: client.batches.retrieve(batch.id).status == "completed")
        account = httpx.get(
            f"{address}/_control/account", headers={"api-key": KEY}, trust_env=False, timeout=60
        ).json()
    assert len(account["custom_ids"]) == count
    assert set(account["custom_ids"].values()) == {1}


def test_it_demands_its_key(tmp_path: Path) -> None:
    """Also on the control plane."""
    with served(tmp_path) as (address, _):
        for path in ("/v1/files", "/openai/v1/batches", "/_control/account"):
            reply = httpx.get(address + path, headers={"api-key": "x"}, trust_env=False)
            assert reply.status_code == 401


def test_a_cancelled_batch_ends_and_the_next_is_answered(tmp_path: Path) -> None:
    """What it had answered is kept, and the worker goes on."""
    with served(tmp_path) as (address, _):
        client = clients(address)["openai"]
        first = client.files.create(file=("a", io.BytesIO(lines(20_000))), purpose="batch")
        running = client.batches.create(
            input_file_id=first.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        cancelled = client.batches.cancel(running.id)
        assert cancelled.status in ("cancelling", "cancelled")
        second = client.files.create(file=("b", io.BytesIO(lines(1))), purpose="batch")
        batch = client.batches.create(
            input_file_id=second.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        wait_until(lambda: client.batches.retrieve(batch.id).status == "completed")
        wait_until(lambda: client.batches.retrieve(running.id).status == "cancelled")


def test_it_binds_loopback_alone() -> None:
    """Another host is refused with a sentence."""
    command = [sys.executable, "-c", "from dbt_enrich.cli import main; main()", "serve"]
    done = subprocess.run(
        [*command, "--host", "0.0.0.0"],  # noqa: S104
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "not a loopback address" in done.stderr


def test_users_share_one_process_and_it_ends_with_the_last(tmp_path: Path) -> None:
    """A second user joins; a user that is killed counts as gone."""
    first = join_emulator(tmp_path, spec=SCRIPTED)
    script = (
        "import sys, time; from pathlib import Path; "
        "from batch_server.process import join_emulator; "
        "from batch_server.responders import ResponderSpec; "
        "held = join_emulator(Path(sys.argv[1]), spec=ResponderSpec('scripted')); "
        "print(held.url, flush=True); time.sleep(60)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline().strip() == first.url
    first.release()
    time.sleep(4)
    assert is_healthy(first.url, first.api_key)
    other.kill()
    other.communicate(timeout=30)
    wait_until(lambda: not is_healthy(first.url, first.api_key))


def test_another_responder_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    """Answers of one are never taken for the other's."""
    first = join_emulator(tmp_path, spec=SCRIPTED)
    try:
        with pytest.raises(SetupError, match="another state_dir"):
            join_emulator(tmp_path, spec=ResponderSpec("scripted", slots=3))
    finally:
        first.release()


def test_a_script_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """The process says why it ended, and the sentence has its words."""
    spec = ResponderSpec("scripted", script=tmp_path / "nowhere.json")
    with pytest.raises(BatchServerError, match=r"nowhere\.json"):
        join_emulator(tmp_path / "state", spec=spec)


def test_a_model_that_is_loaded_is_announced(tmp_path: Path) -> None:
    """Before it is, as it takes seconds; what is there at once is not."""
    text: list[str] = []
    model = ResponderSpec("llama", gguf=tmp_path / "weights.gguf")
    with pytest.raises(BatchServerError, match="the local emulator ended while it started"):
        join_emulator(tmp_path / "model", spec=model, say=text.append)
    assert text == [f"loading the language model {model.gguf}, which takes some seconds"]
    assert ResponderSpec("llama").loads == "the packaged language model"
    join_emulator(tmp_path / "scripted", spec=SCRIPTED, say=text.append).release()
    assert len(text) == 1
