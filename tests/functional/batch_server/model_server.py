"""A real OpenAI-compatible chat server on loopback that misbehaves on demand."""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE = 30.0
Action = Callable[["Call"], None]


class ModelServer:
    """The server's account of what it was asked.

    Attributes:
        models: The names that it lists.
        key: The key that it demands, or None.
        content: Makes an answer's text from the row's text.
        actions: What it does with a row's text, one action after another, then it answers.
        usual: What it does with every other row.
        asked: How often each row's text came.
        bodies: The bodies that came.
        peak: The most requests that were in flight at once.
        abandoned: How many requests were given up by the caller while they were held.
        open: While it is not set, held requests are.
    """

    def __init__(self) -> None:
        self.models: Any = ["small", "large"]
        self.list_status = 200
        self.key: str | None = None
        self.content: Callable[[str], str] = lambda text: f"re: {text}"
        self.actions: dict[str, Sequence[Action]] = {}
        self.usual: Action = answer
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.flying = 0
        self.peak = 0
        self.abandoned = 0
        self.open = threading.Event()
        self.changed = threading.Condition()
        self.url = ""

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until something is true of the account."""
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE)

    def note(self, **changes: int) -> None:
        """Add to counts of the account."""
        with self.changed:
            for name, change in changes.items():
                setattr(self, name, getattr(self, name) + change)
            self.peak = max(self.peak, self.flying)
            self.changed.notify_all()

    def take(self, text: str, body: dict[str, Any]) -> Action:
        """Note a request and return what is to be done with it."""
        with self.changed:
            turn = self.asked[text]
            self.asked[text] += 1
            self.bodies.append(body)
            self.changed.notify_all()
        actions = self.actions.get(text)
        if actions is None:
            return self.usual
        return actions[turn] if turn < len(actions) else answer


class Call(BaseHTTPRequestHandler):
    """One connection to the server."""

    protocol_version = "HTTP/1.1"
    model_server: ModelServer

    def do_GET(self) -> None:
        """List the models."""
        if not self._is_authorised():
            return
        server = self.model_server
        listed = server.models
        if isinstance(listed, list):
            listed = {"object": "list", "data": [{"id": name} for name in listed]}
        status = server.list_status if self.path == "/v1/models" else 404
        self.send(status, listed if status == 200 else {"error": "not found"})

    def do_POST(self) -> None:
        """Answer a request, or do what is declared for it."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._is_authorised():
            return
        asked = body.get("messages") or body["input"]
        self.text = str(asked[-1]["content"])
        self.body = body
        action = self.model_server.take(self.text, body)
        self.model_server.note(flying=1)
        try:
            action(self)
        finally:
            self.model_server.note(flying=-1)

    def send(self, status: int, document: object, **headers: str) -> None:
        """Send a document, or bytes as they are."""
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def is_given_up(self) -> bool:
        """Whether the caller has closed the connection."""
        readable, _, _ = select.select([self.connection], [], [], 0.01)
        try:
            return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _is_authorised(self) -> bool:
        key = self.model_server.key
        if key is None or self.headers.get("Authorization") == f"Bearer {key}":
            return True
        self.send(401, {"error": {"message": "wrong key", "type": "auth", "code": 401}})
        return False


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """Callers that hang up are no news here."""


# What it does with a request


def completion(call: Call) -> dict[str, Any]:
    """A `chat.completion` with a field that OpenAI's have not."""
    content = call.model_server.content(call.text)
    message = {"role": "assistant", "content": content, "reasoning": "because"}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": call.body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        "timings": {"predicted_ms": 1.5},
    }


def answer(call: Call) -> None:
    """Answer as it should."""
    call.send(200, completion(call))


def uncounted(call: Call) -> None:
    """Answer without `usage`."""
    document = completion(call)
    del document["usage"]
    call.send(200, document)


def refuse(status: int, document: object, **headers: str) -> Action:
    """Answer with a status and document."""
    return lambda call: call.send(status, document, **headers)


def reset(call: Call) -> None:
    """Reset the connection."""
    call.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    call.close_connection = True
    call.connection.close()


def hold(call: Call) -> None:
    """Answer once the server is open, unless the caller gives up before."""
    server = call.model_server
    while not server.open.is_set():
        if call.is_given_up():
            call.close_connection = True
            server.note(abandoned=1)
            return
    answer(call)


def meet(count: int) -> Action:
    """Answer once so many requests have been in flight together."""

    def meeting(call: Call) -> None:
        call.model_server.wait(lambda: call.model_server.peak >= count)
        answer(call)

    return meeting


@contextmanager
def model_server(actions: Mapping[str, Sequence[Action]] | None = None) -> Iterator[ModelServer]:
    """Run a server while the block runs."""
    server = ModelServer()
    server.actions.update(actions or {})
    handler = type("BoundCall", (Call,), {"model_server": server})
    listener = _Listener(("127.0.0.1", 0), handler)
    server.url = f"http://127.0.0.1:{listener.server_port}/v1"
    threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.open.set()
        listener.shutdown()
        listener.server_close()
