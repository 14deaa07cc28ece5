"""Words for the user: unknown names and their near matches, wrong values, counted nouns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from dbt_enrich.errors import WrongValueError

if TYPE_CHECKING:
    from pydantic import ValidationError

# What pydantic says of them is about Python, not about YAML.
_WRONG_TYPES = {
    "missing": ("is missing", "add it"),
    "string_type": ("must be a text", "put it in quotes"),
    "tuple_type": ("must be a list", "write it as [one, other]"),
    "list_type": ("must be a list", "write it as [one, other]"),
    "dict_type": ("must have keys and values", "write it as {key: value}"),
    "model_type": ("must have keys and values", "write it as {key: value}"),
    "bool_parsing": ("must be true or false", ""),
    "bool_type": ("must be true or false", ""),
    "int_parsing": ("must be a whole number", ""),
    "int_type": ("must be a whole number", ""),
    "int_from_float": ("must be a whole number", ""),
    "float_parsing": ("must be a number", ""),
    "float_type": ("must be a number", ""),
    "dataclass_type": ("must have keys and values", "write it as {key: value}"),
}
# Of a model and of a dataclass.
_UNKNOWN_KEYS = ("extra_forbidden", "unexpected_keyword_argument")


@dataclass(frozen=True)
class Problem:
    """What is wrong with a key or a value.

    Attributes:
        text: What is wrong, as a phrase.
        fix: What to do about it; empty where the text says it.
        path: The key, below others by dots; empty for the whole.
    """

    text: str
    fix: str = ""
    path: str = ""


def near_match(name: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` for the closest of `known`, or an empty text."""
    matches = get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f"did you mean '{matches[0]}'?" if matches else ""


def unknown_key(given: Iterable[str], known: Iterable[str]) -> Problem | None:
    """Return what is wrong with the first unknown key of `given`, or None if all are known.

    >>> unknown_key(['systm'], ['system', 'user'])
    Problem(text="unknown key 'systm'", fix="did you mean 'system'?", path='')
    """
    allowed = sorted(known)
    for key in given:
        if key not in allowed:
            fix = near_match(str(key), allowed) or f"use one of the keys {', '.join(allowed)}"
            return Problem(f"unknown key '{key}'", fix)
    return None


def first_problem(error: ValidationError, *, is_secret: bool = False) -> Problem:
    """Return the first wrong key or value, and what is wrong with it.

    An unknown key comes first: what is missing may be what was meant.

    Args:
        error: What pydantic found.
        is_secret: Whether values must not be shown.
    """
    problems = error.errors()
    problem = next((one for one in problems if one["type"] in _UNKNOWN_KEYS), problems[0])
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] in _UNKNOWN_KEYS:
        missing = [str(one["loc"][-1]) for one in problems if one["type"] == "missing"]
        return Problem("is an unknown key", near_match(str(problem["loc"][-1]), missing), path)
    raised = problem.get("ctx", {}).get("error")
    if isinstance(raised, WrongValueError):
        text, fix = raised.problem, raised.fix
    else:
        text, fix = _WRONG_TYPES.get(problem["type"], (problem["msg"], ""))
        text = text.removeprefix("Value error, ")
    given = problem.get("input")
    if problem["type"] == "string_type" and isinstance(given, (list, dict)):
        # Quotes around it would make its YAML the text.
        kind = "a list" if isinstance(given, list) else "a mapping"
        text, fix = f"must be one text, not {kind}", "write one text, such as '{title}: {body}'"
    if not is_secret and isinstance(given, (str, int, float, bool)):
        text = f"{text} (it is {given!r})"
    return Problem(text, fix, path)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as `1 row` and `18,210 rows`.

    Args:
        number: How many there are.
        noun: What they are, one of them.
        plural: Several of them; the noun with an s by default.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def columns_text(columns: Iterable[str]) -> str:
    """List the columns of a SELECT, without those that are staged beside them.

    >>> columns_text(["id", "note", "enrichment_row"])
    'columns: id, note'
    """
    own = (name for name in columns if not name.lower().startswith("enrichment_"))
    return f"columns: {', '.join(own)}"
