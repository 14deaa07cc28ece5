"""Canary: a few requests of a new task go first, and the others once these are home and well.

What is remembered between runs is what the ledger holds anyway: answers that count, and requests in
flight. So it goes on where it was, whenever the run is killed and whichever command comes next.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from dbt_enrich.endpoints.packs import Packing
from dbt_enrich.pipeline.export.new_requests import Selection
from dbt_enrich.pipeline.run.breaker import UNANSWERED
from dbt_enrich.sql import literals
from dbt_enrich.state.run import Run
from dbt_enrich.workspace.database import Workspace

# A task of more requests than this deserves a canary.
RECOMMENDED_ABOVE = 10_000
RECOMMENDED = 200


def is_proven(run: Run, selection: Selection) -> bool:
    """Whether a task has answers that count: from which the breaker knew that all is well.

    Args:
        run: The run.
        selection: What decides which answers count.
    """
    attempts = selection.attempts(run)
    kinds = ", ".join(f"'{kind}'" for kind in UNANSWERED)
    counts = f"not ({' or '.join(attempts.uncounted)})" if attempts.uncounted else "true"
    return bool(
        run.workspace.rows(
            f"select 1 from {attempts.all_sql} as answers "
            f"where kind = 'done' or (kind not in ({kinds}) and {counts}) limit 1"
        )
    )


def first_requests(
    paths: Sequence[Path], requests: int, packing: Packing | None, workspace: Workspace
) -> list[Path]:
    """Write so many of some requests, picked by their keys: as good as at random, always the same.

    Args:
        paths: Parquet files of the requests to send; the rows of one come before those of the next.
        requests: How many.
        packing: How many rows go into one request, or None for one.
        workspace: Where they are picked.
    """
    rows = requests if packing is None else requests * (packing.rows or 1)
    name = f"canary-{secrets.token_hex(4)}.parquet"
    path = paths[0].with_name(name)
    wanted = f"read_parquet({literals(paths)})"
    workspace.write_parquet(
        f"""
        select wanted.*
        from {wanted} as wanted
        semi join (
            select request_key from {wanted} as keys order by request_key limit {rows}
        ) as picked using (request_key)
        order by wanted.row_id
        """,
        path,
    )
    return [path]
