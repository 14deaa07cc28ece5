"""Finals: the requests that failed and that no run asks again by itself."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dbt_enrich.pipeline.export.in_flight import in_flight_sql
from dbt_enrich.pipeline.export.new_requests import Selection, Undone, asked_sql
from dbt_enrich.sql import literal
from dbt_enrich.state.run import Run
from dbt_enrich.workspace.database import read_parquet

NO_FINALS = (
    "select cast(null as uuid) as request_key, cast(null as varchar) as kind, "
    "cast(null as bigint) as rows where false"
)


@dataclass(frozen=True)
class Finals:
    """The requests that failed for good.

    Attributes:
        files: Parquet files of request_key, kind and rows (how many rows ask it).
        kinds: Their rows by kind of failure, most first.
    """

    files: tuple[Path, ...] = ()
    kinds: Mapping[str, int] = field(default_factory=dict)

    @property
    def all_sql(self) -> str:
        """Table expression of all of them."""
        return read_parquet(list(self.files), empty=NO_FINALS)


def find_finals(run: Run, undone: Undone, selection: Selection) -> Finals:
    """Find the requests that failed and that neither this run nor a later one asks by itself.

    Args:
        run: The run.
        undone: The rows that have no answer that is `done`.
        selection: What decides which requests are asked.
    """
    in_flight = in_flight_sql(run, selection.task_key)
    attempts = selection.attempts(run)
    asked = asked_sql(selection, by_a_later_run=True)
    name = secrets.token_hex(4)
    files = []
    kinds: Counter[str] = Counter()
    for part, path in undone.files.items():
        target = run.workspace.directory / f"finals-{name}-{part.number}.parquet"
        undone_keys = f"read_parquet({literal(path)})"
        run.workspace.write_parquet(
            f"""
            with standings as ({attempts.standings_sql(undone_keys, part)})
            select undone.request_key, standing.kind, count(*) as rows
            from {undone_keys} as undone
            anti join {part.of(in_flight)} as in_flight using (request_key)
            join standings as standing using (request_key)
            where standing.attempts is not null and not coalesce({asked}, false)
            group by all
            """,
            target,
        )
        counted = run.workspace.rows(
            f"select kind, sum(rows) from read_parquet({literal(target)}) group by kind"
        )
        kinds.update({kind: int(rows) for kind, rows in counted})
        files.append(target)
    return Finals(tuple(files), dict(kinds.most_common()))
