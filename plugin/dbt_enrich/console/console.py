"""The one voice to the user: lines, warnings, and in a terminal a live line below them."""

from __future__ import annotations

from collections.abc import Callable

from dbt_enrich.clock import MACHINE_CLOCK, Clock
from dbt_enrich.console.live_lines import Terminal


class Console:
    """What a user reads. May be used from several threads.

    Args:
        log: Takes a line.
        warn: Takes a warning; by default as any other line.
        clock: The time.
        name: What each line begins with, such as a dbt model's name; empty for nothing.
        terminal: Where a live line is drawn, or None where there is none.

    Attributes:
        said_at: When the last line was said, on the monotonic clock.
    """

    def __init__(
        self,
        log: Callable[[str], None],
        warn: Callable[[str], None] | None = None,
        *,
        clock: Clock = MACHINE_CLOCK,
        name: str = "",
        terminal: Terminal | None = None,
    ) -> None:
        self.clock = clock
        self.said_at = clock.monotonic()
        self._log = log
        self._warn = warn or log
        self._name = name
        self._terminal = terminal

    def of(self, name: str, terminal: Terminal | None = None) -> Console:
        """Return the voice of one model, whose lines begin with its name."""
        return Console(self._log, self._warn, clock=self.clock, name=name, terminal=terminal)

    @property
    def is_live(self) -> bool:
        """Whether there is a live line, which takes the place of lines on how far all is."""
        return self._terminal is not None

    def say(self, text: str) -> None:
        """Write one line."""
        self.said_at = self.clock.monotonic()
        self._log(self._named(text))

    def warn(self, text: str) -> None:
        """Write one warning."""
        self._warn(self._named(text))

    def show(self, text: str) -> None:
        """Set the live line, if there is one."""
        if self._terminal is not None:
            self._terminal.show(self._name, self._named(text))

    def close(self) -> None:
        """Take the live line away."""
        if self._terminal is not None:
            self._terminal.remove(self._name)

    def _named(self, text: str) -> str:
        return f"{self._name}: {text}" if self._name else text
