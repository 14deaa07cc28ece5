"""What a JSON parser lets through although it is no plain data.

A lone surrogate (half of a pair of UTF-16 units) is no text: it has no UTF-8, so that it can be
neither stored nor written again. NaN, Infinity and 1e400 are no numbers of JSON. Deep nesting
ends every recursive reader.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

MAX_DEPTH = 100
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Oddity:
    """Something that is no plain data.

    Attributes:
        path: Where it is: keys and places, from the outside.
        problem: What is wrong with it, as the rest of a sentence.
    """

    path: Path
    problem: str


NO_TEXT = "the text holds a lone surrogate, which is no Unicode character"
_NO_NUMBER = "the number is not finite, which JSON does not have"
_TOO_DEEP = f"it is nested deeper than {MAX_DEPTH} levels"


def odd_part(document: Any) -> Oddity | None:
    """Return the first thing in parsed JSON that is no plain data, or None.

    Looks level by level, without recursion.
    """
    if not _may_be_odd(document):
        return None
    level: list[tuple[Path, Any]] = [((), document)]
    for _ in range(MAX_DEPTH):
        below: list[tuple[Path, Any]] = []
        for path, value in level:
            problem = _problem(value)
            if problem:
                return Oddity(path, problem)
            below += [((*path, key), child) for key, child in _children(value)]
        level = below
    return Oddity(level[0][0][:2], _TOO_DEEP) if level else None


def is_text(value: str) -> bool:
    """Whether a text is Unicode: one without lone surrogates."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def readable(value: str) -> str:
    """Return a text with question marks for its lone surrogates."""
    return value.encode("utf-8", "replace").decode()


def _may_be_odd(document: Any) -> bool:
    """Whether a document is to be looked at closely; of nearly all, its JSON says that it is not.

    Written by pydantic, which takes a fifth of the time that looking takes.
    """
    try:
        text = to_json(document)
    except (ValueError, RecursionError):
        return True
    is_deep = text.count(b"[") + text.count(b"{") > MAX_DEPTH
    return is_deep or b"NaN" in text or b"Infinity" in text


def _problem(value: Any) -> str | None:
    if isinstance(value, str):
        return None if is_text(value) else NO_TEXT
    if isinstance(value, float):
        return None if math.isfinite(value) else _NO_NUMBER
    if isinstance(value, dict) and not all(map(is_text, value)):
        return NO_TEXT.replace("the text", "a key")
    return None


def _children(value: Any) -> list[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list) else []
