"""What an error says: what is wrong as one phrase, and what to do as another."""

from __future__ import annotations

import re
from typing import Final

# How the fixes begin; a new one that says what to do is added here.
_BEGINNINGS: Final = frozenset(
    """
    add ask check chmod choose copy correct delete deploy give go install leave look lower
    make move name pip put raise remove repair restore run see set start take try upgrade use
    wait write
    """.split()  # noqa: SIM905
)
_QUALIFIED: Final = re.compile(r"(did you mean '[^']+'\?|(for|on|if) [^,]+, )")
_PAIRS: Final = ("()", "[]", "{}")
_QUOTES: Final = ("`", '"')


def assert_two_phrases(problem: str, fix: str) -> None:
    """Assert that neither phrase was cut out of the other, and that the fix says what to do.

    Args:
        problem: What is wrong.
        fix: What to do.
    """
    for phrase in [problem, fix]:
        assert phrase
        assert phrase == phrase.strip(" ;:,.")
        for pair in _PAIRS:
            assert phrase.count(pair[0]) == phrase.count(pair[1]), phrase
        for quote in _QUOTES:
            assert phrase.count(quote) % 2 == 0, phrase
    text = _QUALIFIED.match(fix)
    if text and fix.startswith("did you mean"):
        return
    first = re.match(r"[a-z]+", fix[text.end() :] if text else fix)
    assert first, fix
    assert first[0] in _BEGINNINGS, fix
