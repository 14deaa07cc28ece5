"""The service of a benchmark: the emulator in a process of its own, with the scripted responder."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from batch_server.http_client import httpx
from benchmarks.measuring import cpu_seconds, resident_mb

_STOP_SECONDS = 30.0


class Service:
    """A running emulator.

    Attributes:
        url: Its address, without a path.
        api_key: The key that it demands.
    """

    def __init__(self, directory: Path, pid: int, url: str, api_key: str) -> None:
        self.url = url
        self.api_key = api_key
        self._directory = directory
        self._pid = pid

    @property
    def peak_mb(self) -> float:
        """The largest resident set of its process so far."""
        return resident_mb(self._pid)

    @property
    def cpu_seconds(self) -> float:
        """The seconds of CPU that it has taken so far."""
        return cpu_seconds(self._pid)

    def client(self) -> httpx.Client:
        """Return a client of it."""
        headers = {"api-key": self.api_key, "Authorization": f"Bearer {self.api_key}"}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=600.0)

    def account(self) -> dict[str, Any]:
        """Return what was asked of it, and what was paid for."""
        with self.client() as client:
            return dict(client.get("/_control/account").raise_for_status().json())

    def own_seconds(self) -> float:
        """Return how long it worked on batches: from a creation to the whole output file.

        Seconds in which it worked on several batches count once. Its records hold whole seconds,
        so the moments are those of its account and of its files.
        """
        account = self.account()
        with self.client() as client:
            listed = client.get("/v1/batches", params={"limit": 100}).raise_for_status().json()
        created = [
            call["at"]
            for call in account["calls"]
            if call["method"] == "POST" and call["path"] == "/batches"
        ]
        batches: list[dict[str, Any]] = listed["data"][::-1]
        written = [
            (self._directory / "files" / batch["output_file_id"]).stat().st_mtime
            for batch in batches
        ]
        worked, reached = 0.0, 0.0
        for begin, end in sorted(zip(created, written, strict=True)):
            worked += max(0.0, end - max(begin, reached))
            reached = max(reached, end)
        return worked


@contextmanager
def running_service(directory: Path) -> Iterator[Service]:
    """Run the emulator while the block runs."""
    api_key = secrets.token_hex(8)
    command = [
        str(Path(sys.executable).with_name("dbt-enrich")), "serve", "--responder", "scripted",
        "--port", "0", "--directory", str(directory), "--api-key", api_key,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield Service(directory, process.pid, _address(process), api_key)
    finally:
        process.terminate()
        process.communicate(timeout=_STOP_SECONDS)


def _address(process: subprocess.Popen[str]) -> str:
    for line in process.stdout or ():
        if line.startswith("OpenAI:"):
            return line.split()[1].removesuffix("/v1")
    raise RuntimeError(f"the emulator ended with {process.wait()} before it said its address")
