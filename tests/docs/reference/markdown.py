"""Markdown of a page of the reference."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
_HEAD = "<!-- `make reference` writes this page. -->\n"


def attributes(documented: type) -> dict[str, str]:
    """Return what the docstrings of a class and its bases say of its attributes.

    Args:
        documented: A class whose docstring has Google's section `Attributes`.
    """
    found: dict[str, str] = {}
    for kind in reversed(documented.__mro__):
        _, _, section = (inspect.getdoc(kind) or "").partition("Attributes:\n")
        section = re.split(r"\n(?=\S)", section)[0]
        for name, text in re.findall(
            r"^    ([A-Za-z]\w*): (.*(?:\n     +.*)*)", section, re.MULTILINE
        ):
            found[name] = " ".join(text.split())
    return found


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Write a table of cells."""
    lines = [[*head], ["---"] * len([*head]), *([*row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def page(title: str, text: str, *parts: str) -> str:
    """Write a page: its title, what it is about, and its parts."""
    return "\n".join([f"# {title}\n", _HEAD, text + "\n", *parts])
