"""A task's version, as tables, files and messages show it."""

from __future__ import annotations

from typing import Final

VERSION_DIGITS: Final = 8
"""How many digits of a task's key name its version."""


def short_version(task_key: str) -> str:
    """Return the first digits of a task's key, which name its version to people.

    >>> short_version("0123456789abcdef0123456789abcdef")
    '01234567'
    """
    return task_key[:VERSION_DIGITS]
