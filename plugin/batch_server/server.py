"""The emulator as a server: in a thread for tests, in the foreground for everyone else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from batch_server.blobs import Blobs
from batch_server.checking import Deployment
from batch_server.control import PREFIX
from batch_server.fault_middleware import FaultMiddleware
from batch_server.hosts import LoopbackHosts
from batch_server.http_client import httpx, loopback_client
from batch_server.jobs import TERMINAL, Jobs
from batch_server.relay_worker import RelayWorker
from batch_server.responders.base import Responder
from batch_server.responders.relay import RelayResponder
from batch_server.responders.scripted import ScriptedResponder
from batch_server.responders.upstream import close_upstream_with
from batch_server.routes import create_app
from batch_server.storage import Storage
from batch_server.transitions import Transitions
from batch_server.worker import Worker

_START_SECONDS = 30.0


class RunningEmulator:
    """A running emulator and a client of its control plane.

    Attributes:
        url: Its address, without a path.
        api_key: The key that it demands.
        jobs: The resource behind it.
    """

    def __init__(self, server: _ThreadedServer, api_key: str, jobs: Jobs) -> None:
        self.url = server.url
        self.api_key = api_key
        self.jobs = jobs
        self._server = server
        self._client = self._control_client()

    def _control_client(self) -> httpx.Client:
        return loopback_client(
            base_url=self.url + PREFIX, headers={"api-key": self.api_key}, timeout=60
        )

    def account(self) -> dict[str, Any]:
        """Return the calls received, and how often each custom_id and request_key was answered."""
        response = self._client.get("/account")
        response.raise_for_status()
        return dict(response.json())

    def rules(self, rules: list[dict[str, Any]]) -> None:
        """Replace the scripted responder's rules."""
        self._act("rules", rules)

    def faults(self, *faults: dict[str, Any]) -> None:
        """Replace the faults of the connection."""
        self._act("faults", list(faults))

    def transitions(self, **stages: dict[str, Any]) -> None:
        """Set how states follow one another."""
        self._act("transitions", stages)

    def endings(self, *endings: dict[str, Any], **ending: Any) -> None:
        """Set how batches created from now on end."""
        self._act("endings", [*endings, ending])

    def limits(self, *limits: dict[str, Any]) -> None:
        """Replace the rate limits."""
        self._act("limits", list(limits))

    def deployments(self, *deployments: dict[str, Any]) -> None:
        """Replace the deployments."""
        self._act("deployments", list(deployments))

    def seed(self, seed: int) -> None:
        """Begin what is decided by chance anew."""
        self._act("seed", {"seed": seed})

    def advance(self, seconds: float) -> None:
        """Move the service's clock on."""
        self._act("clock", {"advance": seconds})

    def forget(self, batch_id: str) -> None:
        """Lose a batch."""
        self._act("forget", {"batch_id": batch_id})

    def forget_file(self, file_id: str) -> None:
        """Lose a file."""
        self._act("forget", {"file_id": file_id})

    def blobs(self, **may: bool) -> None:
        """Set whether the resource may `read` and `write` blobs."""
        self._act("blobs", may)

    def deliver(self) -> None:
        """Write the blobs that batches have ended without."""
        self._act("deliver", None)

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Refuse connections while the block runs; batches go on."""
        self._server.stop()
        try:
            yield
        finally:
            self._server.start()
            # The connections of the old one ended with the server.
            self._client.close()
            self._client = self._control_client()

    def pause(self) -> None:
        """Answer nothing until `resume`."""
        self._act("pause", None)

    def resume(self) -> None:
        """Go on answering."""
        self._act("resume", None)

    def settle(self, seconds: float = 60.0) -> None:
        """Wait until every batch has ended.

        Raises:
            TimeoutError: One has not.
        """
        deadline = time.monotonic() + seconds
        while any(record["status"] not in TERMINAL for record in self.jobs.batches()):
            if time.monotonic() > deadline:
                raise TimeoutError("a batch has not ended")
            time.sleep(0.02)

    def close(self) -> None:
        """Close the client."""
        self._client.close()

    def _act(self, action: str, document: object) -> None:
        response = self._client.post(f"/{action}", json=document)
        response.raise_for_status()


@contextmanager
def running_emulator(
    directory: Path,
    *,
    responder: Responder | None = None,
    api_key: str = "test-key",
    clock: Callable[[], float] = time.time,
    transitions: Transitions | None = None,
    deployments: Sequence[Deployment] | None = None,
    blobs: Blobs | None = None,
) -> Iterator[RunningEmulator]:
    """Run an emulator in a thread while the block runs.

    Args:
        directory: Where it keeps its state; a second one on it goes on where the first ended.
        responder: Who answers; the scripted responder by default.
        api_key: The key that it demands.
        clock: The time in seconds since 1970.
        transitions: How states follow one another; at once by default.
        deployments: The resource's deployments; any name by default.
        blobs: The blobs that its batches may read and write; none by default.
    """
    jobs = Jobs(
        Storage(directory),
        responder or ScriptedResponder(),
        clock=clock,
        transitions=transitions,
        deployments=deployments,
        blobs=blobs,
    )
    with _working(jobs) as worker:
        server = _ThreadedServer(_make_app(jobs, worker, api_key))
        server.start()
        emulator = RunningEmulator(server, api_key, jobs)
        try:
            yield emulator
        finally:
            emulator.close()
            server.stop()


@contextmanager
def _working(jobs: Jobs) -> Iterator[Worker | RelayWorker]:
    """Have a resource's batches answered while the block runs, then close the resource."""
    worker = _worker(jobs, jobs.responder)
    jobs.on_change = worker.notify
    try:
        yield worker
    finally:
        worker.close()
        jobs.close()


def _worker(jobs: Jobs, responder: Responder) -> Worker | RelayWorker:
    if isinstance(responder, RelayResponder):
        return RelayWorker(jobs, responder)
    return Worker(jobs)


class _ThreadedServer:
    """A server in a thread that can be stopped and started again at its address."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._listener = listen("127.0.0.1", self._port)
        self._port = self._listener.getsockname()[1]
        self._server = _server(self._app)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started and time.monotonic() < deadline:
            time.sleep(0.005)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=_START_SECONDS)
        self._listener.close()


def _make_app(jobs: Jobs, worker: Worker | RelayWorker, api_key: str) -> ASGIApp:
    """Return the resource as an application, with its control plane and its faults."""
    app = create_app(jobs, worker, api_key)
    return LoopbackHosts(FaultMiddleware(app, app.state.control))


@contextmanager
def opened_server(jobs: Jobs, api_key: str) -> Iterator[uvicorn.Server]:
    """Yield a server that is not running yet; the resource is closed at the end of the block.

    Args:
        jobs: The resource, whose batches are answered meanwhile.
        api_key: The key that it demands.
    """
    with _working(jobs) as worker:
        server = _server(_make_app(jobs, worker, api_key))
        close_upstream_with(jobs.responder, lambda: bool(server.should_exit))
        yield server


def _server(app: ASGIApp) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; port 0 takes a free one."""
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it on, each reply
    # waits 40 ms for the caller's delayed acknowledgement.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(128)
    return listener
