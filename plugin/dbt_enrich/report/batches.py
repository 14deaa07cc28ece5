"""Batches and days as a report shows them, from the ledger."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from dbt_enrich.config import PluginConfig
from dbt_enrich.pipeline.planning.budget import spending
from dbt_enrich.report.contents import BatchReport, DayReport, Money, Phase, Way
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.sent_with import tier_of
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.task.options import Via

MOST_BATCHES = 40
PHASES = ("queued", "validating", "running", "finalizing", "collected")


def money(shards: Sequence[Shard], config: PluginConfig) -> Money:
    """Add up what shards cost, from the tokens that the service counted."""
    spent = spending(shards, config)
    return Money(
        cost=spent.cost,
        saved=spent.saved,
        currency=spent.currency,
        prompt_tokens=sum(shard.prompt_tokens or 0 for shard in shards),
        cached_tokens=sum(shard.cached_tokens or 0 for shard in shards),
        completion_tokens=sum(shard.completion_tokens or 0 for shard in shards),
    )


def was_sent(shard: Shard) -> bool:
    """Whether the service has, or may have, a shard's batch or some of its requests."""
    asked = shard.synchronous and shard.step in (Step.ANSWERING, Step.DOWNLOADED, Step.STORED)
    return asked or shard.batch_id is not None


def route_of(shard: Shard) -> str:
    """Return how a shard's requests go to the service, as `via` names it."""
    if not shard.synchronous:
        return Via.BATCH
    return Via.FLEX if tier_of(shard) == Via.FLEX else Via.SYNCHRONOUS


def ways(shards: Iterable[Shard]) -> tuple[Way, ...]:
    """Add up by which ways shards were sent, those of most requests first."""
    requests: Counter[tuple[str, str]] = Counter()
    rows: Counter[tuple[str, str]] = Counter()
    for shard in filter(was_sent, shards):
        way = (str(shard.endpoint), route_of(shard))
        requests[way] += shard.requests
        rows[way] += shard.row_count
    return tuple(
        Way(endpoint, route, count, rows[endpoint, route])
        for (endpoint, route), count in requests.most_common()
    )


def batch_report(
    shard: Shard, names: Mapping[str, str], ledger: Ledger, now: datetime
) -> BatchReport:
    """Return the life of one batch."""
    return BatchReport(
        batch=(not shard.synchronous and shard.batch_id) or shard.shard,
        model=names[shard.enrichment] if shard.enrichment else "?",
        status="synchronous" if shard.synchronous else shard.status or shard.step.value,
        endpoint=str(shard.endpoint),
        route=route_of(shard),
        requests=shard.requests,
        rows=shard.row_count,
        completed=shard.completed,
        failed=shard.failed,
        phases=_phases(shard, ledger, now),
    )


def _phases(shard: Shard, ledger: Ledger, now: datetime) -> tuple[Phase, ...]:
    """Cut a batch's life where the service, or else the ledger, says that it moved on."""
    steps = {
        Step(event["step"]): datetime.fromisoformat(event["at"])
        for event in ledger.events.all(shard.shard)
    }
    seen = ledger.statuses.of(shard.shard)
    ended = next((at for status, at in seen.items() if status in _ENDED), steps.get(Step.ENDED))
    if shard.synchronous:
        ended = steps.get(Step.DOWNLOADED)
    marks: list[tuple[str, datetime | None]] = [
        ("queued", datetime.fromisoformat(shard.created_at)),
        ("validating", steps.get(Step.SUBMITTED)),
        ("running", seen.get("in_progress") or steps.get(Step.ANSWERING)),
        ("finalizing", seen.get("finalizing")),
        ("collected", ended),
    ]
    # The clocks of the service and of this machine may differ: nothing begins before the last.
    began: list[tuple[str, datetime]] = []
    for name, at in marks:
        if at is not None:
            began.append((name, max(at, began[-1][1]) if began else at))
    end = steps.get(Step.STORED) or steps.get(Step.RELEASED) or now
    ends = [at for _, at in began[1:]] + [max(end, began[-1][1])]
    return tuple(
        Phase(name, at, until) for (name, at), until in zip(began, ends, strict=True) if until > at
    )


_ENDED = ("completed", "failed", "expired", "cancelled")


def day_reports(
    shards: Sequence[Shard], retries: Mapping[str, int], config: PluginConfig
) -> tuple[DayReport, ...]:
    """Add up what was sent on each day, in UTC.

    Args:
        shards: The shards that were sent.
        retries: Failed attempts by day.
        config: For the prices.
    """
    by_day: dict[str, list[Shard]] = defaultdict(list)
    for shard in shards:
        made = datetime.fromisoformat(shard.created_at).astimezone(UTC)
        by_day[made.date().isoformat()].append(shard)
    return tuple(
        DayReport(
            day=day,
            batches=len(by_day[day]),
            requests=sum(shard.requests for shard in by_day[day]),
            rows=sum(shard.row_count for shard in by_day[day]),
            answered=sum(shard.completed for shard in by_day[day]),
            retries=retries.get(day, 0),
            money=money(by_day[day], config),
        )
        for day in sorted({*by_day, *retries})
    )
