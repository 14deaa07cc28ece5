"""Unpack: the lines that answer packs, taken apart into one row for each request."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dbt_enrich.endpoints.packs import entries_sql, lines_sql, opened_sql, packs_sql, rows_sql
from dbt_enrich.sql import literal
from dbt_enrich.workspace.database import LONG_ROW_GROUP_BYTES, Workspace


@contextmanager
def unpacked(named: str, manifest: Path, workspace: Workspace) -> Iterator[str]:
    """Take the packs of an output file apart, step by step, each with its own scratch file.

    One query over all would hold the answers of a whole file in memory.

    Args:
        named: A SELECT of the file's lines, as `packs.lines_sql` takes it.
        manifest: The shard's manifest.
        workspace: Where it is done.

    Yields:
        The SELECT of one row for each request of the packs, valid within the block.
    """
    directory = workspace.directory / f"packs-{secrets.token_hex(4)}"
    files = {name: directory / f"{name}.parquet" for name in ("lines", "packs", "entries", "rows")}
    manifest_sql = _file(manifest)
    lines = f"(select *, file_row_number as pack from {_file(files['lines'])})"
    packs = _file(files["packs"])
    entries = f"(select *, file_row_number as entry from {_file(files['entries'])})"
    rows = _file(files["rows"])
    directory.mkdir(mode=0o700)
    try:
        workspace.write_parquet(
            lines_sql(named), files["lines"], row_group_bytes=LONG_ROW_GROUP_BYTES
        )
        workspace.write_parquet(packs_sql(lines, manifest_sql), files["packs"])
        workspace.write_parquet(entries_sql(lines, packs), files["entries"])
        workspace.write_parquet(rows_sql(packs, entries, manifest_sql), files["rows"])
        yield opened_sql(lines, packs, entries, rows)
    finally:
        for path in files.values():
            path.unlink(missing_ok=True)
        directory.rmdir()


def _file(path: Path) -> str:
    return f"read_parquet({literal(path)})"
