"""What needs somebody's attention, as sentences, the most urgent first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from dbt_enrich.report.contents import ModelReport
from dbt_enrich.wording import counted

_WINDOW = timedelta(hours=24)


def sentences(
    models: Sequence[ModelReport], oldest_pending: datetime | None, now: datetime
) -> tuple[str, ...]:
    """Return what to look at; one sentence that says so where there is nothing.

    Args:
        models: The enriched tables.
        oldest_pending: Since when the batch that has been out longest is out, or None.
        now: The current time.
    """
    found = [sentence for model in models for sentence in _of_model(model)]
    if oldest_pending is not None and now - oldest_pending > _WINDOW:
        found.insert(
            0,
            f"A batch has been out for {age(now - oldest_pending)}, longer than a completion "
            "window: look at it with `dbt-enrich status`.",
        )
    if not models:
        return ("Nothing was enriched yet: no model has been published with this profile.",)
    return tuple(found) or ("Nothing needs attention.",)


def _of_model(model: ModelReport) -> list[str]:
    total = sum(model.statuses.values())
    found = []
    if model.note:
        found.append(f"{model.name}: {model.note}.")
    failed = model.statuses.get("failed", 0)
    if failed:
        kinds = ", ".join(f"{f.rows:,} {f.kind}" for f in model.failures)
        again = sum(failure.next_run for failure in model.failures)
        next_run = (
            f"the next run asks up to {again:,} of them again"
            if again
            else "none is asked again by itself"
        )
        found.append(
            f"{model.name}: {failed:,} of {counted(total, 'row')} failed ({kinds}); {next_run}."
        )
    stale, pending = model.statuses.get("stale", 0), model.statuses.get("pending", 0)
    if pending:
        found.append(
            f"{model.name}: {pending:,} of {counted(total, 'row')} "
            f"{'waits for its answer' if pending == 1 else 'wait for their answers'}."
        )
    if stale:
        found.append(
            f"{model.name}: {stale:,} of {counted(total, 'row')} "
            f"{'shows' if stale == 1 else 'show'} the previous answer until the new one arrives."
        )
    skipped = model.statuses.get("skipped", 0)
    if skipped:
        found.append(
            f"{model.name}: {skipped:,} of {counted(total, 'row')} "
            f"{'was' if skipped == 1 else 'were'} skipped, as a text that the template needs is "
            "missing."
        )
    if model.money.cost is None:
        found.append(
            f"{model.name}: its cost is unknown, as its language model has no price; add one "
            "under `prices` in the plugin's config."
        )
    return found


def age(span: timedelta) -> str:
    """Say how long something takes, in its two largest units."""
    seconds = max(int(span.total_seconds()), 0)
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"
