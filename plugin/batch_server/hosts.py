"""Whom a call names as its host: ASGI middleware against web pages that rebind their own name.

A page in the user's browser may give its own domain this machine's address (DNS rebinding); the
browser then takes the emulator for the page's own server. Its calls still carry the page's name.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from batch_server.errors import Flavour, WireError
from batch_server.loopback import is_loopback

_MISDIRECTED = WireError(421, "421", "The header Host does not name this machine.")


class LoopbackHosts:
    """Refuses calls that arrive on a loopback address and name another host.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one call."""
        if scope["type"] == "http" and _arrives_here(scope):
            host = Headers(scope=scope).get("host", "")
            if not is_loopback(_name_of(host)):
                reply = JSONResponse(_MISDIRECTED.body(Flavour.OPENAI), _MISDIRECTED.status)
                await reply(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _arrives_here(scope: Scope) -> bool:
    address = scope.get("server")
    return address is not None and is_loopback(address[0])


def _name_of(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
