"""What the emulator asks of whatever answers its requests."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

CHAT: Final = "/chat/completions"
RESPONSES: Final = "/responses"
EMBEDDINGS: Final = "/embeddings"


@dataclass(frozen=True)
class ChatRequest:
    """One request of a language model.

    Attributes:
        index: Where it came from in its file.
        custom_id: Its name there.
        body: Its body.
        path: The end of the address of the endpoint that it asks.
    """

    index: int
    custom_id: str
    body: dict[str, Any]
    path: str = CHAT


@dataclass(frozen=True)
class ChatReply:
    """The HTTP status and body with which the request is answered.

    At status 200 the body is a `chat.completion`, a `response` or a list of embeddings, or whatever
    JSON a model server sends in its place; otherwise it is `{"error": {...}}`.
    `spoil`, for tests, changes the lines that a batch's file gets for the request.
    """

    status_code: int
    body: Any
    spoil: Callable[[list[str]], list[str]] | None = None


class WantedRequests(Iterator[ChatRequest]):
    """Requests whose answers may stop being wanted while they are worked on.

    A responder that waits for long on others looks at `is_wanted` meanwhile, and ends.

    Args:
        requests: The requests.
        is_wanted: Whether answers are still wanted; asked several times a second, by one thread.
    """

    def __init__(self, requests: Iterable[ChatRequest], is_wanted: Callable[[], bool]) -> None:
        self._requests = iter(requests)
        self.is_wanted = is_wanted

    def __next__(self) -> ChatRequest:
        return next(self._requests)


class Responder(Protocol):
    """Answers chat requests. Used from one batch worker and from request threads at once."""

    @property
    def identity(self) -> str:
        """Who answers: `llama:<sha256 of the weights>`, `upstream:<model>` or `scripted`."""
        ...

    def models(self) -> list[str]:
        """Return the names that a request may give as its model, as far as they are known."""
        ...

    def answer(
        self, requests: Iterable[ChatRequest]
    ) -> Generator[tuple[ChatRequest, ChatReply], None, None]:
        """Yield each request with its reply as soon as it is there, in any order.

        `requests` is read lazily, no further ahead than the responder has room for; closing
        the iterator abandons what was not yielded. With `WantedRequests` the iterator may end
        before all are answered, once they are not wanted.
        """
        ...

    def close(self) -> None:
        """Free what the responder holds."""
        ...
