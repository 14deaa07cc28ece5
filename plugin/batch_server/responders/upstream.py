"""A model server of the user's own as the emulator's responder: Ollama, vLLM, LM Studio.

Whatever speaks OpenAI's `chat/completions` or `responses` gets batches by it.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import Final

from batch_server.responders.base import ChatReply, ChatRequest, Responder, WantedRequests
from batch_server.responders.upstream_client import UpstreamClient
from batch_server.responders.upstream_options import UpstreamOptions
from batch_server.responders.upstream_probe import check_upstream, upstream_models
from batch_server.responders.upstream_reply import error_reply

_LOOK_SECONDS: Final = 0.2
_STOP_SECONDS: Final = 5.0

Reply = tuple[ChatRequest, ChatReply]


class UpstreamResponder:
    """Answers chat requests by asking an OpenAI-compatible server, several at once.

    The reply's body is passed on as it is. A request that finds no answer ends as an error.

    Args:
        options: Where the server is, and how it is asked.

    Raises:
        SetupError: The key is missing or refused, there is no such server at the address,
            or it does not have the model.
        BatchServerError: There is no answer at the address.
    """

    def __init__(self, options: UpstreamOptions) -> None:
        check_upstream(options, options.model)
        self._options = options
        self._closed = threading.Event()
        # What is submitted before the end is abandoned by it, and nothing is submitted after it.
        self._lock = threading.Lock()
        self._client = UpstreamClient(options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="upstream", daemon=True)
        self._thread.start()

    @property
    def identity(self) -> str:
        """`upstream:<model>`, or `upstream` where each request names its own."""
        return self._options.answered_by(self._options.model) if self._options.model else "upstream"

    def models(self) -> list[str]:
        """Return the model that is asked, or those of the server where requests name their own."""
        if self._options.model:
            return [self._options.model]
        return upstream_models(self._options)

    def answer(self, requests: Iterable[ChatRequest]) -> Generator[Reply, None, None]:
        """Yield each request with its reply as soon as it is there.

        No more requests are taken than may be in flight. Closing the iterator abandons those; it
        ends by itself once the responder is closed, or `WantedRequests` are no longer wanted.
        """
        if self._closed.is_set():
            # A caller that asks again and again until the process has ended is slowed down.
            time.sleep(_LOOK_SECONDS)
            return
        source = iter(requests)
        goes_on = self._goes_on(requests)
        answered: queue.SimpleQueue[tuple[ChatRequest, Future[ChatReply]]] = queue.SimpleQueue()
        running: set[Future[ChatReply]] = set()

        def submit(request: ChatRequest) -> None:
            future = self._submit(request)
            if future is not None:
                running.add(future)
                future.add_done_callback(lambda done: answered.put((request, done)))

        try:
            for request in itertools.islice(source, self._options.concurrency):
                submit(request)
            while running and goes_on():
                try:
                    request, future = answered.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    continue
                running.discard(future)
                if future.cancelled():
                    return
                following = next(source, None)
                if following is not None:
                    submit(following)
                yield request, _reply_in(future)
        finally:
            for future in running:
                future.cancel()

    def close(self) -> None:
        """Abandon what is being asked and close the connections. May be called twice."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop)
        self._thread.join(timeout=_STOP_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    def _submit(self, request: ChatRequest) -> Future[ChatReply] | None:
        """Have a request asked, unless the responder is closed."""
        with self._lock:
            if self._closed.is_set():
                return None
            return asyncio.run_coroutine_threadsafe(self._client.reply(request), self._loop)

    def _goes_on(self, requests: Iterable[ChatRequest]) -> Callable[[], bool]:
        is_wanted = requests.is_wanted if isinstance(requests, WantedRequests) else _always
        return lambda: not self._closed.is_set() and is_wanted()

    async def _shut_down(self) -> None:
        asked = asyncio.all_tasks() - {asyncio.current_task()}
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await self._client.close()
        self._loop.stop()


def close_upstream_with(responder: Responder, is_ending: Callable[[], bool]) -> None:
    """Close the responder, if it is of this kind, once the process is asked to end.

    A server waits for the calls that it is answering, and those wait for the model server.
    """
    if not isinstance(responder, UpstreamResponder):
        return

    def watch() -> None:
        while not is_ending():
            time.sleep(_LOOK_SECONDS)
        responder.close()

    threading.Thread(target=watch, name="upstream-end", daemon=True).start()


def _reply_in(future: Future[ChatReply]) -> ChatReply:
    try:
        return future.result()
    except Exception as error:  # noqa: BLE001 - one request's trouble must not end a batch
        return error_reply(500, f"The request could not be sent: {error!r}", code="internal_error")


def _always() -> bool:
    return True
