"""A real language model as the emulator's responder: llama.cpp on the CPU.

The answer is the model's: nothing is looked up, corrected or added to what the request holds.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from batch_server.problems import BatchServerError
from batch_server.responders.base import ChatReply, ChatRequest
from batch_server.responders.llama_reply import (
    bad_request_reply,
    completion_reply,
    error_reply,
    schema_reply,
    server_error_reply,
)
from batch_server.responders.llama_request import BadRequest, Completion, parse_request
from batch_server.responders.llama_server import LlamaServer
from batch_server.responders.responses_form import as_chat, in_form_of
from batch_server.responders.weights import find_weights

logger = logging.getLogger(__name__)

# Tokens of one request with its answer. The weights know longer ones, but every slot takes memory
# for it: 8 slots of the packaged model 600 MB.
DEFAULT_CONTEXT = 4096
# A prefix shorter than this is read faster than shared.
_PREFIX_CHARACTERS = 400

Reply = tuple[ChatRequest, ChatReply]


class LlamaResponder:
    """Answers chat requests with a language model, several at once.

    Files with a chat template are asked as their makers meant it, others with a plain transcript.
    A request's JSON Schema is applied as a grammar.

    Args:
        gguf: A GGUF file, or None for the packaged weights.
        slots: Requests that the model works on at once.
        threads: Threads of the CPU.
        context: Tokens that one request and its answer may have.
        cache_directory: Where the packaged weights are put together; the user's cache directory by
            default.

    Raises:
        SetupError: The extra `local` is not installed, or `gguf` is no GGUF file.
        BatchServerError: The weights are not what they should be or cannot be loaded.
    """

    def __init__(
        self,
        gguf: Path | None = None,
        slots: int = 8,
        threads: int = 2,
        *,
        context: int = DEFAULT_CONTEXT,
        cache_directory: Path | None = None,
    ) -> None:
        self._slots = slots
        self._weights = find_weights(gguf, cache_directory=cache_directory)
        self._server = LlamaServer(self._weights, slots=slots, threads=threads, context=context)
        self._shared_prefix: str | None = None

    @property
    def identity(self) -> str:
        """`llama:<sha256 of the weights>`."""
        return f"llama:{self._weights.sha256}"

    def models(self) -> list[str]:
        """Return the weights' name, which answers to every other too."""
        return [self._weights.name]

    def answer(self, requests: Iterable[ChatRequest]) -> Generator[Reply, None, None]:
        """Yield each request with its reply as soon as it is there.

        No more requests are taken than there are slots; closing the iterator ends their work.

        Raises:
            BatchServerError: The responder is closed.
        """
        source = iter(requests)
        first = list(itertools.islice(source, self._slots))
        if len(first) == 1 < self._slots:
            yield first[0], self._reply(first[0], _never)
            return
        self._share_prefix(first)
        yield from self._answer_together(first, source)

    def close(self) -> None:
        """End what is being answered and free the model."""
        self._server.close()

    def _answer_together(
        self, first: Sequence[ChatRequest], source: Iterator[ChatRequest]
    ) -> Iterator[Reply]:
        """Keep every slot at work, taking a request for each that was answered."""
        abandoned = threading.Event()
        answered: queue.SimpleQueue[Reply | BaseException] = queue.SimpleQueue()

        def work(request: ChatRequest) -> None:
            try:
                answered.put((request, self._reply(request, abandoned.is_set)))
            except BaseException as error:  # noqa: BLE001
                answered.put(error)

        with ThreadPoolExecutor(self._slots, thread_name_prefix="llama") as pool:
            try:
                for request in first:
                    pool.submit(work, request)
                running = len(first)
                while running:
                    reply = answered.get()
                    if isinstance(reply, BaseException):
                        raise reply
                    following = next(source, None)
                    if following is None:
                        running -= 1
                    else:
                        pool.submit(work, following)
                    yield reply
            finally:
                abandoned.set()
                pool.shutdown(cancel_futures=True)

    def _reply(self, request: ChatRequest, stopped: Callable[[], bool]) -> ChatReply:
        return in_form_of(request, self._chat_reply(as_chat(request), stopped))

    def _chat_reply(self, request: ChatRequest, stopped: Callable[[], bool]) -> ChatReply:
        try:
            completion = parse_request(request.body)
            if completion.schema is not None and not self._server.can_follow(completion.schema):
                return schema_reply(completion.schema)
            if completion.prefix != self._shared_prefix:
                # It takes a slot whose beginning is another's from now on.
                self._shared_prefix = None
            body = completion.body(has_chat_template=self._weights.has_chat_template)
            last, text = self._server.complete(body, stopped)
        except BadRequest as problem:
            return bad_request_reply(problem)
        except BatchServerError:
            raise
        except Exception as error:
            # What the library raises for one request must not end a batch.
            logger.exception("the local model failed on the request %r", request.custom_id)
            return server_error_reply(f"the local model failed: {error}")
        if "error" in last:
            return error_reply(last["error"])
        if not last.get("choices"):
            return server_error_reply("the local model was stopped before it had answered")
        return completion_reply(last, text=text, model=self._weights.name)

    def _share_prefix(self, first: Sequence[ChatRequest]) -> None:
        """Let the slots begin with what the requests have in common, if that is new and long."""
        completions = [found for request in first if (found := _parsed(request)) is not None]
        if not completions:
            return
        prefix, rows = Counter(found.prefix for found in completions).most_common(1)[0]
        if rows < 2 or len(prefix) < _PREFIX_CHARACTERS or prefix == self._shared_prefix:
            return
        row = next(found for found in completions if found.prefix == prefix)
        # Looked at first, as it takes a slot of its own for a moment.
        if row.schema is not None and not self._server.can_follow(row.schema):
            return
        body = row.body(has_chat_template=self._weights.has_chat_template)
        if self._server.share_prefix(body):
            self._shared_prefix = prefix


def _never() -> bool:
    return False


def _parsed(request: ChatRequest) -> Completion | None:
    try:
        return parse_request(as_chat(request).body)
    except BadRequest:
        return None
