"""Unknown names, their near matches, and wrong values, said in one way everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

# What pydantic says of them is about Python, not about YAML.
_WRONG_TYPES = {
    "missing": "is missing; add it",
    "string_type": "must be a text; put it in quotes",
    "tuple_type": "must be a list, such as [one, other]",
    "list_type": "must be a list, such as [one, other]",
    "dict_type": "must have keys and values",
    "model_type": "must have keys and values",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
}


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


def first_problem(error: ValidationError, *, is_secret: bool = False) -> tuple[str, str]:
    """Return the path of the first wrong key or value, and a phrase that says what is wrong.

    An unknown key comes first: what is missing may be what was meant.

    Args:
        error: What pydantic found.
        is_secret: Whether values must not be shown.
    """
    problems = error.errors()
    problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        missing = [str(one["loc"][-1]) for one in problems if one["type"] == "missing"]
        return path, f"is an unknown key{near_match(str(problem['loc'][-1]), missing)}"
    phrase = _WRONG_TYPES.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    given = problem.get("input")
    if is_secret or not isinstance(given, (str, int, float, bool)):
        return path, phrase
    return path, f"{phrase} (it is {given!r})"
