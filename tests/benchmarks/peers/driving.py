"""What drives a peer in an environment of its own: its rows, its clock, and where its table goes.

The peer talks to the emulator over real HTTP. Its clock stands still while a call is out and while
it sleeps between two looks at its batch: uploading, answering and downloading are not counted, the
encoding of the upload among them, which is in the peer's favour.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from benchmarks.measuring import Clock
from openai._base_client import AsyncAPIClient, SyncAPIClient


@dataclass(frozen=True)
class Place:
    """Where a peer runs.

    Attributes:
        directory: Holds the warehouse; whatever the peer keeps goes there.
        base_url: The emulator's address in OpenAI's style.
        api_key: The key that it demands.
    """

    directory: Path
    base_url: str
    api_key: str

    @classmethod
    def from_command_line(cls) -> Place:
        """Return the place that the process was told."""
        return cls(Path(sys.argv[1]), sys.argv[2], sys.argv[3])

    def rows(self) -> Any:
        """Return the movies as an Arrow table."""
        with duckdb.connect(str(self.directory / "movies.duckdb"), read_only=True) as warehouse:
            return warehouse.execute("select movie_id, overview from movies").arrow().read_all()

    def publish(self, answers: Any, clock: PeerClock) -> None:
        """Make a table of the warehouse out of an Arrow table of id, categories and summary."""
        with (
            clock.publishing(),
            duckdb.connect(str(self.directory / "movies.duckdb")) as warehouse,
        ):
            warehouse.register("answers", answers)
            warehouse.execute(
                "create table movies_enriched as select movies.*, categories, summary "
                "from movies join answers on answers.movie_id = movies.movie_id"
            )
            warehouse.execute("checkpoint")


@dataclass
class PeerClock:
    """A clock that stands still while the peer waits for the service.

    Attributes:
        waits: Beginning and end of each call and of each sleep.
        created_at: When the last batch had been created, where the export ends.
        table: Seconds that its table takes.
    """

    waits: list[tuple[float, float]] = field(default_factory=list)
    created_at: float = 0.0
    table: float = 0.0

    @contextmanager
    def waiting(self, *, creates_batch: bool = False) -> Iterator[None]:
        """Count the block as waiting."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.waits.append((began, time.perf_counter()))
            if creates_batch:
                self.created_at = time.perf_counter()

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Count the block as the table's."""
        began = time.perf_counter()
        yield
        self.table += time.perf_counter() - began

    def worked(self, begin: float, end: float) -> float:
        """Return the seconds between two moments in which the peer did not wait."""
        worked, reached = 0.0, begin
        for start, stop in sorted(self.waits):
            worked += max(0.0, min(start, end) - reached)
            reached = min(max(reached, stop), end)
        return worked + end - reached


@contextmanager
def measured() -> Iterator[PeerClock]:
    """Measure the block, and print export, load, table and memory at its end.

    The seconds of CPU are the whole block's, calls to the service among them.
    """
    clock, figures = PeerClock(), Clock()
    with _watching(clock), figures.step("whole"):
        began = time.perf_counter()
        yield clock
        ended = time.perf_counter()
    figures.figures["export"] = clock.worked(began, clock.created_at)
    figures.figures["load"] = clock.worked(clock.created_at, ended) - clock.table
    figures.figures["table"] = clock.table
    figures.report()


@contextmanager
def _watching(clock: PeerClock) -> Iterator[None]:
    """Note every call of the OpenAI client and every sleep of the process while the block runs."""
    request, request_async = SyncAPIClient.request, AsyncAPIClient.request
    sleep, sleep_async = time.sleep, asyncio.sleep

    def watched(client: Any, cast_to: Any, options: Any, **named: Any) -> Any:
        with clock.waiting(creates_batch=_creates_batch(options)):
            return request(client, cast_to, options, **named)

    async def watched_async(client: Any, cast_to: Any, options: Any, **named: Any) -> Any:
        with clock.waiting(creates_batch=_creates_batch(options)):
            return await request_async(client, cast_to, options, **named)

    def slept(seconds: float) -> None:
        with clock.waiting():
            sleep(seconds)

    async def slept_async(*arguments: Any) -> Any:
        with clock.waiting():
            return await sleep_async(*arguments)

    _put(watched, watched_async, slept, slept_async)
    try:
        yield
    finally:
        _put(request, request_async, sleep, sleep_async)


def _creates_batch(options: Any) -> bool:
    return str(options.method).lower() == "post" and str(options.url).endswith("/batches")


def _put(request: Any, request_async: Any, sleep: Any, sleep_async: Any) -> None:
    for place, name, function in (
        (SyncAPIClient, "request", request),
        (AsyncAPIClient, "request", request_async),
        (time, "sleep", sleep),
        (asyncio, "sleep", sleep_async),
    ):
        setattr(place, name, function)
