"""Manifests: which requests a shard holds, as far as files alone can say it."""

from __future__ import annotations

from pathlib import Path

from dbt_enrich.endpoints.base import Endpoint
from dbt_enrich.endpoints.packs import MARK, keys_sql
from dbt_enrich.endpoints.response_lines import (
    LINE_BYTES,
    custom_id_sql,
    key_sql,
    lines_sql,
)
from dbt_enrich.sql import literal
from dbt_enrich.workspace.database import Workspace
from dbt_enrich.workspace.long_lines import longest_line, without_pictures

# A manifest that names no request.
NO_REQUESTS = (
    "select cast(null as uuid) as request_key, cast(null as integer) as attempt where false"
)


def manifest_from_requests(
    path: Path, manifest: Path, workspace: Workspace, *, task_key: str, endpoint: Endpoint
) -> None:
    """Write the manifest of a shard from its input file.

    Where all its lines ask packs, the rows are found by their texts.

    Args:
        path: The input file.
        manifest: Where it goes.
        workspace: Where the file is read.
        task_key: That of the task that asked.
        endpoint: The endpoint that was asked.
    """
    write_manifest([path], manifest, workspace)
    if workspace.count(manifest):
        return
    longest = longest_line([path], least=LINE_BYTES)
    packed = keys_sql(endpoint, f"({lines_sql([path], longest)})", task_key)
    workspace.write_parquet(packed, manifest, durable=True)


def count_requests(manifest: Path, workspace: Workspace) -> tuple[int, int]:
    """Return how many requests a manifest names, and how many rows they ask."""
    file = f"read_parquet({literal(manifest)})"
    is_packed = "custom_id" in workspace.columns(f"from {file}")
    requests = "count(distinct custom_id)" if is_packed else "count(*)"
    counted, rows = workspace.row(f"select {requests}, count(*) from {file}")
    return int(counted), int(rows)


def write_manifest(files: list[Path], manifest: Path, workspace: Workspace) -> None:
    """Write the manifest of the requests whose custom_ids files hold.

    Args:
        files: Request or response files, possibly none.
        manifest: Where it goes.
        workspace: Where the files are read.
    """
    if not files:
        workspace.write_parquet(NO_REQUESTS, manifest)
        return
    with without_pictures(files, workspace.directory) as bare:
        longest = longest_line(bare, least=LINE_BYTES)
        workspace.make_room(8 * longest)
        workspace.write_parquet(_custom_ids_sql(bare, longest), manifest, durable=True)


def count_packs(files: list[Path], workspace: Workspace) -> int:
    """Count the lines of files that answer packs."""
    if not files:
        return 0
    longest = longest_line(files, least=LINE_BYTES)
    (count,) = workspace.row(
        f"select count(*) from ({lines_sql(files, longest)}) as lines "
        f"where starts_with({custom_id_sql('line')}, {literal(MARK)})"
    )
    return int(count)


def _custom_ids_sql(files: list[Path], line_bytes: int) -> str:
    return f"""
        with lines as ({lines_sql(files, line_bytes)}),
        ids as (select {custom_id_sql("line")} as custom_id from lines),
        keys as (select {key_sql()} from ids)
        select distinct request_key, attempt
        from keys
        where request_key is not null and attempt is not null
    """
