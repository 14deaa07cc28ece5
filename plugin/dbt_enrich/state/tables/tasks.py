"""The table `tasks`: what was asked, as it was when it was first seen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbt_enrich.state.connection import Table


@dataclass(frozen=True)
class Task:
    """A row of `tasks`: what was asked, as it was when it was first seen.

    Attributes:
        task_key: Its identity.
        enrichment: Unique id of the dbt model that asked it first.
        document: The canonical document that identifies it.
        outputs: Its output columns.
        first_seen_at: When that was.
    """

    task_key: str
    enrichment: str
    document: dict[str, Any]
    outputs: list[dict[str, Any]]
    first_seen_at: str


class Tasks(Table):
    """What was asked, so that answers can be read whatever the YAML says later."""

    def add(
        self, task_key: str, *, enrichment: str, document: Mapping[str, Any], outputs: object
    ) -> None:
        """Record a task; of one that is known, what its columns with pictures are called now.

        Nothing else of the document may differ where the key is the same.
        """
        self._connection.write(
            "insert into tasks values (?, ?, ?, ?, ?) on conflict (task_key) do update "
            "set document = excluded.document where tasks.document <> excluded.document",
            (
                task_key,
                enrichment,
                json.dumps(document),
                json.dumps(outputs),
                self._connection.now(),
            ),
        )

    def get(self, task_key: str) -> Task | None:
        """Return one task, or None if it is unknown."""
        return next(iter(self._read("where task_key = ?", (task_key,))), None)

    def outputs(self, task_key: str) -> list[dict[str, Any]] | None:
        """Return the output columns that a task was recorded with, or None if it is unknown."""
        task = self.get(task_key)
        return None if task is None else task.outputs

    def all(self, enrichment: str | None = None) -> list[Task]:
        """Return the tasks of a model, or of all, newest first."""
        if enrichment is None:
            return self._read("")
        return self._read("where enrichment = ?", (enrichment,))

    def _read(self, where: str, arguments: Sequence[object] = ()) -> list[Task]:
        rows = self._connection.read(
            f"select * from tasks {where} order by first_seen_at desc, task_key", arguments
        )
        return [
            Task(
                **{
                    **row,
                    "document": json.loads(row["document"]),
                    "outputs": json.loads(row["outputs"]),
                }
            )
            for row in rows
        ]
