"""One line of `dbt-enrich doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dbt_enrich.errors import EnrichmentError

Verdict = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        subject: What was looked at.
        verdict: Whether it is as it should be.
        found: What it is.
        fix: What to do about it; empty where nothing is to be done.
    """

    subject: str
    verdict: Verdict
    found: str
    fix: str = ""


def of_error(subject: str, error: EnrichmentError) -> Finding:
    """Return the finding that an error of ours makes."""
    return Finding(subject, "wrong", error.problem, error.fix)
