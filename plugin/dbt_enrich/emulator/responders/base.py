"""What the emulator asks of whatever answers its requests."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class ChatRequest:
    """One `chat/completions` request: where it came from in its file, and its body."""

    index: int
    custom_id: str
    body: dict[str, Any]


@dataclass(frozen=True)
class ChatReply:
    """The HTTP status and body with which the request is answered.

    At status 200 the body is a `chat.completion` object, otherwise `{"error": {...}}`.
    `spoil`, for tests, changes the lines that a batch's file gets for the request.
    """

    status_code: int
    body: dict[str, Any]
    spoil: Callable[[list[str]], list[str]] | None = None


class Responder(Protocol):
    """Answers chat requests. Used from one batch worker and from request threads at once."""

    @property
    def identity(self) -> str:
        """Who answers, such as `llama:<sha256 of the weights>` or `scripted`."""
        ...

    def answer(
        self, requests: Iterable[ChatRequest]
    ) -> Generator[tuple[ChatRequest, ChatReply], None, None]:
        """Yield each request with its reply as soon as it is there, in any order.

        `requests` is read lazily, no further ahead than the responder has room for; closing
        the iterator abandons what was not yielded.
        """
        ...

    def close(self) -> None:
        """Free what the responder holds."""
        ...
