"""The report's tables as rows of cells, for HTML and Markdown alike."""

from __future__ import annotations

from collections.abc import Sequence

from dbt_enrich.report.attention import age
from dbt_enrich.report.contents import BatchReport, DayReport, FailureReport, VersionReport, Way
from dbt_enrich.report.texts import amount, moment, number
from dbt_enrich.task.options import Via
from dbt_enrich.wording import counted

Rows = list[tuple[object, ...]]
_ROUTES = {
    Via.BATCH: "in batches",
    Via.SYNCHRONOUS: "one by one (synchronous)",
    Via.FLEX: "one by one (flex)",
}


def batch_rows(batches: Sequence[BatchReport]) -> Rows:
    """Return batch, model, status, way, counts, beginning, phases, and requests an hour."""
    return [
        (
            batch.batch,
            batch.model,
            batch.status,
            batch.endpoint,
            batch.route,
            number(batch.requests),
            number(batch.rows),
            number(batch.completed),
            number(batch.failed),
            moment(batch.phases[0].began) if batch.phases else "",
            ", ".join(f"{phase.name} {age(phase.ended - phase.began)}" for phase in batch.phases),
            _throughput(batch),
        )
        for batch in batches
    ]


def ways_sentence(ways: Sequence[Way]) -> str:
    """Say how many requests went to which endpoint, and how; empty where none was sent."""
    sent = [
        f"{counted(way.requests, 'request')} of {counted(way.rows, 'row')} to {way.endpoint} "
        f"{_ROUTES[Via(way.route)]}"
        for way in ways
    ]
    return f"Sent so far: {'; '.join(sent)}." if sent else ""


def _throughput(batch: BatchReport) -> str:
    """Say how many requests an hour came back while the batch was at the service."""
    at_work = [p for p in batch.phases if p.name in ("validating", "running", "finalizing")]
    seconds = sum((phase.ended - phase.began).total_seconds() for phase in at_work)
    return number(round(batch.completed / seconds * 3600)) if seconds and batch.completed else ""


def day_rows(days: Sequence[DayReport]) -> Rows:
    """Return day, counts, failed attempts, tokens, cost and what was saved."""
    return [
        (
            day.day,
            number(day.batches),
            number(day.requests),
            number(day.rows),
            number(day.answered),
            number(day.retries),
            number(day.money.prompt_tokens),
            number(day.money.cached_tokens),
            number(day.money.completion_tokens),
            amount(day.money.cost, day.money.currency),
            amount(day.money.saved, day.money.currency),
        )
        for day in days
    ]


def failure_rows(failures: Sequence[FailureReport]) -> Rows:
    """Return kind, rows, how many are asked again, the rule, messages, and one answer."""
    return [
        (
            failure.kind,
            number(failure.rows),
            number(failure.next_run),
            failure.rule,
            "; ".join(f"{sample.value} ({number(sample.rows)})" for sample in failure.samples),
            "" if failure.raw_answer is None else failure.raw_answer,
        )
        for failure in failures
    ]


def version_rows(versions: Sequence[VersionReport]) -> Rows:
    """Return version, when it was first seen, rows, answers, and what it changed."""
    return [
        (
            version.version,
            moment(version.first_seen),
            number(version.rows),
            number(version.answers),
            "the first" if version.changes is None else ", ".join(version.changes),
        )
        for version in versions
    ]
