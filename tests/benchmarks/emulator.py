"""The emulator by itself: a batch from its creation to its output file, and single requests."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
from batch_server.http_client import httpx
from benchmarks import movies
from benchmarks.measuring import Figures
from benchmarks.movies import MODEL, PARAMETERS, SCHEMA, SYSTEM
from benchmarks.service import Service, running_service

_CALLERS = 4
_SINGLE_REQUESTS = 2_000
_LOOK_SECONDS = 0.2
_FORM = {
    "type": "json_schema",
    "json_schema": {"name": "movies", "strict": True, "schema": SCHEMA},
}


def measure(rows: int, directory: Path) -> Figures:
    """Have a batch of so many requests answered, and some single ones by several callers.

    Returns:
        `batch` and `single`, requests a second; `batch_cpu` and `single_cpu`, its own seconds of
        CPU for 10,000 requests; and `peak_mb`, its memory.
    """
    movies.make_warehouse(directory / "movies.duckdb", rows)
    requests = directory / "requests.jsonl"
    write_requests(directory / "movies.duckdb", requests)
    singles = list(itertools.islice(_bodies(directory / "movies.duckdb"), _SINGLE_REQUESTS))
    with running_service(directory / "service") as service:
        idle = service.cpu_seconds
        answered = _run_batch(service, requests)
        after_batch = service.cpu_seconds
        if answered != rows:
            raise RuntimeError(f"the emulator answered {answered:,} of {rows:,} requests")
        batch = rows / service.own_seconds()
        single = len(singles) / _ask_singly(service, singles)
        return {
            "batch": batch,
            "single": single,
            "batch_cpu": (after_batch - idle) / rows * 10_000,
            "single_cpu": (service.cpu_seconds - after_batch) / len(singles) * 10_000,
            "peak_mb": service.peak_mb,
        }


def write_requests(warehouse: Path, requests: Path) -> None:
    """Write an input file that asks of each film of a warehouse."""
    with requests.open("w") as file:
        for number, body in enumerate(_bodies(warehouse)):
            line = {
                "custom_id": str(number),
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": body,
            }
            file.write(json.dumps(line) + "\n")


def _bodies(warehouse: Path) -> Iterator[dict[str, Any]]:
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        found = connection.execute("select overview from movies")
        while rows := found.fetchmany(1_000):
            for (overview,) in rows:
                yield {
                    "model": MODEL,
                    "messages": [
                        {"role": "system", "content": SYSTEM},
                        {"role": "user", "content": overview},
                    ],
                    "response_format": _FORM,
                    **PARAMETERS,
                }


def _run_batch(service: Service, requests: Path) -> int:
    """Upload a file, create a batch on it, wait for its end, and return how many were answered."""
    with service.client() as client, requests.open("rb") as file:
        uploaded = _document(client.post("/v1/files", files={"file": file}, data=_PURPOSE))
        batch = _document(
            client.post(
                "/v1/batches",
                json={
                    "input_file_id": uploaded["id"],
                    "endpoint": "/v1/chat/completions",
                    "completion_window": "24h",
                },
            )
        )
        while batch["status"] in ("validating", "in_progress", "finalizing"):
            time.sleep(_LOOK_SECONDS)
            batch = _document(client.get(f"/v1/batches/{batch['id']}"))
    if batch["status"] != "completed":
        raise RuntimeError(f"the batch is {batch['status']}: {batch['errors']}")
    return int(batch["request_counts"]["completed"])


_PURPOSE = {"purpose": "batch"}


def _document(response: httpx.Response) -> dict[str, Any]:
    return dict(response.raise_for_status().json())


def _ask_singly(service: Service, bodies: list[dict[str, Any]]) -> float:
    """Ask for each body's answer by several callers at once; return the seconds."""
    left, lock = iter(bodies), threading.Lock()

    def ask() -> None:
        with service.client() as client:
            while True:
                with lock:
                    body = next(left, None)
                if body is None:
                    return
                client.post("/v1/chat/completions", json=body).raise_for_status()

    began = time.perf_counter()
    with ThreadPoolExecutor(_CALLERS) as callers:
        for caller in [callers.submit(ask) for _ in range(_CALLERS)]:
            caller.result()
    return time.perf_counter() - began
