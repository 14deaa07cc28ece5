"""Breaking connections on purpose: ASGI middleware that carries out the faults that are set."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from starlette.responses import HTMLResponse, JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batch_server.control import PREFIX, Control
from batch_server.errors import Flavour, WireError
from batch_server.faults.delays import LATE
from batch_server.faults.reply_shapes import SHAPES, reshape
from batch_server.faults.rules import BREAKING, SPOILING, Fault

_Change = Callable[[dict[str, Any]], dict[str, Any]]
_PIECE = 1024
_PAGE = "<html><body><h1>502 Bad Gateway</h1></body></html>"


class FaultMiddleware:
    """Notes each call, keeps to the rate limits, and breaks the calls that faults hit.

    Args:
        app: The application.
        control: The faults, the limits and the account.
    """

    def __init__(self, app: ASGIApp, control: Control) -> None:
        self._app = app
        self._control = control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one call."""
        if scope["type"] != "http" or scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], service_path(scope["path"])
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        faults = self._control.faults.hits(method, path)
        self._control.begin(method, path)
        try:
            if faults:
                await self._break(faults, scope, receive, send, noting)
            else:
                await self._serve(scope, receive, noting)
        finally:
            self._control.note(method, path, status)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._control.limits.check(scope["method"], service_path(scope["path"]))
        except WireError as error:
            await _refuse(error, scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _break(
        self, faults: list[Fault], scope: Scope, receive: Receive, send: Send, noting: Send
    ) -> None:
        breaking = next((fault for fault in faults if fault.name in BREAKING), None)
        match breaking.name if breaking else None:
            case "reset":
                await receive()
                _abort(send)
            case "lost_reply":
                await self._serve(scope, receive, _swallow)
                _abort(send)
            case "hang":
                while (await receive())["type"] != "http.disconnect":
                    pass
            case "garbage":
                await HTMLResponse(_PAGE, 200)(scope, receive, noting)
            case "status":
                assert breaking is not None  # noqa: S101
                await _refuse(_error(breaking), scope, receive, noting)
            case _:
                await self._serve(scope, receive, _odd(faults, send, noting))


def service_path(path: str) -> str:
    """Return a call's path without the prefix of its style."""
    for prefix in ("/openai/v1", "/openai", "/v1"):
        if path.startswith(f"{prefix}/"):
            return path.removeprefix(prefix)
    return path


def _odd(faults: list[Fault], send: Send, noting: Send) -> Send:
    """Return a `send` that reshapes and spoils what the service sends."""
    odd = noting
    for fault in faults:
        if fault.name in SPOILING:
            odd = _spoiled(fault, odd, send)
    changes = [LATE[fault.name] for fault in faults if fault.name in LATE]
    changes += [partial(reshape, shape=fault.name) for fault in faults if fault.name in SHAPES]
    return _changed(changes, odd) if changes else odd


def _changed(changes: list[_Change], send: Send) -> Send:
    """Return a `send` that collects a JSON reply and passes it on changed."""
    start: Message = {}
    body = b""

    async def changed_reply(message: Message) -> None:
        nonlocal start, body
        if message["type"] == "http.response.start":
            start = message
            if _is_json(message):
                return
            await send(message)
            return
        if not _is_json(start) or message["type"] != "http.response.body":
            await send(message)
            return
        body += message.get("body", b"")
        if message.get("more_body"):
            return
        document = json.loads(body)
        for change in changes:
            document = change(document)
        written = json.dumps(document).encode()
        await send({**start, "headers": _with_length(start["headers"], len(written))})
        await send({"type": "http.response.body", "body": written})

    return changed_reply


def _spoiled(fault: Fault, send: Send, connection: Send) -> Send:
    """Return a `send` that spoils the body."""

    async def spoiled(message: Message) -> None:
        if message["type"] == "http.response.start":
            if fault.name == "wrong_length":
                length = int(dict(message["headers"]).get(b"content-length", b"0"))
                message = {**message, "headers": _with_length(message["headers"], length + 10)}
            await send(message)
            return
        body = _body(message)
        if fault.name == "slow":
            for start in range(0, len(body), _PIECE):
                piece = body[start : start + _PIECE]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                await asyncio.sleep(fault.delay)
            more = bool(message.get("more_body"))
            await send({"type": "http.response.body", "body": b"", "more_body": more})
            return
        await send(
            {"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True}
        )
        await asyncio.sleep(0)
        _abort(connection)

    return spoiled


def _body(message: Message) -> bytes:
    if message["type"] == "http.response.pathsend":
        return Path(message["path"]).read_bytes()
    return bytes(message.get("body", b""))


def _error(fault: Fault) -> WireError:
    headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
    return WireError(fault.status, fault.code or str(fault.status), fault.message, headers)


async def _refuse(error: WireError, scope: Scope, receive: Receive, send: Send) -> None:
    flavour = Flavour.OPENAI if scope["path"].startswith("/v1/") else Flavour.AZURE_V1
    response = JSONResponse(error.body(flavour), error.status, error.headers)
    await response(scope, receive, send)


def _is_json(start: Message) -> bool:
    return b"application/json" in dict(start.get("headers") or []).get(b"content-type", b"")


def _with_length(headers: list[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    return [
        (name, str(length).encode() if name == b"content-length" else value)
        for name, value in headers
    ]


async def _swallow(message: Message) -> None:
    """Lose a message of the reply."""


def _abort(send: Any) -> None:
    """Close the connection without a reply: what uvicorn hands over is bound to its transport."""
    cycle = getattr(send, "__self__", None)
    transport = getattr(cycle, "transport", None)
    if transport is None:
        raise RuntimeError("the server's send is not bound to a connection")
    transport.abort()
