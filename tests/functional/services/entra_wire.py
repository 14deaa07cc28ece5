"""A token endpoint of our own on loopback, over TLS as azure-identity demands."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import trustme

CLIENT_SECRET = "hush+/entra~secret-3f8a"
INVALID = {
    "error": "invalid_client",
    "error_description": "AADSTS7000215: Invalid client secret provided.\r\nTrace ID: 1",
}
Token = Callable[[int], tuple[int, dict[str, Any]]]


def token_text(number: int) -> str:
    """The token that is given as the `number`th: as long and as odd as real ones."""
    return f"eyJ0eXAiOiJKV1Qi.token{number:04d}+/secret.c2lnbmF0dXJl"


def lasting(seconds: int) -> Token:
    """Give a new token each time, good for so many seconds."""

    def give(number: int) -> tuple[int, dict[str, Any]]:
        return 200, {
            "token_type": "Bearer",
            "expires_in": seconds,
            "access_token": token_text(number),
        }

    return give


def refusing(status: int, **body: Any) -> Token:
    """Give no token."""
    return lambda _: (status, body or INVALID)


class TokenServer(ThreadingHTTPServer):
    """The endpoint: what it was asked, and what it gives.

    Args:
        authority: Who signs its certificate.
        give: Makes the answer to the `number`th request for a token.
    """

    daemon_threads = True

    def __init__(self, authority: trustme.CA, give: Token) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.give = give
        self.asked: list[dict[str, list[str]]] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    @property
    def host(self) -> str:
        """Its host and port."""
        return f"127.0.0.1:{self.server_address[1]}"

    def answer(self, form: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """Note a request for a token and answer it."""
        with self._lock:
            self.asked.append(form)
            return self.give(len(self.asked))

    def close(self) -> None:
        """Stop listening. May be called twice."""
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that break off."""


class _Handler(BaseHTTPRequestHandler):
    # HTTP/1.0, so that no connection outlives the server.
    server: TokenServer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing."""

    def do_GET(self) -> None:
        """Describe the tenant, as OpenID Connect's discovery does."""
        tenant = f"https://{self.server.host}/{self.path.split('/')[1]}"
        self._send(
            200,
            {
                "authorization_endpoint": f"{tenant}/oauth2/v2.0/authorize",
                "token_endpoint": f"{tenant}/oauth2/v2.0/token",
                "issuer": f"{tenant}/v2.0",
            },
        )

    def do_POST(self) -> None:
        """Give a token, or not."""
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self._send(*self.server.answer(parse_qs(body)))

    def _send(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        if status >= 500:
            # Keeps MSAL from remembering the failure for the next seconds.
            self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(content)
