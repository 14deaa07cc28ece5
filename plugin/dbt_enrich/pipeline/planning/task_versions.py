"""Versions: what the answer store holds of each version of a task, and how it is let go."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dbt_enrich.config import PluginConfig
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.pipeline.planning.budget import Spending, spending
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.run import Run
from dbt_enrich.state.tables.tasks import Task
from dbt_enrich.task.model_names import labels
from dbt_enrich.task.version import short_version


@dataclass(frozen=True)
class Forgotten:
    """What would be let go.

    Attributes:
        answers: Valid answers.
        worth: What they cost, and so what asking them again costs.
    """

    answers: int
    worth: Spending


def tasks_of(ledger: Ledger, enrichment: str) -> list[Task]:
    """Return the tasks of a model, newest first: those that it asked, and those of its tables.

    The ledger notes a task for the model that asked it first; another one with the same task has
    none of its own.

    Args:
        ledger: The ledger.
        enrichment: The model's unique id.
    """
    return [
        task
        for task in ledger.tasks.all()
        if task.enrichment == enrichment or enrichment in ledger.askers(task.task_key)
    ]


def refuse_shared(ledger: Ledger, tasks: Sequence[Task], enrichments: Collection[str]) -> None:
    """Refuse to let answers go that are those of another model too.

    Args:
        ledger: The ledger.
        tasks: The tasks whose answers would go.
        enrichments: The unique ids of the models that the user named.

    Raises:
        ConfigurationError: A model that is not named asked one of the tasks, or shows its answers.
    """
    names = labels(ledger.enrichments())
    for task in tasks:
        others = ledger.askers(task.task_key) - set(enrichments)
        if others:
            text = " and ".join(sorted(names[other] for other in others))
            version = short_version(task.task_key)
            raise ConfigurationError(
                f"the answers of the version {version} are those of {text} too",
                fix="name every model that is to be asked again, each by --model, or another "
                "version by --version; nothing was deleted",
            )


def answers_by_task(run: Run, task_keys: Sequence[str]) -> dict[str, int]:
    """Return how many valid answers the answer store holds of each task."""
    return {
        key: int(
            run.workspace.row(
                "select count(distinct request_key) "
                f"from {run.answers.table(key)} as answers where kind = 'done'"
            )[0]
        )
        for key in task_keys
    }


def worth_of(run: Run, tasks: Sequence[Task], config: PluginConfig) -> Forgotten:
    """Return what the answers of tasks cost."""
    keys = [task.task_key for task in tasks]
    held = {shard for key in keys for shard in run.ledger.answers.shards(key)}
    shards = [shard for shard in run.ledger.shards.all() if shard.shard in held]
    counts = answers_by_task(run, keys)
    return Forgotten(answers=sum(counts.values()), worth=spending(shards, config))
