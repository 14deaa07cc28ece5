"""The relay before a service that answers at once: a file's requests, one by one, to its output."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path

from batch_server.process import ADDRESS_FILE
from benchmarks import movies
from benchmarks.emulator import write_requests
from benchmarks.measuring import Figures, cpu_seconds, resident_mb
from benchmarks.service import running_service
from dbt_enrich.config.openai import OpenAIConfig
from dbt_enrich.services.relay import Relay
from pydantic import SecretStr

_LOOK_SECONDS = 0.2
_ENDPOINT = "/chat/completions"


def measure(rows: int, directory: Path) -> Figures:
    """Have so many requests asked one by one, each reply on the disk before it counts.

    Returns:
        `relayed`, requests a second from the creation of the batch to its end; `cpu`, the relay's
        own seconds of CPU for 10,000 requests; and `peak_mb`, its memory.
    """
    movies.make_warehouse(directory / "movies.duckdb", rows)
    requests = directory / "requests.jsonl"
    write_requests(directory / "movies.duckdb", requests)
    with running_service(directory / "service") as service:
        config = OpenAIConfig(
            base_url=f"{service.url}/v1",
            api_key=SecretStr(service.api_key),
            state_dir=directory / "state",
        )
        with closing(Relay(config)) as relay:
            opened = relay.open()
            address = json.loads((config.relay_directory / ADDRESS_FILE).read_text())
            pid = int(address["pid"])
            file = opened.upload(requests, filename="requests.jsonl")
            idle, began = cpu_seconds(pid), time.perf_counter()
            batch = opened.create(file.id, {}, _ENDPOINT)
            while not batch.status.is_terminal:
                time.sleep(_LOOK_SECONDS)
                batch = opened.batch(batch.id)
            seconds = time.perf_counter() - began
            if batch.counts.completed != rows:
                raise RuntimeError(f"{batch.counts.completed:,} of {rows:,} were answered")
            return {
                "relayed": rows / seconds,
                "cpu": (cpu_seconds(pid) - idle) / rows * 10_000,
                "peak_mb": resident_mb(pid),
            }
