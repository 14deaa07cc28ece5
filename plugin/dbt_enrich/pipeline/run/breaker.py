"""Breaker: whether so many answers failed in the same way that the rest would be paid in vain.

Pure: counts of answers in, a decision and its words out. `stops` counts them and keeps the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dbt_enrich.errors import StoppedError
from dbt_enrich.task.failures import TRANSIENT_STATUSES, FailureKind, retry_command

# So many answers say something of those to come.
LEAST_ANSWERS = 20
# The batch brought no answer, which says nothing of the request.
UNANSWERED = (
    FailureKind.EXPIRED,
    FailureKind.CANCELLED,
    FailureKind.MISSING,
    FailureKind.FILE_LOST,
)
# What is answered with a status of 400 to 499 and one of these says nothing more than the status.
_VAGUE_CODES = ("invalid_request_error", "invalidrequest", "badrequest", "bad_request")
_EXAMPLE_CHARACTERS = 200
_FIXES = {
    FailureKind.REFUSAL: "change system and user, or ask another model",
    FailureKind.CONTENT_FILTER: (
        "change the deployment's content filter, or leave the rows that it stops out of the SELECT"
    ),
    FailureKind.TRUNCATED: "raise the token limit in enrichment.parameters",
    FailureKind.INVALID_JSON: (
        "ask a model that has structured output, or say in enrichment.system what to answer"
    ),
    FailureKind.SCHEMA_MISMATCH: (
        "change the columns' types, rules or descriptions, so that what the model answers fits"
    ),
    FailureKind.PACK_FAILED: "lower rows_per_request or tokens_per_request",
}
_ACCESS = (401, 403, 404, 424)


@dataclass(frozen=True)
class Tolerance:
    """How many failures alike a run bears.

    Attributes:
        max_failed_share: The share of the answers above which it is stopped; 1 is never.
        least_answers: How many answers must be there before anything is decided.
    """

    max_failed_share: float = 0.5
    least_answers: int = LEAST_ANSWERS

    def is_passed(self, failed: int, answers: int) -> bool:
        """Whether so many failures alike among so many answers are too many."""
        return answers >= self.least_answers and not self.bears(failed, answers)

    def bears(self, failed: int, answers: int) -> bool:
        """Whether so many failures alike among so many answers are no more than the share."""
        return failed <= self.max_failed_share * answers


@dataclass(frozen=True)
class Way:
    """In which way a request failed.

    Attributes:
        kind: The kind of failure.
        status: The request's own HTTP status, or None.
        said: The service's code, or its message without what differs from row to row.
    """

    kind: str
    status: int | None = None
    said: str = ""

    @property
    def is_outage(self) -> bool:
        """Whether the service was in trouble, which says nothing of the requests."""
        status = self.status or 0
        return self.kind == FailureKind.PROVIDER_ERROR and (
            status in TRANSIENT_STATUSES or status >= 500
        )

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.kind, self.status or "", self.said) if part)

    @property
    def fix(self) -> str:
        """What to change."""
        if self.is_outage:
            return "run again once the service is well: nothing counts as an attempt"
        if self.kind == FailureKind.PROVIDER_ERROR and self.status in _ACCESS:
            return "give the identity access to the deployment, or name another in deployments"
        default = "change what the service names: parameters, deployments, endpoint or api_version"
        return _FIXES.get(FailureKind(self.kind), default)


def decide(
    ways: Mapping[Way, int], done: int, tolerance: Tolerance, *, requests: int | None = None
) -> Way | None:
    """Return the way in which too many answers failed, or None.

    Args:
        ways: Failed answers by their way, each row's first answer alone.
        done: Answers that are valid.
        tolerance: How many are too many.
        requests: How many requests the answers came from, where several rows share one.
    """
    answers = done + sum(ways.values())
    if not ways or (requests is not None and requests < tolerance.least_answers):
        return None
    worst = max(ways, key=lambda way: (ways[way], str(way)))
    return worst if tolerance.is_passed(ways[worst], answers) else None


def way_sql(kind: str, message: str) -> str:
    """Build the expression of what is said of a failure, alike for all that fail alike.

    A code of the service's says it; else its message does, without numbers, quoted texts and ids.

    Args:
        kind: SQL expression of the failure's kind.
        message: SQL expression of its message, `code: text`.
    """
    vague = ", ".join(f"'{code}'" for code in _VAGUE_CODES)
    code = f"regexp_extract({message}, '^([A-Za-z][A-Za-z0-9_.-]*): ', 1)"
    plain = (
        "regexp_replace(regexp_replace(regexp_replace(lower(left("
        f"{message}, 1000)), '''[^'']*''|\"[^\"]*\"|`[^`]*`', '…', 'g'), "
        "'[0-9a-f]*[0-9][0-9a-f.,-]*', '#', 'g'), '\\s+', ' ', 'g')"
    )
    return f"""
        case
            when {kind} = '{FailureKind.PACK_FAILED}'
                then regexp_extract({message}, '^([a-z_]+): ', 1)
            when {kind} <> '{FailureKind.PROVIDER_ERROR}' then ''
            when {code} <> '' and lower({code}) not in ({vague}) then {code}
            else left({plain}, 100)
        end
    """


def failed_sentence(way: Way, failed: int, answers: int, examples: Sequence[str]) -> str:
    """Say how many answers failed in one way, with examples."""
    shown = "; ".join(examples)
    return f"{failed:,} of {answers:,} answers failed in the same way ({way})" + (
        f", for example {shown}" if shown else ""
    )


def example(label: str, message: str | None) -> str:
    """Say of one row what became of it."""
    text = " ".join((message or "no reason given").split())
    if len(text) > _EXAMPLE_CHARACTERS:
        text = text[: _EXAMPLE_CHARACTERS - 1] + "…"
    return f"[{label}] {text}"


def stopped_error(model: str, said: str, way: Way, *, again: bool) -> StoppedError:
    """Return the error that ends a run whose answers fail alike.

    Args:
        model: The dbt model's name.
        said: How many failed, and how.
        way: In which way.
        again: Whether an earlier run was stopped, and nothing has changed since.
    """
    what = (
        f"{said}, which stopped an earlier run, and nothing has changed since: nothing was sent"
        if again
        else f"{said}: nothing more is sent, batches in flight are cancelled, and what was "
        "answered is kept"
    )
    return StoppedError(
        f"model '{model}': {what}",
        fix=f"{way.fix}, then run again. If the cause was outside this project, "
        f"`{retry_command(model, (way.kind,))}` lets the next run go on. "
        "enrichment.max_failed_share: 1 sends the rows all the same; enrichment_mode: collect "
        "publishes what is there",
    )
