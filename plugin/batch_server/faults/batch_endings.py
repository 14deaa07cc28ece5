"""How batches end otherwise than by answering all of their requests, as tests declare it."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import Any

STATUSES = ("completed", "expired", "cancelled", "failed")


@dataclass
class Ending:
    """An end that a batch comes to.

    Attributes:
        status: The status in which it ends; without one, it ends as usual.
        after: `status`: how many requests are answered before it ends.
        failed: Code with which it fails as a whole while it is validated.
        only_errors: Whether every request ends in the error file, and the batch is `completed`.
        withholds: Whether its blobs are written later, when a test says so.
        stuck: Whether it stays in `validating` until it is cancelled.
        call: Which batch it is for, counted from 1 since it was declared; None for any.
        times: How many batches it is for; None for all.
        probability: Chance that a batch gets it.
    """

    status: str | None = None
    after: int = 0
    failed: str | None = None
    only_errors: bool = False
    stuck: bool = False
    withholds: bool = False
    call: int | None = None
    times: int | None = None
    probability: float = 1.0
    seen: int = 0

    def __post_init__(self) -> None:
        if self.status is not None and self.status not in STATUSES:
            raise ValueError(
                f"unknown status '{self.status}'; the statuses are {', '.join(STATUSES)}"
            )

    def document(self) -> dict[str, Any]:
        """Return what a batch's record keeps of it."""
        return {
            "status": self.status,
            "after": self.after,
            "failed": self.failed,
            "only_errors": self.only_errors,
            "stuck": self.stuck,
            "withholds": self.withholds,
        }


class Endings:
    """The endings that are declared, and the chance that decides.

    Args:
        seed: Of the chance.
    """

    def __init__(self, seed: int = 0) -> None:
        self._endings: list[Ending] = []
        self._random = random.Random(seed)  # noqa: S311
        self._lock = threading.Lock()

    def declare(self, documents: list[dict[str, Any]]) -> None:
        """Replace the endings of batches that are created from now on.

        Raises:
            ValueError: A status is unknown.
            TypeError: A key is unknown.
        """
        endings = [Ending(**document) for document in documents if document]
        with self._lock:
            self._endings = endings

    def seed(self, seed: int) -> None:
        """Begin the chance anew."""
        with self._lock:
            self._random.seed(seed)

    def choose(self) -> dict[str, Any]:
        """Return the ending of a batch that is being created; an empty one is the usual end."""
        with self._lock:
            for ending in self._endings:
                ending.seen += 1
                if ending.call is not None and ending.seen != ending.call:
                    continue
                if ending.times == 0 or self._random.random() >= ending.probability:
                    continue
                if ending.times is not None:
                    ending.times -= 1
                return ending.document()
        return {}
