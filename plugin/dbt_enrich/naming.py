"""Unknown names and their near matches, said in one way everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def near_match(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the closest of `known`, or an empty text."""
    matches = get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def unknown_keys(given: Iterable[str], known: Iterable[str]) -> str | None:
    """Return a phrase that names the first unknown key of `given`, or None if all are known.

    >>> unknown_keys(['systm'], ['system', 'user'])
    "unknown key 'systm'; did you mean 'system'?"
    """
    allowed = sorted(known)
    for key in given:
        if key not in allowed:
            hint = near_match(str(key), allowed) or f"; the keys are {', '.join(allowed)}"
            return f"unknown key '{key}'{hint}"
    return None
