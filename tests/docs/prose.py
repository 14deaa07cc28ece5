"""What pages say outside of code: sentences, names and commands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_FENCE = re.compile(
    r"^(?P<fence>`{3,})[^\n]*\n(?P<code>.*?)^(?P=fence)[ \t]*$", re.DOTALL | re.MULTILINE
)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
# What a sentence cannot go beyond: a paragraph, an item, a row of a table.
_BLOCK = re.compile(r"\n\s*\n|\n(?=[-*|] )|\n(?=\d+\. )")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
# With an underscore, so that it is no word of English; not part of a path or a call.
_NAME = re.compile(r"(?<![\w.<-])[a-z]+(?:_[a-z]+)+(?![\w.-])")
_COMMAND = re.compile(r"dbt-enrich (?P<name>[a-z]+)(?P<rest>[^\n`|&;>]*)")
_OPTION = re.compile(r"(?<!\S)--[a-z][a-z-]*")


def prose(text: str) -> str:
    """Return the text of a page without code blocks and comments."""
    return _FENCE.sub("", _COMMENT.sub("", text))


def code(text: str) -> str:
    """Return the code blocks of a page."""
    return "\n".join(match["code"] for match in _FENCE.finditer(text))


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a page, those of each cell of a table apart."""
    for block in _BLOCK.split(prose(text)):
        cells = block.split("|") if block.lstrip().startswith("|") else [block]
        for cell in cells:
            yield from (" ".join(part.split()) for part in _SENTENCE.split(cell))


def names(text: str) -> Iterator[str]:
    """Yield the names with an underscore that a page has in code spans."""
    for span in _SPAN.findall(prose(text)):
        yield from _NAME.findall(span)


def wrong_commands(text: str, commands: Mapping[str, click.Command]) -> Iterator[str]:
    """Yield the commands and options that a page names and that are not there.

    Args:
        text: The page.
        commands: The commands of `dbt-enrich`, those of groups by both names.
    """
    spans = "\n".join(_SPAN.findall(prose(text)))
    for match in _COMMAND.finditer(f"{spans}\n{code(text)}"):
        inner = " ".join(match[0].split()[1:3])
        name = inner if inner in commands else match["name"]
        command = commands.get(name)
        if command is None:
            yield name
            continue
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        known |= {option for parameter in command.params for option in parameter.secondary_opts}
        for option in _OPTION.findall(match["rest"]):
            if option not in known:
                yield f"{name} {option}"


def words(*folders: Path) -> set[str]:
    """Return all words of the code, the macros and the data of some folders."""
    found: set[str] = set()
    for folder in folders:
        for path in folder.rglob("*"):
            if path.suffix in {".py", ".sql", ".yml", ".json", ".csv"}:
                found |= {*re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    return found
