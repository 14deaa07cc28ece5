"""How the server's replies are written: JSON always, and errors in the service's shape."""

from __future__ import annotations

import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import ExceptionHandler

from batch_server.errors import Flavour, WireError, broken

_MESSAGES = {404: "Resource not found", 405: "Method not allowed"}


class Reply(JSONResponse):
    """A JSON reply of the service.

    What was stored by others may hold lone surrogates, which have no UTF-8: they are written as
    question marks, rather than that a whole list is no reply.
    """

    def render(self, content: Any) -> bytes:
        """Return the reply's bytes."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")


def error_handlers() -> dict[Any, ExceptionHandler]:
    """Return what replies to each kind of exception; what none is for is logged by the server."""
    return {
        WireError: _refuse,
        HTTPException: _unrouted,
        ClientDisconnect: _unread,
        Exception: _failed,
    }


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, WireError)  # noqa: S101 - registered for it
    flavour = Flavour.OPENAI if request.url.path.startswith("/v1/") else Flavour.AZURE_V1
    return Reply(error.body(flavour), status_code=error.status, headers=error.headers)


async def _unrouted(request: Request, error: Exception) -> Response:
    """Answer unknown paths, unknown methods and broken forms as the services do."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    message = _MESSAGES.get(error.status_code, str(error.detail))
    code = "invalidPayload" if error.status_code == 400 else str(error.status_code)
    allowed = {"Allow": ", ".join(_methods(request))} if error.status_code == 405 else {}
    return await _refuse(request, WireError(error.status_code, code, message, allowed))


async def _unread(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """Reply to a caller that has gone, and reads no reply."""
    return Response(status_code=499)


async def _failed(request: Request, error: Exception) -> Response:  # noqa: ARG001
    return await _refuse(request, broken())


def _methods(request: Request) -> list[str]:
    """Return the methods that a path knows."""
    known: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            known |= getattr(route, "methods", None) or set()
    return sorted(known)
