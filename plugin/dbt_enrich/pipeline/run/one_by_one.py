"""Conversation: the requests of one shard asked one by one, a few at once, each reply kept at once.

Nothing here talks to the ledger or to the user: threads ask and write, and whoever drives them
looks at what came of it.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from dbt_enrich.backoff import Backoff
from dbt_enrich.clock import Clock
from dbt_enrich.endpoints.response_lines import error_line, reply_line
from dbt_enrich.errors import QuotaError, ServiceError, TransientError, UnknownOutcomeError
from dbt_enrich.files import DurableLines
from dbt_enrich.services.base import BatchService
from dbt_enrich.services.parse import is_error

_OK = 200
# The service is in trouble, or busy: its reply is one request's, but all hold back for a while.
_TROUBLED = (408, 409)


class Pace:
    """When the next request may be sent: pauses that grow while the service is in trouble.

    One pace serves all threads, and all rounds of a run.

    Args:
        clock: The time.

    Attributes:
        failing_since: Since when nothing was answered, on the monotonic clock, or None.
        error: What the service, or the network, said last.
    """

    def __init__(self, clock: Clock) -> None:
        self.failing_since: float | None = None
        self.error: ServiceError | None = None
        self._until = 0.0
        self._clock = clock
        self._backoff = Backoff(first=1.0, longest=60.0)
        self._lock = threading.Lock()

    def fails(self, error: ServiceError | None = None) -> bool:
        """Hold back for a while; say whether this begins a new pause."""
        now = self._clock.monotonic()
        asked = (error.retry_after or 0.0) if error else 0.0
        with self._lock:
            self.error = error or self.error
            self.failing_since = self.failing_since or now
            is_new = now >= self._until
            wait = self._backoff.pause(asked=asked) if is_new else asked
            self._until = max(self._until, now + wait)
            return is_new

    def works(self) -> None:
        """Note that the service answered."""
        with self._lock:
            self.failing_since = self.error = None
            self._backoff.reset()

    def passes(self, stopped: threading.Event) -> bool:
        """Wait until a request may be sent; false where `stopped` is set first."""
        while (wait := self._until - self._clock.monotonic()) > 0:
            if self._clock.wait(stopped, wait):
                return False
        return not stopped.is_set()


class Conversation:
    """The requests of an input file, asked by threads, and the replies, written as they come.

    A reply becomes a line in the form of a batch's output file. A request whose outcome is
    unknown becomes a line with an error, so that it counts as sent.

    Args:
        requests: The input file.
        replies: Where the replies go.
        service: The service.
        path: The endpoint's.
        pace: When requests may be sent.
        before_sending: Called before each request; what it raises ends the conversation.

    Attributes:
        answered: Requests with an answer.
        failed: Requests with a line that is none.
        refused: Those of them that the service replied to, by status and code.
        idle: Set once no request is on its way, and none will be.
        said: Sentences for the user, as they come.
        error: What ended the conversation before its end, or None.
    """

    def __init__(
        self,
        requests: Path,
        replies: DurableLines,
        service: BatchService,
        path: str,
        pace: Pace,
        before_sending: Callable[[], None] = lambda: None,
    ) -> None:
        self.answered = 0
        self.failed = 0
        self.refused: Counter[tuple[int, str]] = Counter()
        self.idle = threading.Event()
        self.said: deque[str] = deque()
        self.error: Exception | None = None
        self._replies = replies
        self._service = service
        self._path = path
        self._pace = pace
        self._before_sending = before_sending
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._lines = _lines_of(requests)
        self._talking = 0

    def begin(self, threads: int) -> None:
        """Start so many threads; a process that ends does not wait for them."""
        self._talking = threads
        for _ in range(threads):
            threading.Thread(target=self._talk, daemon=True).start()

    def stop(self) -> None:
        """Send nothing more; what is on its way comes home."""
        self._stopped.set()

    def _talk(self) -> None:
        try:
            while (line := self._next()) is not None:
                self._ask(json.loads(line))
        except Exception as error:  # noqa: BLE001 - raised again by the caller
            with self._lock:
                self.error = self.error or error
            self.stop()
        finally:
            with self._lock:
                self._talking -= 1
                if not self._talking:
                    self._lines.close()
                    self.idle.set()

    def _next(self) -> bytes | None:
        with self._lock:
            return None if self._stopped.is_set() else next(self._lines, None)

    def _ask(self, request: dict[str, Any]) -> None:
        """Ask until something is known of the request, or the conversation ends."""
        custom_id = request["custom_id"]
        while self._pace.passes(self._stopped):
            self._before_sending()
            try:
                reply = self._service.ask_once(self._path, request["body"], request_id=custom_id)
            except (TransientError, QuotaError) as error:
                # Nothing was begun, so nothing was paid.
                if self._pace.fails(error):
                    self.said.append(f"{error}; trying again")
                continue
            except UnknownOutcomeError as error:
                self._pace.fails()
                self.said.append(str(error))
                self._keep(error_line(custom_id, "unknown_outcome", str(error)))
                return
            is_good = reply.status_code == _OK
            is_answer = is_good and not _is_trouble(reply.body)
            if reply.status_code in _TROUBLED or reply.status_code >= 500 or is_good != is_answer:
                self._pace.fails()
            else:
                self._pace.works()
            if reply.status_code != _OK:
                self._count(reply.status_code, reply.body)
            line = reply_line(custom_id, reply.status_code, reply.body)
            self._keep(line, is_answer=is_answer)
            return

    def _count(self, status: int, body: Any) -> None:
        error = body.get("error") if isinstance(body, dict) else None
        code = error.get("code") if isinstance(error, dict) else None
        with self._lock:
            self.refused[status, str(code or "")] += 1

    def _keep(self, line: dict[str, Any], *, is_answer: bool = False) -> None:
        data = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
        with self._lock:
            self._replies.add(data.encode("utf-8", "replace"))
            self.answered += is_answer
            self.failed += not is_answer


def _is_trouble(body: object) -> bool:
    """Whether a good reply's body is an error or a page, as of a proxy before the service."""
    return not isinstance(body, dict) or is_error(body)


def _lines_of(path: Path) -> Generator[bytes, None, None]:
    with path.open("rb") as file:
        yield from file
