"""A service's synchronous endpoint as a responder: each request asked once, as fast as it takes.

The worker of a relay asks through the client itself, and keeps each reply; `answer` is for single
requests.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Generator, Iterable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from batch_server.responders.base import ChatReply, ChatRequest
from batch_server.responders.credentials import Credentials
from batch_server.responders.relay_client import Marks, Refused, RelayClient
from batch_server.responders.relay_options import RelayOptions

_STOP_SECONDS: Final = 5.0
T = TypeVar("T")


class RelayResponder:
    """Asks a service that its users have the credentials of.

    Args:
        options: Where the service is.

    Attributes:
        credentials: With what it is asked.
        client: What asks it, on the responder's event loop.
        options: Where the service is.
    """

    def __init__(self, options: RelayOptions) -> None:
        self.options = options
        self.credentials = Credentials()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._thread.start()
        self.client: RelayClient = self.run(self._connected()).result()

    @property
    def identity(self) -> str:
        """The service that answers."""
        return f"relay:{self.options.base_url}"

    def models(self) -> list[str]:
        """Return nothing: the service has its own list."""
        return []

    def run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Do something on the event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, function: Any) -> None:
        """Call a function on the event loop, soon."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)

    def answer(
        self, requests: Iterable[ChatRequest]
    ) -> Generator[tuple[ChatRequest, ChatReply], None, None]:
        """Yield each request with its reply, one after the other."""
        for request in requests:
            outcome = self.run(self.client.ask(request.path, request, Marks())).result()
            if outcome is None:
                return
            response = (outcome.line or {}).get("response")
            if response is None:
                why = outcome.refusal or Refused("unknown_outcome", "no reply came")
                error = {"error": {"code": why.code, "message": why.message}}
                yield request, ChatReply(why.status or 502, error)
            else:
                yield request, ChatReply(response["status_code"], response["body"])

    def close(self) -> None:
        """Close the connections. May be called twice."""
        if self._loop.is_closed():
            return
        self.run(self.client.close()).result(timeout=_STOP_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=_STOP_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    async def _connected(self) -> RelayClient:
        return RelayClient(self.options, self.credentials)
