"""What changed since the task that has answers, and what `on_task_change` has to say of it."""

from __future__ import annotations

from dbt_enrich.cost.changes import task_changes
from dbt_enrich.errors import TaskChangedError
from dbt_enrich.pipeline.export.new_requests import NewRequests
from dbt_enrich.pipeline.request import EnrichmentRequest
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.previous_tasks import is_in_flight, previous_tasks
from dbt_enrich.wording import counted


def changes_since(ledger: Ledger, enrichment: str, task_key: str) -> tuple[str, ...]:
    """Name what changed since the newest other task of a model that has answers."""
    previous = previous_tasks(ledger, enrichment, task_key)
    if not previous or ledger.answers.live(task_key):
        return ()
    current = ledger.tasks.get(task_key)
    if current is None:
        return ()
    return tuple(task_changes(previous[0].document, current.document))


def refusal_of_change(
    ledger: Ledger, request: EnrichmentRequest, task_key: str, fresh: NewRequests
) -> TaskChangedError | None:
    """Return why rows of a changed task are not asked again, or None if they are.

    Args:
        ledger: What was asked before.
        request: What says what a change of the task does.
        task_key: The task as it is now.
        fresh: What would be sent.
    """
    change = request.options.on_task_change
    if not fresh.requests:
        return None
    text = f"{counted(fresh.requests, 'request')} would be sent; nothing was"
    if change == "new_rows":
        previous = previous_tasks(ledger, request.enrichment, task_key)
        if any(is_in_flight(ledger, task.task_key) for task in previous):
            return TaskChangedError(
                f"model '{request.model}': the task changed while its batches are in flight, and "
                f"{text}",
                fix="bring them home with `dbt-enrich wait`, so that their answers are kept, "
                "then run again",
            )
    if change != "error":
        return None
    changes = changes_since(ledger, request.enrichment, task_key)
    if not changes:
        return None
    return TaskChangedError(
        f"model '{request.model}': the task changed ({', '.join(changes)}), and {text}",
        fix="set on_task_change to all to ask again, or to new_rows to keep the previous answers",
    )
