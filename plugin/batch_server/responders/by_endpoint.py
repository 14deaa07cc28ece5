"""One responder for each kind of endpoint: a language model cannot make embeddings."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator

from batch_server.responders.base import (
    EMBEDDINGS,
    ChatReply,
    ChatRequest,
    Responder,
    WantedRequests,
)


class ByEndpoint:
    """Has embeddings made by one responder, and all else answered by another.

    Args:
        language: Answers all but embeddings. Its identity is the whole's: which model makes
            embeddings is not chosen.
        embeddings: Makes them.
    """

    def __init__(self, language: Responder, embeddings: Responder) -> None:
        self._language = language
        self._embeddings = embeddings

    @property
    def identity(self) -> str:
        """Who answers what is no embedding."""
        return self._language.identity

    def models(self) -> list[str]:
        """Return the names of both."""
        return [*self._language.models(), *self._embeddings.models()]

    def answer(
        self, requests: Iterable[ChatRequest]
    ) -> Generator[tuple[ChatRequest, ChatReply], None, None]:
        """Yield each request with its reply: those of an endpoint, then those of the next."""
        for path, group in itertools.groupby(requests, key=lambda request: request.path):
            source = _wanted(group, requests)
            responder = self._embeddings if path == EMBEDDINGS else self._language
            yield from responder.answer(source)

    def close(self) -> None:
        """Free what both hold."""
        self._language.close()
        self._embeddings.close()


def _wanted(group: Iterator[ChatRequest], requests: Iterable[ChatRequest]) -> Iterable[ChatRequest]:
    """Return some of the requests, wanted for as long as all are."""
    if isinstance(requests, WantedRequests):
        return WantedRequests(group, requests.is_wanted)
    return group
