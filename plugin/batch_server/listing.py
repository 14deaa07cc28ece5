"""Lists as the service gives them: in pages, in an order and, on Azure's dated API, by a filter."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from batch_server.errors import invalid
from batch_server.refusals import quoted
from batch_server.wire import page

Document = dict[str, Any]
_Test = Callable[[Document], bool]
_TOKENS = re.compile(r"\s*(?:('(?:[^']|'')*')|(-?\d+(?:\.\d+)?)|([A-Za-z_]\w*)|([()]))")
_ORDER = re.compile(r"\s*(\w+)(?:\s+(asc|desc))?\s*", re.IGNORECASE)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: bool(a == b),
    "ne": lambda a, b: bool(a != b),
    "gt": lambda a, b: bool(a > b),
    "ge": lambda a, b: bool(a >= b),
    "lt": lambda a, b: bool(a < b),
    "le": lambda a, b: bool(a <= b),
}
_LONGEST_FILTER = 2_000
_DEEPEST_FILTER = 20
# More digits than any time or count has; what is longer may be no number at all.
_MOST_DIGITS = 30
_NUMBERS = ("created_at",)
_FIELDS = ("created_at", "status", "id", "endpoint", "input_file_id", "completion_window")


def paged(
    documents: list[Document], query: Mapping[str, str], *, usual: int, most: int
) -> Document:
    """Return the page that `after` and `limit` ask for.

    Args:
        documents: All that is listed, in order.
        query: The call's parameters.
        usual: The limit where none is given.
        most: The largest limit.
    """
    limit = _limit(query.get("limit"), usual, most)
    after = query.get("after")
    if after:
        place = next((i for i, document in enumerate(documents) if document["id"] == after), None)
        if place is None:
            raise invalid(f"'after' names {quoted(after)}, which is not in the list.", "after")
        documents = documents[place + 1 :]
    return page(documents[:limit], has_more=len(documents) > limit)


def in_order(documents: list[Document], query: Mapping[str, str]) -> list[Document]:
    """Return documents that come newest first in the order that `order` asks for."""
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise invalid(f"'order' is {quoted(order)}, not asc or desc.", "order")
    return documents[::-1] if order == "asc" else documents


def filtered(documents: list[Document], query: Mapping[str, str]) -> list[Document]:
    """Apply Azure's `$filter` and `$orderby`, as far as the dated API documents them."""
    expression = query.get("$filter")
    if expression:
        test = _Filter(expression).parse()
        documents = [document for document in documents if test(document)]
    orderby = query.get("$orderby")
    if not orderby:
        return documents
    found = _ORDER.fullmatch(orderby)
    if not found or found[1] not in _FIELDS:
        raise invalid(f"'$orderby' is {quoted(orderby)}, not a field with asc or desc.", "$orderby")
    backwards = (found[2] or "asc").lower() == "desc"
    return sorted(documents, key=lambda d: _comparable(d.get(found[1])), reverse=backwards)


def _limit(value: str | None, usual: int, most: int) -> int:
    if value is None:
        return usual
    if not value.isascii() or not value.isdigit() or not 1 <= int(value[:9]) <= most:
        raise invalid(f"'limit' is {quoted(value)}, not a whole number from 1 to {most}.", "limit")
    return int(value)


def _comparable(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value or 0


class _Filter:
    """A parser of `created_at gt 1728860560 and status eq 'Completed'`."""

    def __init__(self, expression: str) -> None:
        if len(expression) > _LONGEST_FILTER:
            raise invalid(
                f"'$filter' has {len(expression)} characters; the most are {_LONGEST_FILTER}.",
                "$filter",
            )
        self._expression = expression
        self._tokens = self._split()
        self._place = 0
        self._depth = 0

    def parse(self) -> _Test:
        test = self._any()
        if self._peek() is not None:
            raise self._wrong()
        return test

    def _split(self) -> list[str]:
        tokens, place = [], 0
        text = self._expression.rstrip()
        while place < len(text):
            found = _TOKENS.match(text, place)
            if not found:
                raise self._wrong()
            tokens.append(found[0].strip())
            place = found.end()
        return tokens

    def _any(self) -> _Test:
        tests = [self._all()]
        while self._takes("or"):
            tests.append(self._all())
        return lambda document: any(test(document) for test in tests)

    def _all(self) -> _Test:
        tests = [self._one()]
        while self._takes("and"):
            tests.append(self._one())
        return lambda document: all(test(document) for test in tests)

    def _one(self) -> _Test:
        if self._takes("not"):
            test = self._deeper(self._one)
            return lambda document: not test(document)
        if self._takes("("):
            test = self._deeper(self._any)
            if not self._takes(")"):
                raise self._wrong()
            return test
        return self._comparison()

    def _deeper(self, parse: Callable[[], _Test]) -> _Test:
        self._depth += 1
        if self._depth > _DEEPEST_FILTER:
            raise invalid(f"'$filter' is nested deeper than {_DEEPEST_FILTER} levels.", "$filter")
        test = parse()
        self._depth -= 1
        return test

    def _comparison(self) -> _Test:
        name, operator, literal = self._next(), self._next().lower(), self._next()
        compare = _COMPARE.get(operator)
        if name not in _FIELDS or compare is None:
            raise self._wrong()
        wanted = self._value(literal)
        if isinstance(wanted, int) is not (name in _NUMBERS):
            raise self._wrong()

        def test(document: Document) -> bool:
            value = _comparable(document.get(name))
            return type(value) is type(wanted) and compare(value, wanted)

        return test

    def _value(self, literal: str) -> str | int:
        if literal.startswith("'"):
            return literal[1:-1].replace("''", "'").lower()
        if len(literal) > _MOST_DIGITS:
            raise self._wrong()
        try:
            return int(float(literal))
        except ValueError:
            raise self._wrong() from None

    def _peek(self) -> str | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def _next(self) -> str:
        token = self._peek()
        if token is None:
            raise self._wrong()
        self._place += 1
        return token

    def _takes(self, word: str) -> bool:
        token = self._peek()
        if token is None or token.lower() != word:
            return False
        self._place += 1
        return True

    def _wrong(self) -> Exception:
        return invalid(
            f"'$filter' is {quoted(self._expression)}, which is not understood; compare "
            f"{', '.join(_FIELDS)} by eq, ne, gt, ge, lt, le, and join with and, or, not.",
            "$filter",
        )
