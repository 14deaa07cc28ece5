"""Has requests answered so that what one of them breaks is that one's error, and no other's."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing

from batch_server.errors import Flavour, broken
from batch_server.problems import BatchServerError
from batch_server.responders.base import ChatReply, ChatRequest, Responder, WantedRequests

logger = logging.getLogger(__name__)
Answered = tuple[ChatRequest, ChatReply]

SERVER_ERROR = ChatReply(500, broken().body(Flavour.OPENAI))


class _Handed(Iterator[ChatRequest]):
    """Requests, and which of them were handed out and are not answered yet."""

    def __init__(self, requests: Iterable[ChatRequest]) -> None:
        self._requests = iter(requests)
        self.out: dict[int, ChatRequest] = {}
        self.failure: Exception | None = None

    def __next__(self) -> ChatRequest:
        try:
            request = next(self._requests)
        except StopIteration:
            raise
        except Exception as error:
            self.failure = error
            raise
        self.out[request.index] = request
        return request


def answers(responder: Responder, requests: WantedRequests) -> Generator[Answered, None, None]:
    """Yield each request with its reply, as `Responder.answer` does.

    Where the responder raises, the requests that it was working on are asked one by one, and the
    one that it raises for again is answered with a server error. The log has the traceback.

    Raises:
        BatchServerError: The responder says that it cannot answer at all.
    """
    handed = _Handed(requests)
    source = WantedRequests(handed, requests.is_wanted)
    while True:
        try:
            with closing(responder.answer(source)) as replies:
                for request, reply in replies:
                    handed.out.pop(request.index, None)
                    yield request, reply
                return
        except BatchServerError:
            raise
        except Exception:
            # Without a request in hand it would raise again, and again.
            if handed.failure or not handed.out:
                raise
            logger.warning("the responder failed; %d requests are asked alone", len(handed.out))
        for request in list(handed.out.values()):
            alone = _reply_alone(responder, request) if requests.is_wanted() else None
            if alone is None:
                return
            del handed.out[request.index]
            yield request, alone


def _reply_alone(responder: Responder, request: ChatRequest) -> ChatReply | None:
    """Return the reply to one request; None: the responder has ended."""
    try:
        with closing(responder.answer([request])) as replies:
            answered = next(replies, None)
    except BatchServerError:
        raise
    except Exception:
        logger.exception("the request %r cannot be answered", request.custom_id)
        return SERVER_ERROR
    return answered[1] if answered else None
