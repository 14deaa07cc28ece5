"""Claims: the requests that shards hold, and what becomes of those whose run has died unsent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dbt_enrich.ledger import UNSENT_STEPS, Ledger, Shard, Step
from dbt_enrich.pipeline.load import NO_REQUESTS
from dbt_enrich.request_lines import LineTemplate, line_template
from dbt_enrich.sql import literal
from dbt_enrich.store import StateDirectory
from dbt_enrich.task import EnrichmentTask
from dbt_enrich.workspace import Workspace, read_parquet

_CUSTOM_ID = re.compile(r'\{"custom_id":"[0-9a-z-]{1,64}"')


def abandoned_shards(ledger: Ledger, store: StateDirectory) -> list[Shard]:
    """Return the claims of dead runs that never asked the service for a batch: nothing was paid."""
    return [shard for shard in ledger.open_shards() if _is_abandoned(shard, store)]


def let_go(shards: Sequence[Shard], ledger: Ledger, store: StateDirectory) -> None:
    """Free abandoned claims, and remove their files."""
    for shard in shards:
        ledger.record(shard.shard, Step.RELEASED, detail={"reason": "never submitted"})
        store.requests(shard.shard).unlink(missing_ok=True)
        store.manifest(shard.shard).unlink(missing_ok=True)


def in_flight_sql(ledger: Ledger, store: StateDirectory, task_key: str) -> str:
    """Build a table expression over the requests of a task that are claimed and not yet stored.

    The claims of dead runs that never sent them are left out: the next export takes them up.
    """
    shards = ledger.open_shards(task_key=task_key)
    return manifests_sql([s.shard for s in shards if not _is_abandoned(s, store)], store)


def manifests_sql(shards: Sequence[str], store: StateDirectory) -> str:
    """Build a table expression over the requests of some shards, by their names."""
    manifests = [store.manifest(name) for name in shards]
    return read_parquet([path for path in manifests if path.exists()], empty=NO_REQUESTS)


def standing_claims(
    abandoned: Sequence[Shard],
    wanted: Path,
    task: EnrichmentTask,
    line_url: str,
    *,
    workspace: Workspace,
    store: StateDirectory,
) -> list[Shard]:
    """Return the abandoned shards whose files would be written again as they are.

    They wait for room in a quota, mostly, and may be at the service already: to write and upload
    them once more at every run would be in vain.

    Args:
        abandoned: Claims of dead runs.
        wanted: Parquet file of the requests that are to be sent now.
        task: What is asked.
        line_url: The `url` of every line.
        workspace: Where requests are compared.
        store: Where files lie.
    """
    return [
        shard
        for shard in abandoned
        if shard.step in (Step.EXPORTED, Step.UPLOADED)
        and store.requests(shard.shard).exists()
        and store.manifest(shard.shard).exists()
        and _stands(shard, wanted, task, line_url, workspace, store)
    ]


def _is_abandoned(shard: Shard, store: StateDirectory) -> bool:
    return shard.step in UNSENT_STEPS and (shard.owner is None or not store.is_alive(shard.owner))


def _stands(
    shard: Shard,
    wanted: Path,
    task: EnrichmentTask,
    line_url: str,
    workspace: Workspace,
    store: StateDirectory,
) -> bool:
    """Whether each request of a shard is to be sent now, and in the same words."""
    manifest = f"read_parquet({literal(store.manifest(shard.shard))})"
    is_packed = "custom_id" in workspace.columns(f"from {manifest}")
    rows_in_line = "max(position)" if is_packed else "1"
    missing, enlarge, forms, first_attempts = workspace.row(
        f"""
        select
            count(*) filter (wanted.request_key is null),
            any_value(enlarge) * {rows_in_line},
            count(distinct enlarge),
            bool_and(claimed.attempt = 1)
        from {manifest} as claimed
        left join read_parquet({literal(wanted)}) as wanted using (request_key, attempt)
        """
    )
    if missing or forms != 1 or (is_packed and not first_attempts):
        return False
    template = line_template(
        task,
        deployment=shard.deployment or "",
        line_url=line_url,
        enlarge=enlarge,
        packed=is_packed,
    )
    return _is_worded(store.requests(shard.shard), template)


def _is_worded(path: Path, template: LineTemplate) -> bool:
    """Whether a file's first line has the constant texts of a template."""
    with path.open("rb") as file:
        line = file.readline().decode(errors="replace").rstrip("\n")
    begun = _CUSTOM_ID.match(line)
    return (
        begun is not None
        and line.startswith(template.before, begun.end())
        and line.endswith(template.after)
    )
