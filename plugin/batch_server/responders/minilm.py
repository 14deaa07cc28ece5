"""The packaged embedding model as the emulator's responder: all-MiniLM-L6-v2 on the CPU."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from batch_server.responders.base import EMBEDDINGS, ChatReply, ChatRequest
from batch_server.responders.embedding_reply import embedding_reply, inputs_of
from batch_server.responders.minilm_model import (
    DIMENSIONS,
    MODEL_NAME,
    MiniLm,
    packaged_identity,
)

# Texts that go through the layers together: more take memory, and hardly less time.
_TOGETHER: Final = 16

Reply = tuple[ChatRequest, ChatReply]


class MiniLmResponder:
    """Answers requests for embeddings with the packaged model, which the first one loads.

    The vector is the model's: 384 numbers of length 1, of the first 256 tokens of a text.

    Args:
        threads: Threads of the CPU.
    """

    def __init__(self, threads: int = 2) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._model: MiniLm | None = None

    @property
    def identity(self) -> str:
        """`minilm:<sha256 of the weights>`."""
        return packaged_identity()

    def models(self) -> list[str]:
        """Return the model's name, which answers to every other too."""
        return [MODEL_NAME]

    def answer(self, requests: Iterable[ChatRequest]) -> Generator[Reply, None, None]:
        """Yield each request with its reply as soon as it is there.

        Raises:
            SetupError: The extra `embeddings` is not installed.
            BatchServerError: The weights are not what they should be.
        """
        source = iter(requests)
        while together := list(itertools.islice(source, _TOGETHER)):
            yield from self._answer_together(together)

    def close(self) -> None:
        """Free the model."""
        with self._lock:
            self._model = None

    def _answer_together(self, requests: Sequence[ChatRequest]) -> list[Reply]:
        refused = [(request, _refusal(request)) for request in requests]
        asked = [request for request, refusal in refused if refusal is None]
        texts = [inputs_of(request.body) for request in asked]
        vectors, counts = self._vectors(list(itertools.chain.from_iterable(texts)))
        replies: list[Reply] = [(request, reply) for request, reply in refused if reply]
        begin = 0
        for request, own in zip(asked, texts, strict=True):
            end = begin + len(own)
            body = embedding_reply(
                request.body, vectors[begin:end], model=MODEL_NAME, tokens=sum(counts[begin:end])
            )
            replies.append((request, ChatReply(200, body)))
            begin = end
        return replies

    def _vectors(self, texts: Sequence[str]) -> tuple[list[bytes], list[int]]:
        """Return the vector of each text, and how many tokens it has."""
        with self._lock:
            self._model = self._model or MiniLm()
            tokens = self._model.tokens(texts)
            # Texts of like length waste the least on what fills up the shorter ones.
            order = sorted(range(len(texts)), key=lambda place: len(tokens[place]))
            vectors = [b""] * len(texts)
            embed = self._model.embed
            groups = [order[i : i + _TOGETHER] for i in range(0, len(order), _TOGETHER)]
            with ThreadPoolExecutor(self._threads, thread_name_prefix="minilm") as pool:
                made = pool.map(lambda group: embed([tokens[place] for place in group]), groups)
                for group, found in zip(groups, made, strict=True):
                    for place, vector in zip(group, found.astype("<f4"), strict=True):
                        vectors[place] = vector.tobytes()
        return vectors, [len(known) for known in tokens]


def _refusal(request: ChatRequest) -> ChatReply | None:
    """Return the reply to a request that the model cannot answer, or None."""
    if request.path != EMBEDDINGS:
        return _refused(f"{MODEL_NAME} answers at {EMBEDDINGS} alone.", "model")
    wanted = request.body.get("dimensions")
    if wanted not in (None, DIMENSIONS):
        return _refused(
            f"{MODEL_NAME} makes vectors of {DIMENSIONS} numbers, not of {wanted}.", "dimensions"
        )
    if not all(isinstance(given, str) for given in inputs_of(request.body)):
        return _refused(f"{MODEL_NAME} takes texts; tokens are another model's.", "input")
    return None


def _refused(message: str, param: str) -> ChatReply:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return ChatReply(400, {"error": error})
