"""The credential that a relay asks with: handed over while it runs, held in memory alone."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from typing import Final

_REMEMBERED: Final = 8
_LOOK_SECONDS: Final = 0.05
# So many in a row, and it is the identity that is refused, not its token.
_MOST_REFUSED: Final = 2


class Credentials:
    """A header that opens the service, as its users hand it over, and over again as it expires.

    May be used from several threads. No repr shows it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._header = ("", "")
        self._is_refused = False
        self._refusals = 0
        self._renewable = False
        self._known: deque[str] = deque(maxlen=_REMEMBERED)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def hand_over(self, header: str, value: str, *, renewable: bool) -> bool:
        """Take a credential; say whether the service has refused it.

        Args:
            header: The header's name.
            value: The header's value.
            renewable: Whether another one comes in place of one that is refused.
        """
        with self._lock:
            if (header, value) != self._header:
                self._header = (header, value)
                self._is_refused = False
                self._known.append(value)
            self._renewable = renewable
            return self._is_refused

    async def wait(self, seconds: float) -> tuple[str, str] | None:
        """Return the credential; where it is missing or refused, wait a while for another one.

        Returns:
            The header's name and value, or None where no other one came.
        """
        deadline = time.monotonic() + seconds
        while True:
            with self._lock:
                if self._header[0] and not self._is_refused:
                    return self._header
            if time.monotonic() >= deadline:
                return None
            await asyncio.sleep(_LOOK_SECONDS)

    def accept(self) -> None:
        """Note that the service took a credential."""
        with self._lock:
            self._refusals = 0

    def refuse(self, header: tuple[str, str]) -> bool:
        """Note that the service refused a credential; say whether another one may help.

        Args:
            header: What a request was sent with; of several at once the first one counts.
        """
        with self._lock:
            if header == self._header and not self._is_refused:
                self._refusals += 1
                self._is_refused = self._renewable
            return self._renewable and self._refusals < _MOST_REFUSED

    def masked(self, text: str) -> str:
        """Return a text without the credentials that were handed over."""
        with self._lock:
            known = list(self._known)
        for value in known:
            secret = value.removeprefix("Bearer ")
            for form in (secret, json.dumps(secret)[1:-1]):
                text = text.replace(form, "***") if form else text
        return text
