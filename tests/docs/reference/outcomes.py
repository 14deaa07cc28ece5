"""The pages of what comes of a row: statuses and kinds of failure."""

from __future__ import annotations

from dbt_enrich.task.failures import RULES, FailureKind, FailureRule
from dbt_enrich.task.result_columns import STATUSES
from docs.reference.markdown import attributes, page, table


def statuses() -> str:
    """Write the page of `enrichment_status`."""
    return page(
        "Statuses",
        "What `enrichment_status` says of a row. [The outcomes of a row](../guides/outcomes.md) "
        "says what to do. Every row of the SELECT has one: nothing disappears.",
        *(f"## `{status}`\n\n{text}\n" for status, text in STATUSES.items()),
    )


def _again(rule: FailureRule) -> str:
    if not rule.ask_again:
        return "No, unless `ask_again` names it."
    if rule.next_run:
        return "Yes, by the next run."
    if rule.repair:
        return "Yes, the second time with the answer and what is wrong with it."
    if rule.larger_limit:
        return "Yes, with a larger limit, if the task sets one."
    return "Yes."


def failures() -> str:
    """Write the page of the kinds of failure."""
    texts = attributes(FailureKind)
    again = {kind: _again(rule) for kind, rule in RULES.items()}
    again[FailureKind.PROVIDER_ERROR] = (
        "Yes, unless the request itself is at fault: a status of 400 to 499 other than 408, 409 "
        "and 429."
    )
    again[FailureKind.PACK_FAILED] = "Yes, alone."
    return page(
        "Kinds of failure",
        "Why a row has no answer, as `enrichment_error` and the relation `<model>__errors` name "
        "it. A row is asked `max_attempts` times in all. [The outcomes of a "
        "row](../guides/outcomes.md) says what to do.",
        table(
            ["kind", "asked again"],
            ([f"[`{kind}`](#{kind})", again[kind]] for kind in FailureKind),
        ),
        *(
            f"## `{kind}`\n\n{texts[kind.name]}\n\nAsked again: {_lower(again[kind])}\n"
            for kind in FailureKind
        ),
    )


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]
