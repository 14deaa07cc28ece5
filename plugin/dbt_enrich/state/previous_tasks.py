"""The tasks that a model asked before, and whether their batches are still out."""

from __future__ import annotations

from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.tables.tasks import Task


def previous_tasks(ledger: Ledger, enrichment: str, task_key: str) -> list[Task]:
    """Return the other tasks of a model that have answers, or are about to.

    The one that its table was made of last comes first, whichever model asked it first; then the
    newest.
    """
    published = [p.task_key for p in ledger.publications.all() if p.enrichment == enrichment]
    last = [task for key in published if (task := ledger.tasks.get(key))]
    asked = [task for task in ledger.tasks.all(enrichment) if task.task_key not in published]
    return [
        task
        for task in (*last, *asked)
        if task.task_key != task_key
        and (ledger.answers.live(task.task_key) or is_in_flight(ledger, task.task_key))
    ]


def is_in_flight(ledger: Ledger, task_key: str) -> bool:
    """Whether requests of a task are at the service, and so paid for."""
    return any(shard.step.is_at_service for shard in ledger.shards.open(task_key=task_key))
