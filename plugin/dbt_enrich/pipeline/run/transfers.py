"""Transfers: uploads and downloads that go on while files are written and answers are loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# Few enough that each gets a good share of the line, and that a service is not flooded.
DEFAULT_TRANSFERS = 4


@dataclass
class _Transfer:
    """One call in a thread of its own, and how it ended."""

    call: Callable[[], Any]
    is_over: bool = False
    result: Any = None
    error: BaseException | None = field(default=None, repr=False)


class Transfers:
    """Calls under way, each in a thread of its own, told apart by a shard's name.

    The threads are daemons: an interrupted process does not wait for a call that hangs.

    Args:
        most: How many run at once.
    """

    def __init__(self, most: int = DEFAULT_TRANSFERS) -> None:
        self._most = most
        self._changed = threading.Condition()
        self._transfers: dict[str, _Transfer] = {}
        self._ended = 0

    @property
    def is_full(self) -> bool:
        """Whether as many run as may."""
        with self._changed:
            return sum(not t.is_over for t in self._transfers.values()) >= self._most

    @property
    def ended(self) -> int:
        """How many have ended so far."""
        with self._changed:
            return self._ended

    def is_over(self, name: str) -> bool:
        """Whether one has ended whose result was not taken."""
        with self._changed:
            return name in self._transfers and self._transfers[name].is_over

    def is_running(self, name: str) -> bool:
        """Whether one is under way."""
        with self._changed:
            return name in self._transfers and not self._transfers[name].is_over

    def start(self, name: str, call: Callable[[], Any]) -> None:
        """Start a call in a thread of its own."""
        transfer = _Transfer(call)
        with self._changed:
            self._transfers[name] = transfer
        thread = threading.Thread(
            target=self._run, args=(transfer,), name=f"transfer-{name}", daemon=True
        )
        thread.start()

    def take(self, name: str) -> Any:
        """Return what an ended call returned, and forget it.

        Raises:
            BaseException: What the call raised.
        """
        with self._changed:
            transfer = self._transfers.pop(name)
        if transfer.error is not None:
            raise transfer.error
        return transfer.result

    def wait(self, seconds: float, *, ended: int) -> None:
        """Wait until more than `ended` transfers have ended, but no longer than so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended > ended, timeout=seconds)

    def _run(self, transfer: _Transfer) -> None:
        try:
            transfer.result = transfer.call()
        except BaseException as error:  # noqa: BLE001 - raised again where it is taken
            transfer.error = error
        with self._changed:
            transfer.is_over = True
            self._ended += 1
            self._changed.notify_all()
