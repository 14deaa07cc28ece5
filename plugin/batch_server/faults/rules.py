"""Faults of the connection and of replies, by name: what a client must survive.

Each hits an exact call, some calls, or calls by chance; several may hit one call.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

from batch_server.faults.delays import LATE
from batch_server.faults.reply_shapes import SHAPES

# The call gets no reply of the service, or one that is not the service's own.
BREAKING = ("reset", "lost_reply", "status", "hang", "garbage")
# The service's own reply arrives, but not in one piece.
SPOILING = ("truncated", "slow", "wrong_length")
NAMES = (*BREAKING, *SPOILING, *SHAPES, *LATE)


@dataclass
class Fault:
    """Something that goes wrong with a call.

    Attributes:
        name: One of `NAMES`. `lost_reply`: the service acts and the connection breaks before the
            reply; `reset`: it breaks before the service acts, in the middle of an upload;
            `status`: an error reply; `hang`: no reply for as long as the client waits;
            `garbage`: a proxy's page in place of the reply; `truncated`: the body breaks off;
            `wrong_length`: the body is shorter than announced; `slow`: the body comes in small
            pieces; `late_list`: a page of a list does not have its newest entry yet;
            `late_files`: a batch does not have its files yet; the others are shapes of
            `batch_server.faults.reply_shapes`.
        operation: `METHOD path-beginning` of the calls it is for, such as `POST /batches`.
        call: Which of those calls, from 1; None for any.
        times: How many calls it hits; None for all.
        probability: Chance of hitting a call.
        status: `status`: the HTTP status.
        code: `status`: the error's code (default: the status).
        message: `status`: the error's message.
        retry_after: `status`: the header's value, or None.
        delay: `slow`: seconds between two pieces.
    """

    name: str
    operation: str = ""
    call: int | None = None
    times: int | None = 1
    probability: float = 1.0
    status: int = 503
    code: str | None = None
    message: str = "Scripted fault."
    retry_after: str | None = None
    delay: float = 0.05
    seen: int = 0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"unknown fault '{self.name}'; the faults are {', '.join(NAMES)}")


class Faults:
    """The faults that are set, and the chance that decides.

    Args:
        seed: Of the chance.
    """

    def __init__(self, seed: int = 0) -> None:
        self._faults: list[Fault] = []
        self._hit: Counter[str] = Counter()
        self._random = random.Random(seed)  # noqa: S311
        self._lock = threading.Lock()

    def declare(self, documents: list[dict[str, Any]]) -> None:
        """Replace the faults.

        Raises:
            ValueError: A name is unknown.
            TypeError: A key is unknown.
        """
        faults = [Fault(**document) for document in documents]
        with self._lock:
            self._faults = faults

    def seed(self, seed: int) -> None:
        """Begin the chance anew."""
        with self._lock:
            self._random.seed(seed)

    def hits(self, method: str, path: str) -> list[Fault]:
        """Return the faults that hit this call: at most one that breaks it, and any others."""
        with self._lock:
            found: list[Fault] = []
            for fault in self._faults:
                if not self._is_for(fault, method, path):
                    continue
                fault.seen += 1
                if fault.call is not None and fault.seen != fault.call:
                    continue
                if fault.times == 0 or self._random.random() >= fault.probability:
                    continue
                if fault.name in BREAKING and any(f.name in BREAKING for f in found):
                    continue
                if fault.times is not None:
                    fault.times -= 1
                found.append(fault)
                self._hit[fault.name] += 1
        return found

    def account(self) -> dict[str, int]:
        """Return how many calls each fault has hit."""
        with self._lock:
            return dict(self._hit)

    @staticmethod
    def _is_for(fault: Fault, method: str, path: str) -> bool:
        wanted, _, beginning = fault.operation.partition(" ")
        return (not wanted or wanted == method) and path.startswith(beginning)
