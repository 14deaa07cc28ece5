"""What the user reads of a run: the plan in one sentence, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping

from dbt_enrich.cost.money import money_text
from dbt_enrich.pipeline.export.new_requests import NewRequests
from dbt_enrich.pipeline.planning.plan import others_sentence
from dbt_enrich.pipeline.publish.results import Published
from dbt_enrich.pipeline.request import Tally
from dbt_enrich.pipeline.stage.staged_rows import StagedRows
from dbt_enrich.task.failures import final_sentence
from dbt_enrich.task.result_columns import STATUSES
from dbt_enrich.wording import counted


def plan_sentence(rows: StagedRows, fresh: NewRequests, reused: int) -> str:
    """Say what a run is about to send, before it does."""
    again = f" ({fresh.again:,} of them again)" if fresh.again else ""
    parts = [
        f"{counted(rows.rows, 'row')}: {reused:,} answered before",
        f"{counted(fresh.requests, 'request')} to send{again}",
    ]
    equal = counted(fresh.equal, "row")
    others = others_sentence(equal, fresh.in_flight, rows.owed, rows.waits_for, rows.skipped)
    return ", ".join([*parts, *others])


def summary(model: str, published: Published, tally: Tally) -> str:
    """Say in one line what a run did: rows by status, reused, sent, tokens."""
    counts = published.counts
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in published.errors.items())
    details = {"failed": f" ({kinds})"}
    statuses = [
        f"{counts.get(status, 0):,} {status}{details.get(status, '')}"
        for status in STATUSES
        if status == "done" or counts.get(status)
    ]
    tokens = f"{tally.prompt_tokens:,} input and {tally.completion_tokens:,} output tokens"
    parts = [
        f"{model}: {', '.join(statuses)}",
        f"{tally.reused:,} reused, {tally.sent:,} sent, {tokens}",
        touched_sentence(published.touched, published.gone, sum(counts.values())),
        final_sentence(model, published.finals),
    ]
    return "; ".join(part for part in parts if part)


def touched_sentence(touched: int | None, gone: int, rows: int) -> str:
    """Say how much of a table was changed where the rest stayed; empty where it was built anew.

    Args:
        touched: Rows that were put into it, or None where all were.
        gone: Rows of it that were changed, or taken out.
        rows: Rows of it now.
    """
    if touched is None:
        return ""
    if not touched and not gone:
        return "nothing new: the table stays as it is"
    return f"{max(touched, gone):,} of {counted(rows, 'row')} touched"


def status_sentence(
    counts: Mapping[str, int], cost: float | None, currency: str | None, *, touched: int | None
) -> str:
    """Say what a run published and what its answers cost, for dbt's own result line.

    Args:
        counts: Rows by status.
        cost: What the answers cost, or None if a price is unknown.
        currency: What that is in.
        touched: Rows that were changed where the rest stayed, or None where all were built anew.
    """
    parts = [
        f"{counts.get(status, 0):,} {status}"
        for status in STATUSES
        if status == "done" or counts.get(status)
    ]
    if touched is not None:
        parts.append(f"{touched:,} touched" if touched else "nothing new")
    if cost is not None:
        parts.append(money_text(cost, currency or ""))
    return ", ".join(parts)
