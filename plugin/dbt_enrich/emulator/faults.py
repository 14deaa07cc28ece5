"""Faults of the connection, by name: what a client must survive, at an exact call or by chance."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import Any

NAMES = ("lost_reply", "reset", "status", "truncated", "slow", "wrong_length")


@dataclass
class Fault:
    """Something that goes wrong with a call.

    Attributes:
        name: One of `NAMES`. `lost_reply`: the service acts and the connection breaks before the
            reply; `reset`: it breaks before the service acts; `status`: an error reply;
            `truncated`: the body breaks off; `wrong_length`: the body is shorter than announced;
            `slow`: the body comes in small pieces.
        operation: `METHOD path-beginning` of the calls it is for, such as `POST /batches`.
        call: Which of those calls, from 1; None for any.
        times: How many calls it hits; None for all.
        probability: Chance of hitting a call.
        status: `status`: the HTTP status.
        retry_after: `status`: the header's value, or None.
        delay: `slow`: seconds between two pieces.
    """

    name: str
    operation: str = ""
    call: int | None = None
    times: int | None = 1
    probability: float = 1.0
    status: int = 503
    retry_after: str | None = None
    delay: float = 0.05
    seen: int = 0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"unknown fault '{self.name}'; the faults are {', '.join(NAMES)}")


class Faults:
    """The faults that are set, and the chance that decides."""

    def __init__(self, seed: int = 0) -> None:
        self._faults: list[Fault] = []
        self._random = random.Random(seed)  # noqa: S311
        self._lock = threading.Lock()

    def add(self, document: dict[str, Any]) -> None:
        """Set a fault.

        Raises:
            ValueError: Its name is unknown.
            TypeError: A key of it is unknown.
        """
        with self._lock:
            self._faults.append(Fault(**document))

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()

    def hit(self, method: str, path: str) -> Fault | None:
        """Return the fault that hits this call, if one does."""
        with self._lock:
            for fault in self._faults:
                if not self._is_for(fault, method, path):
                    continue
                fault.seen += 1
                if fault.call is not None and fault.seen != fault.call:
                    continue
                if fault.times == 0 or self._random.random() >= fault.probability:
                    continue
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    @staticmethod
    def _is_for(fault: Fault, method: str, path: str) -> bool:
        wanted, _, beginning = fault.operation.partition(" ")
        return (not wanted or wanted == method) and path.startswith(beginning)
