"""llama.cpp's server inside this process: it loads the weights, and batches what runs at once."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from batch_server.extras import LOCAL, WEIGHTS_PACKAGE
from batch_server.problems import BatchServerError, SetupError
from batch_server.responders.weights import Weights

_HTTP_SECONDS = 30.0
_ERRORS_ONLY = 1
_PREFIX_FILE = "prefix"
# A letter that no JSON value begins with, and a bias that no other token outweighs.
_PROBE_LETTER = "z"
_PROBE_BIAS = 1000.0
# Barriers between two threads that spin for long come to a standstill when something else wants a
# core: 2 cores and one busy process made a row take 5 s in place of 0.5. Waiting asleep from the
# start costs a third without such company. A short spin is near the best of both.
_SPIN = ("GOMP_SPINCOUNT", "1000")


class LlamaServer:
    """The loaded model. Safe to use from several threads.

    Args:
        weights: What to load.
        slots: Requests that are worked on at once; more wait for their turn.
        threads: Threads of the CPU.
        context: Tokens that one request and its answer may have.

    Raises:
        SetupError: xllamacpp is not installed.
        BatchServerError: The weights cannot be loaded.
    """

    def __init__(self, weights: Weights, *, slots: int, threads: int, context: int) -> None:
        self._weights = weights
        self._slots = slots
        self._key = secrets.token_urlsafe(32)
        self._idle = threading.Condition()
        self._busy = 0
        self._closed = False
        self._schemas: dict[str, bool] = {}
        self._schemas_lock = threading.Lock()
        # Holds the state of one prompt for a moment, and so a row's text: private to this process.
        self._directory = tempfile.TemporaryDirectory(prefix="dbt-enrich-")
        self._server = self._load(threads, context)
        # Its main loop starts in a thread of its own, and freeing it before that waits for ever:
        # it is up once it has answered. This also makes the grammar's tables, which takes 2 s.
        self.can_follow({"type": "object"})

    def _load(self, threads: int, context: int) -> Any:
        xllamacpp = _xllamacpp()
        params = xllamacpp.CommonParams()
        params.model.path = str(self._weights.path)
        params.n_parallel = self._slots
        params.n_ctx = context * self._slots
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        # Models with sliding-window attention forget a prompt's beginning, and with it the prefix
        # that the next row shares, unless all of it is kept.
        params.swa_full = True
        # The shared prefix stays in the slots; 8 GB of previous prompts beside them help nothing.
        params.cache_ram_mib = 0
        params.verbosity = _ERRORS_ONLY
        # The library always listens on a free port of the loopback interface.
        params.api_keys = [self._key]
        params.ui = False
        params.slot_save_path = f"{self._directory.name}/"
        try:
            return xllamacpp.Server(params)
        except Exception as error:
            self._directory.cleanup()
            raise BatchServerError(
                f"the weights {self._weights.path} cannot be loaded ({error})",
                fix="give `gguf` a GGUF file of a text model that llama.cpp knows",
            ) from error

    def complete(
        self, body: Mapping[str, Any], stopped: Callable[[], bool] = lambda: False
    ) -> tuple[dict[str, Any], str]:
        """Answer one request.

        Args:
            body: The request, in the server's terms; with `messages` it is a chat.
            stopped: Asked after every token; true ends the work.

        Returns:
            The server's last chunk, or `{"error": …}`, and the text of the answer. The chunk is
            empty if the work was stopped.

        Raises:
            BatchServerError: The server is closed.
        """
        texts: list[str] = []
        last: dict[str, Any] = {}

        def receive(chunk: dict[str, Any]) -> bool:
            nonlocal last
            if "error" in chunk:
                last = chunk
                return True
            for choice in chunk.get("choices") or ():
                texts.append(_text(choice))
                if choice.get("finish_reason"):
                    last = {**last, **chunk}
            if chunk.get("usage"):
                last = {**last, "usage": chunk["usage"]}
            return self._closed or stopped()

        request = {**body, "stream": True, "stream_options": {"include_usage": True}}
        self._enter()
        try:
            handle = (
                self._server.handle_chat_completions
                if "messages" in body
                else self._server.handle_completions
            )
            handle(request, receive)
        finally:
            self._leave()
        return last, "".join(texts)

    def can_follow(self, schema: Mapping[str, Any]) -> bool:
        """Return whether the server can hold an answer to a schema.

        It does not say so itself: with a schema that it cannot compile it answers as if there were
        none. So the model is once made to begin with a letter that no JSON value begins with, and
        the grammar must have kept it from that.

        Args:
            schema: A JSON Schema.
        """
        key = json.dumps(schema, sort_keys=True)
        with self._schemas_lock:
            if key not in self._schemas:
                self._schemas[key] = self._compiles(schema)
            return self._schemas[key]

    def _compiles(self, schema: Mapping[str, Any]) -> bool:
        probe = {
            "prompt": "JSON:\n",
            "json_schema": schema,
            "logit_bias": [[_PROBE_LETTER, _PROBE_BIAS]],
            "temperature": 0,
            "max_tokens": 1,
        }
        last, text = self.complete(probe)
        return "error" not in last and not text.startswith(_PROBE_LETTER)

    def share_prefix(self, body: Mapping[str, Any]) -> bool:
        """Read a prompt once and give its state to every slot.

        Otherwise each slot would read the part that all rows share for itself.

        Args:
            body: The request of one of the rows.

        Returns:
            Whether the state was given; without it the rows are answered all the same.
        """
        last, _ = self.complete({**body, "id_slot": 0, "max_tokens": 1})
        if "error" in last or not last:
            return False
        path = Path(self._directory.name) / _PREFIX_FILE
        try:
            self._slot_action(0, "save")
            for slot in range(1, self._slots):
                self._slot_action(slot, "restore")
        except (OSError, http.client.HTTPException):
            return False
        finally:
            path.unlink(missing_ok=True)
        return True

    def _slot_action(self, slot: int, action: str) -> None:
        address = urlsplit(self._server.listening_address)
        connection = http.client.HTTPConnection(
            address.hostname or "127.0.0.1", address.port, timeout=_HTTP_SECONDS
        )
        try:
            connection.request(
                "POST",
                f"/slots/{slot}?action={action}",
                json.dumps({"filename": _PREFIX_FILE}),
                {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"},
            )
            reply = connection.getresponse()
            reply.read()
        finally:
            connection.close()
        if reply.status != http.client.OK:
            raise http.client.HTTPException(f"{action} of slot {slot}: status {reply.status}")

    def close(self) -> None:
        """End what is being answered and free the model. May be called twice."""
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: self._busy == 0)
        # The last reference: the library stops its threads and frees the weights.
        self._server = None
        with suppress(OSError):
            self._directory.cleanup()

    def _enter(self) -> None:
        with self._idle:
            if self._closed:
                raise BatchServerError(
                    "the local model was closed",
                    fix="start the emulator again",
                )
            self._busy += 1

    def _leave(self) -> None:
        with self._idle:
            self._busy -= 1
            self._idle.notify_all()


def _xllamacpp() -> Any:
    LOCAL.require("the responder llama", besides=(WEIGHTS_PACKAGE,))
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault(*_SPIN)
    try:
        import xllamacpp
    except ImportError as error:
        raise SetupError(
            f"the responder llama cannot load xllamacpp ({error})",
            fix="on Linux, install the GNU OpenMP library, as in: apt-get install libgomp1",
        ) from None
    return xllamacpp


def _text(choice: Mapping[str, Any]) -> str:
    delta = choice.get("delta")
    text = choice.get("text") if delta is None else delta.get("content")
    return text or ""
