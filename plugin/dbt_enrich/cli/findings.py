"""One line of `dbt-enrich doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        subject: What was looked at.
        verdict: Whether it is as it should be.
        found: What it is.
        mend: What to do about it; empty where nothing is to be done.
    """

    subject: str
    verdict: Verdict
    found: str
    mend: str = ""


def of_error(subject: str, error: Exception) -> Finding:
    """Return the finding that an error of ours makes: its text ends with the mend."""
    mark = "; " if "; " in str(error) else ": "
    found, _, mend = str(error).rpartition(mark)
    return Finding(subject, "wrong", found or str(error), mend)
