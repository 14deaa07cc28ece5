"""The names of failures, and for each the rule that says whether and how it is asked again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

# Statuses below 500 that say nothing of the request itself.
TRANSIENT_STATUSES = (408, 409, 429)


class FailureKind(StrEnum):
    """Why a row has no answer. `done` is not among them: it is a status.

    Attributes:
        EXPIRED: The batch ended at its completion window before the row was answered. Not paid for.
        CANCELLED: The batch was cancelled before the row was answered.
        CONTENT_FILTER: The service's content filter declined the prompt or cut the answer.
        REFUSAL: The model declined to answer.
        TRUNCATED: The answer was cut at the token limit, the task's own or the model's.
        INVALID_JSON: The answer is no JSON object.
        SCHEMA_MISMATCH: The answer is JSON and does not fit the columns: a value of another type,
            a value that is missing, or one that a rule of the column forbids.
        MISSING: The batch ended and its files have no line for the row.
        PROVIDER_ERROR: The service refused or failed the request. `enrichment_error` has the
            status and the service's own message.
        PACK_FAILED: The request that held the row with others was declined or no JSON, or its
            answer broke off before the row was whole.
        FILE_LOST: The service no longer has the batch or a file of it. Its answers may have been
            paid for and cannot be read.
    """

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
    FILE_LOST = "file_lost"


@dataclass(frozen=True)
class FailureRule:
    """What is done with a row that failed in one way.

    Attributes:
        ask_again: Whether the row is sent again, up to `max_attempts` in all.
        repair: Whether the second attempt carries the answer and the validator's message;
            later attempts ask as the first did.
        larger_limit: Whether the task's token limit is doubled with each attempt.
        next_run: Whether it is sent again by the next run only, as it was paid for already.
    """

    ask_again: bool
    repair: bool = False
    larger_limit: bool = False
    next_run: bool = False


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
    FailureKind.FILE_LOST: FailureRule(ask_again=True, next_run=True),
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
    given = {FailureKind(name) for name in also}
    kinds = ", ".join(
        f"'{name}'"
        for name, rule in RULES.items()
        if (rule.ask_again or name in given) and (has_limit or not rule.larger_limit)
    )
    return (
        f"({kind} in ({kinds}) and not coalesce({kind} = 'provider_error' "
        f"and {status_code} between 400 and 499 "
        f"and {status_code} not in ({', '.join(map(str, TRANSIENT_STATUSES))}), false))"
    )


def outage_sql(kind: str, status_code: str) -> str:
    """Build the SQL condition under which a row failed for want of the service, unpaid.

    Such a failure says nothing of the row, so that no number of attempts makes it final.

    Args:
        kind: SQL expression of the failure's kind.
        status_code: SQL expression of the request's own HTTP status, or NULL.
    """
    transient = f"{status_code} in ({', '.join(map(str, TRANSIENT_STATUSES))})"
    return (
        f"({kind} = '{FailureKind.EXPIRED}' or ({kind} = '{FailureKind.PROVIDER_ERROR}' "
        f"and coalesce({transient} or {status_code} >= 500, false)))"
    )


def waiting_sql(kind: str, received_at: str, began: str) -> str:
    """Build the SQL condition under which a failed row is left to the next run.

    Args:
        kind: SQL expression of the failure's kind.
        received_at: SQL expression of when it failed.
        began: SQL expression of when this run began.
    """
    kinds = ", ".join(f"'{name}'" for name, rule in RULES.items() if rule.next_run)
    return f"({kind} in ({kinds}) and {received_at} >= {began})"


def repaired_kinds() -> str:
    """Return the quoted kinds whose second attempt carries what was wrong, for an SQL `in` list."""
    return ", ".join(f"'{name}'" for name, rule in RULES.items() if rule.repair)


def retry_command(model: str, kinds: Iterable[str]) -> str:
    """Return the command that has a model's failures of some kinds asked once more."""
    named = "".join(f" --kind {kind}" for kind in kinds)
    return f"dbt-enrich retry --select {model}{named}"


def final_sentence(model: str, kinds: Mapping[str, int]) -> str:
    """Say which rows failed for good, and what has them asked again; empty where none did."""
    if not kinds:
        return ""
    rows = sum(kinds.values())
    they_are = "it is" if rows == 1 else "they are"
    return (
        f"{rows:,} failed for good: {they_are} asked again once the deployment, endpoint, API "
        f"version or token limit has changed, or by `{retry_command(model, kinds)}`"
    )
