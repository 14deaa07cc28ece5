r"""Braces that hold the name of a column and are no placeholder: they would be sent as text.

`{note!r}`, `{s.a}` or `{"Ticket Body"}` stand for a row's value in other templates; here they are
the same text for every row, and so is `{note}` in the system text and in examples.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from dbt_enrich.errors import ConfigurationError
from dbt_enrich.sql import identifier

if TYPE_CHECKING:
    from dbt_enrich.task.enrichment_task import EnrichmentTask

_BRACES = re.compile(r"\\\{|\{(?P<inner>[^{}]*)\}")
_NAME = re.compile(r"[^\W\d]\w*")
# What other templates write after a name: .field, [0], !r, :>5, |filter, =, a call, a second name.
_AFTER_NAME = re.compile(r"[.\[!:|=(?,]")
_BEFORE_NAME = "$@#%&?=:"
# A field or an item of a value.
_PART = re.compile(r"[\"'`]?\s*[.\[]")
# A quoted name with fields, indexes or a conversion. One with a colon after it is JSON's.
_QUOTED = re.compile(
    r"""(?P<quote>["'`])(?P<name>.+?)(?P=quote)\s*(\.\s*[\w"'`]+\s*|\[[^\]]*\]\s*)*(![rsa])?""",
    re.DOTALL,
)


def check_braces(task: EnrichmentTask, columns: Collection[str], *, model: str) -> None:
    """Refuse braces that hold a staged column's name in a form that is no placeholder.

    Args:
        task: What is asked; `literal_braces` names the columns whose braces are meant as text.
        columns: The staged columns.
        model: The dbt model, for messages.

    Raises:
        ConfigurationError: Some braces would be sent as text.
    """
    allowed = {name.lower() for name in task.literal_braces}
    staged = {name.lower(): name for name in columns if name.lower() not in allowed}
    for inner in _braces(task.user):
        column = _meant(inner, staged)
        if column and not _NAME.fullmatch(inner):
            raise ConfigurationError(
                f"model '{model}': enrichment.user has {{{inner}}}, which is no placeholder and "
                f"would be sent as it is for every row, though '{column}' is a column of the "
                "SELECT",
                fix=f"{_placeholder(inner, column)}, or \\{{ for a brace",
            )
    for field, text in _constants(task):
        for inner in _braces(text):
            column = _meant(inner, staged)
            if column:
                raise ConfigurationError(
                    f"model '{model}': enrichment.{field} has {{{inner}}}, but it is the same text "
                    f"for every row, so that the column '{column}' of the SELECT would not be put "
                    "in",
                    fix=f"put {{{inner}}} into enrichment.user, or write "
                    f"literal_braces: [{_yaml_name(column)}] to send the braces as they are",
                )


def _braces(text: str) -> Iterator[str]:
    r"""Yield what stands between the braces of a text, those after a backslash left out."""
    for match in _BRACES.finditer(text):
        if match["inner"] is not None:
            yield match["inner"]


def _meant(inner: str, staged: dict[str, str]) -> str | None:
    """Return the staged column that braces hold, or None."""
    return next((staged[n] for name in _names(inner) if (n := name.lower()) in staged), None)


def _names(inner: str) -> Iterator[str]:
    """Yield the names that braces may mean, the longest first.

    >>> list(_names('note!r'))
    ['note!r', 'note']
    """
    text = inner.strip()
    yield text
    quoted = _QUOTED.fullmatch(text)
    if quoted:
        yield quoted["name"]
        return
    text = text.lstrip(_BEFORE_NAME).strip()
    ends = [match.start() for match in _AFTER_NAME.finditer(text)]
    for end in (len(text), *reversed(ends)):
        yield text[:end].strip()


def _placeholder(inner: str, column: str) -> str:
    """Say how the value that braces mean is put into the message."""
    expression = re.split(r"[!|=]|:(?!:)", inner.strip())[0].strip()
    if _PART.match(expression.lstrip("\"'`")[len(column) :]):
        expression = expression.replace("`", '"')
    elif _NAME.fullmatch(column):
        return f"write {{{column}}}"
    else:
        expression = identifier(column)
    alias = re.sub(r"\W+", "_", expression.lower()).strip("_")
    alias = alias if _NAME.fullmatch(alias) else f"column_{alias}".rstrip("_")
    return f"give it a plain name in the SELECT ({expression} as {alias}) and write {{{alias}}}"


def _yaml_name(column: str) -> str:
    return column if _NAME.fullmatch(column) else f"'{column}'"


def _constants(task: EnrichmentTask) -> Iterator[tuple[str, str]]:
    """Yield the texts that are the same for every row, with where they stand."""
    yield "system", task.system or ""
    for number, example in enumerate(task.examples, start=1):
        where = f"examples number {number}"
        yield where, example.user
        for text in _texts(example.answer):
            yield where, text


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
