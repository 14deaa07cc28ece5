"""Waiting for another thread, process or server, which no clock can hurry."""

from __future__ import annotations

import time
from collections.abc import Callable

_LOOK_SECONDS = 0.02


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Look until a condition holds; fail where it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(_LOOK_SECONDS)
