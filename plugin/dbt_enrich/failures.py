"""The names of failures, and for each the rule that says whether and how it is asked again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class FailureKind(StrEnum):
    """Why a row has no answer. `done` is not among them: it is a status."""

    EXPIRED = "expired"
    CANCELLED = "cancelled"
    CONTENT_FILTER = "content_filter"
    REFUSAL = "refusal"
    TRUNCATED = "truncated"
    INVALID_JSON = "invalid_json"
    SCHEMA_MISMATCH = "schema_mismatch"
    MISSING = "missing"
    PROVIDER_ERROR = "provider_error"
    PACK_FAILED = "pack_failed"


@dataclass(frozen=True)
class FailureRule:
    """What is done with a row that failed in one way.

    Attributes:
        ask_again: Whether the row is sent again, up to `max_attempts` in all.
        repair: Whether the second attempt carries the answer and the validator's message;
            later attempts ask as the first did.
        larger_limit: Whether the task's token limit is doubled with each attempt.
    """

    ask_again: bool
    repair: bool = False
    larger_limit: bool = False


RULES: dict[FailureKind, FailureRule] = {
    FailureKind.EXPIRED: FailureRule(ask_again=True),
    FailureKind.CANCELLED: FailureRule(ask_again=True),
    FailureKind.CONTENT_FILTER: FailureRule(ask_again=False),
    FailureKind.REFUSAL: FailureRule(ask_again=False),
    FailureKind.TRUNCATED: FailureRule(ask_again=True, larger_limit=True),
    FailureKind.INVALID_JSON: FailureRule(ask_again=True, repair=True),
    FailureKind.SCHEMA_MISMATCH: FailureRule(ask_again=True, repair=True),
    FailureKind.MISSING: FailureRule(ask_again=True),
    FailureKind.PROVIDER_ERROR: FailureRule(ask_again=True),
    # Whatever was wrong with one row of it: each is asked again alone.
    FailureKind.PACK_FAILED: FailureRule(ask_again=True),
}


def ask_again_sql(kind: str, status_code: str, *, has_limit: bool, also: Iterable[str] = ()) -> str:
    """Build the SQL condition under which a failed row may be sent again.

    A request that the service refused for what it holds (a 4xx other than 408, 409 and 429)
    would be refused again, and an answer that was cut off where the task sets no token limit has
    reached the model's own.

    Args:
        kind: SQL expression of the failure's kind.
        status_code: SQL expression of the request's own HTTP status, or NULL.
        has_limit: Whether the task sets a token limit, which can be enlarged.
        also: Kinds that are asked again although their rule says otherwise.
    """
    told = {FailureKind(name) for name in also}
    kinds = ", ".join(
        f"'{name}'"
        for name, rule in RULES.items()
        if (rule.ask_again or name in told) and (has_limit or not rule.larger_limit)
    )
    return (
        f"({kind} in ({kinds}) and not coalesce({kind} = 'provider_error' "
        f"and {status_code} between 400 and 499 and {status_code} not in (408, 409, 429), false))"
    )


def repaired_kinds() -> str:
    """Return the quoted kinds whose second attempt carries what was wrong, for an SQL `in` list."""
    return ", ".join(f"'{name}'" for name, rule in RULES.items() if rule.repair)
