"""Breaking connections on purpose: ASGI middleware that carries out the faults that are set."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dbt_enrich.emulator.control import PREFIX, Control
from dbt_enrich.emulator.errors import Flavour, WireError
from dbt_enrich.emulator.faults import Fault

_PIECE = 1024


class FaultMiddleware:
    """Notes each call, and breaks the ones that a fault hits.

    Args:
        app: The application.
        control: The faults and the account.
    """

    def __init__(self, app: ASGIApp, control: Control) -> None:
        self._app = app
        self._control = control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one call."""
        if scope["type"] != "http" or scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], _service_path(scope["path"])
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        fault = self._control.faults.hit(method, path)
        try:
            if fault is None:
                await self._app(scope, receive, noting)
            else:
                await self._break(fault, scope, receive, send, noting)
        finally:
            self._control.note(method, path, status)

    async def _break(
        self, fault: Fault, scope: Scope, receive: Receive, send: Send, noting: Send
    ) -> None:
        match fault.name:
            case "reset":
                await _read_some(receive)
                _abort(send)
            case "lost_reply":
                await self._app(scope, receive, _swallow)
                _abort(send)
            case "status":
                headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
                error = WireError(fault.status, str(fault.status), "Scripted fault.", headers)
                response = JSONResponse(error.body(Flavour.AZURE_V1), fault.status, headers)
                await response(scope, receive, noting)
            case _:
                await self._app(scope, receive, _spoiled(fault, send))


def _spoiled(fault: Fault, send: Send) -> Send:
    """Return a `send` that spoils the body."""

    async def spoiled(message: Message) -> None:
        if message["type"] == "http.response.pathsend" or message["type"] != "http.response.body":
            if fault.name == "wrong_length" and message["type"] == "http.response.start":
                message = {**message, "headers": _longer(message["headers"])}
            await send(message)
            return
        body = message.get("body", b"")
        if fault.name == "slow":
            for start in range(0, len(body), _PIECE):
                piece = body[start : start + _PIECE]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                await asyncio.sleep(fault.delay)
            await send({**message, "body": b""})
            return
        await send(
            {"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True}
        )
        await asyncio.sleep(0)
        _abort(send)

    return spoiled


def _longer(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [
        (name, str(int(value) + 10).encode() if name == b"content-length" else value)
        for name, value in headers
    ]


async def _read_some(receive: Receive) -> None:
    await receive()


async def _swallow(message: Message) -> None:
    """Lose a message of the reply."""


def _abort(send: Any) -> None:
    """Close the connection without a reply: what uvicorn hands over is bound to its transport."""
    cycle = getattr(send, "__self__", None)
    transport = getattr(cycle, "transport", None)
    if transport is None:
        raise RuntimeError("the server's send is not bound to a connection")
    transport.abort()


def _service_path(path: str) -> str:
    for prefix in ("/openai/v1", "/openai", "/v1"):
        if path.startswith(f"{prefix}/"):
            return path.removeprefix(prefix)
    return path
