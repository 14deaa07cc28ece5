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
    final = final_sentence(model, published.finals)
    return (
        f"{model}: {', '.join(statuses)}; {tally.reused:,} reused, {tally.sent:,} sent, "
        f"{tally.prompt_tokens:,} input and {tally.completion_tokens:,} output tokens"
        + (f"; {final}" if final else "")
    )


def status_sentence(counts: Mapping[str, int], cost: float | None, currency: str | None) -> str:
    """Say what a run published and what its answers cost, for dbt's own result line."""
    parts = [
        f"{counts.get(status, 0):,} {status}"
        for status in STATUSES
        if status == "done" or counts.get(status)
    ]
    if cost is not None:
        parts.append(money_text(cost, currency or ""))
    return ", ".join(parts)
