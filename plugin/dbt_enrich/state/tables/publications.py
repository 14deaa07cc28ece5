"""The table `publications`: what each model's table was made of last."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

from dbt_enrich.state.connection import Table

# Among a publication's counts, beside the statuses: rows that are `done` by a previous version.
KEPT = "kept"


@dataclass(frozen=True)
class Publication:
    """A row of `publications`: what a model's table was made of last.

    Attributes:
        enrichment: The dbt model's unique id.
        name: The dbt model's name.
        model: The logical model that is asked.
        task_key: The task.
        counts: Rows by status; `kept` are those of the `done` ones whose answer is to a previous
            version of the task.
        published_at: When; the ledger sets it.
        relation: The table, quoted and qualified, or None if a previous version published it.
        max_attempts: How often one of its rows is sent in all, or None likewise.
        ask_again: Kinds of failure that are asked again although they usually are not.
        target: The profile's target whose table it is, or None if a previous version published it.
    """

    enrichment: str
    name: str
    model: str
    task_key: str
    counts: dict[str, int]
    published_at: str = ""
    relation: str | None = None
    max_attempts: int | None = None
    ask_again: tuple[str, ...] = ()
    target: str | None = None


class Publications(Table):
    """What each model's table was made of last."""

    def put(self, publication: Publication) -> None:
        """Record what a model's table was made of; `published_at` is set to now."""
        row = {
            **{field.name: getattr(publication, field.name) for field in fields(Publication)},
            "counts": json.dumps(publication.counts),
            "published_at": self._connection.now(),
            "ask_again": json.dumps(publication.ask_again),
        }
        self._connection.put("publications", row, key=["enrichment"])

    def all(self) -> list[Publication]:
        """Return what each model's table was made of last, by unique id."""
        rows = self._connection.read("select * from publications order by enrichment")
        return [
            Publication(
                **{
                    **row,
                    "counts": json.loads(row["counts"]),
                    "ask_again": tuple(json.loads(row["ask_again"])),
                }
            )
            for row in rows
        ]
