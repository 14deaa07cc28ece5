"""A small real HTTP server whose answers, and whose faults, a test writes as a function."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dbt_enrich.config.azure import AzureConfig
from dbt_enrich.config.openai import OpenAIConfig
from dbt_enrich.config.remote import RemoteConfig

KEY = "wire-key-5e0c7f1e-secret"
STYLES = ("classic", "v1", "openai")


@dataclass(frozen=True)
class Request:
    """What arrived: the path below the API's root, the query, the headers, the body."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes
    root: str

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def call(self) -> str:
        """The method and the path, such as `GET /batches`."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Reply:
    """What goes back.

    Attributes:
        status: The HTTP status.
        body: Bytes as they are; anything else as JSON.
        headers: Added to the usual ones, or put in their place.
        cut: Send only so many bytes of the body, then close.
        reset: Close with a reset in place of an orderly end.
        framing: `length`, `chunked`, or `close` for a body that ends with the connection.
    """

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    reset: bool = False
    framing: str = "length"

    @property
    def content(self) -> bytes:
        """The body's bytes."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


DROP = Reply(status=0)
"""No reply at all: the connection is closed after the request was read."""

Respond = Callable[[Request], Reply]


class WireServer:
    """The server: where it is, and what it received."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.requests: list[Request] = []
        self.errors: list[BaseException] = []
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, request: Request) -> Reply:
        """Note the request and answer it."""
        with self._lock:
            self.requests.append(request)
        try:
            return self.respond(request)
        except BaseException as error:
            self.errors.append(error)
            raise

    def calls(self, call: str) -> list[Request]:
        """The requests to one route, such as `POST /batches`."""
        return [request for request in self.requests if request.call == call]

    def close(self) -> None:
        """Stop, and show a failure of the test's function."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        if self.errors:
            raise self.errors[0]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that break off are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    owner: WireServer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = urlsplit(self.path)
        path, root = parts.path, ""
        for prefix in ("/openai/v1", "/openai", "/v1"):
            if path.startswith(prefix + "/"):
                path, root = path.removeprefix(prefix), prefix
                break
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, path, parse_qs(parts.query), headers, body, root)
        self._send(self.owner.answer(request))

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the base's names

    def _send(self, reply: Reply) -> None:
        self.close_connection = reply.cut is not None or reply.framing == "close" or reply is DROP
        if reply is not DROP:
            self._send_reply(reply)
        if reply.reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def _send_reply(self, reply: Reply) -> None:
        content = reply.content
        headers = {"content-type": "application/json"}
        if reply.framing == "length":
            headers["content-length"] = str(len(content))
        elif reply.framing == "chunked":
            headers["transfer-encoding"] = "chunked"
        headers |= {name.lower(): value for name, value in reply.headers.items()}
        self.send_response(reply.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        sent = content[: reply.cut] if reply.cut is not None else content
        if reply.framing != "chunked":
            self.wfile.write(sent)
        else:
            for start in range(0, len(sent), 1000):
                chunk = sent[start : start + 1000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            if reply.cut is None:
                self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()


@contextmanager
def serving(respond: Respond) -> Iterator[WireServer]:
    """Run a server for the block."""
    server = WireServer(respond)
    try:
        yield server
    finally:
        server.close()


def in_turn(*replies: Reply) -> Respond:
    """Answer with one reply after the other, then with the last one again."""
    left = iter(replies)
    lock = threading.Lock()

    def respond(request: Request) -> Reply:
        with lock:
            return next(left, replies[-1])

    return respond


def settings(url: str, style: str = "v1", **changes: Any) -> RemoteConfig:
    """Settings for the server at `url`, in one of the `STYLES`."""
    usual: dict[str, Any] = {"api_key": KEY, "timeout": 10.0, "max_retries": 2}
    if style == "openai":
        return OpenAIConfig(base_url=f"{url}/v1", **usual | changes)
    if style == "classic":
        usual["api_version"] = "2025-04-01-preview"
    return AzureConfig(endpoint=url, **usual | changes)


def error_body(code: str, message: str) -> dict[str, Any]:
    """An error body as Azure and OpenAI write it."""
    return {"error": {"code": code, "message": message, "param": None, "type": "error"}}


def batch_body(**changes: Any) -> dict[str, Any]:
    """A batch as the documents show it."""
    body: dict[str, Any] = {
        "id": "batch_1",
        "object": "batch",
        "endpoint": "/chat/completions",
        "status": "validating",
        "input_file_id": "file-1",
        "output_file_id": None,
        "error_file_id": "",
        "created_at": 1_720_000_000,
        "completion_window": "24h",
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": {"dbt_enrich": "1"},
        "errors": None,
    }
    return body | changes


def file_body(**changes: Any) -> dict[str, Any]:
    """A file as the documents show it."""
    body: dict[str, Any] = {
        "id": "file-1",
        "object": "file",
        "bytes": 12,
        "created_at": 1_720_000_000,
        "filename": "shard.jsonl",
        "purpose": "batch",
        "status": "processed",
        "status_details": None,
    }
    return body | changes
