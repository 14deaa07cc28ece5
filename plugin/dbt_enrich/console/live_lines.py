"""Terminal: lines that are rewritten in place, below what dbt prints.

dbt writes its own lines to standard output; ours stand on standard error, under them. Whatever is
written to standard output meanwhile first takes our lines away and puts them back afterwards, so
that dbt's output stays as it is.
"""

from __future__ import annotations

import shutil
import sys
import threading
from typing import Any, TextIO

from dbt_enrich.environment import live_lines_wanted

_ERASE_LINE = "\r\x1b[K"
_UP = "\x1b[1A"
_lock = threading.RLock()
_terminal: Terminal | None = None


class Terminal:
    """The live lines of this process's terminal, by name.

    Args:
        output: Where dbt writes.
        live: Where the lines are drawn.
    """

    def __init__(self, output: TextIO, live: TextIO) -> None:
        self._output = output
        self._live = live
        self._lines: dict[str, str] = {}
        self._drawn = 0
        self._write: Any = None

    def show(self, name: str, text: str) -> None:
        """Set the line of a name."""
        with _lock:
            if self._lines.get(name) == text:
                return
            self._erase()
            self._lines[name] = text
            self._watch()
            self._draw()

    def remove(self, name: str) -> None:
        """Take the line of a name away."""
        with _lock:
            self._erase()
            self._lines.pop(name, None)
            self._draw()
            if not self._lines:
                self._unwatch()

    def _watch(self) -> None:
        if self._write is not None:
            return
        self._write = self._output.write

        def write(text: str) -> int:
            with _lock:
                self._erase()
                written = int(self._write(text))
                if text.endswith("\n"):
                    self._draw()
                return written

        self._output.write = write  # type: ignore[method-assign]

    def _unwatch(self) -> None:
        if self._write is not None:
            del self._output.write
            self._write = None

    def _erase(self) -> None:
        if self._drawn:
            self._live.write(_ERASE_LINE + (_UP + _ERASE_LINE) * (self._drawn - 1))
            self._live.flush()
            self._drawn = 0

    def _draw(self) -> None:
        if not self._lines:
            return
        self._output.flush()
        width = shutil.get_terminal_size().columns - 1
        self._live.write("\n".join(text[:width] for text in self._lines.values()))
        self._live.flush()
        self._drawn = len(self._lines)


def live_terminal() -> Terminal | None:
    """Return this process's terminal, or None where there is none to draw on."""
    global _terminal
    with _lock:
        if _terminal is None and _is_terminal():
            _terminal = Terminal(sys.stdout, sys.stderr)
        return _terminal


def _is_terminal() -> bool:
    return live_lines_wanted() and sys.stdout.isatty() and sys.stderr.isatty()
