"""The private DuckDB's sorted files, however the rows lie in their sources."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from dbt_enrich.sql import literals
from dbt_enrich.workspace import sorted_files as workspace_module
from dbt_enrich.workspace.database import Workspace
from dbt_enrich.workspace.sorted_files import write_sorted

ROWS = 60_000
# Rows as they lie near their place, and as they lie anywhere.
ORDERS = {"near": "row_id // 20000, hash(row_id)", "anywhere": "hash(row_id)"}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A private DuckDB."""
    (tmp_path / "scratch").mkdir()
    return Workspace(tmp_path / "scratch", memory_limit="160MB", threads=2)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [20_000, 100_000, 16_777_216])
def test_rows_are_written_in_their_order(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, order: str, size: int
) -> None:
    """Each once and whole, over as many files as it takes, gaps and all."""
    monkeypatch.setattr(workspace_module, "_SORTED_BYTES", size)
    sources = [workspace.directory / f"source-{number}.parquet" for number in range(3)]
    for number, source in enumerate(sources):
        workspace.write_parquet(
            f"select 2 * i as row_id, 'text ' || i as text from range({ROWS}) as numbers(i) "
            f"where i % 3 = {number} order by {ORDERS[order]}",
            source,
        )
    files = [*write_sorted(workspace, sources, "row_id").values()]
    assert (len(files) > 1) == (size < 16_777_216)
    found = workspace.rows(
        f"""
        with placed as (
            select *, row_number() over (order by file_index, file_row_number) - 1 as place
            from read_parquet({literals(files)}, file_row_number = true)
        )
        select count(*), bool_and(row_id = 2 * place and text = 'text ' || place) from placed
        """
    )
    assert found == [(ROWS, True)]
    left = {path.name for path in workspace.directory.glob("*.parquet")}
    assert left == {path.name for path in (*sources, *files)}


def test_rows_that_lie_anywhere_are_not_read_for_each_file(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are brought near their place first: of n files' reads, twice the root of n are left."""
    monkeypatch.setattr(workspace_module, "_SORTED_BYTES", 20_000)
    source = workspace.directory / "source.parquet"
    workspace.write_parquet(
        f"select i as row_id, md5(i::varchar) as text from range({ROWS}) as numbers(i) "
        "order by hash(i)",
        source,
    )
    written: list[str] = []
    monkeypatch.setattr(
        workspace,
        "write_parquet",
        lambda query, path, **_: _note(workspace, query, path, written),
    )
    files = write_sorted(workspace, [source], "row_id")
    assert len(files) > 50
    assert sum(str(source) in query for query in written) < len(files) ** 0.5 + 2


def test_no_row_makes_one_file(workspace: Workspace) -> None:
    """There is something to read."""
    source = workspace.directory / "source.parquet"
    workspace.write_parquet("select 1::bigint as row_id where false", source)
    (file,) = write_sorted(workspace, [source], "row_id").values()
    assert workspace.row(f"select count(*) from read_parquet({literals([file])})") == (0,)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_free_memory_goes_back_to_the_system(workspace: Workspace) -> None:
    """Once enough was written; before that, and without it, the allocator keeps it.

    On a busy machine its own thread may have given some back before it is asked to.
    """
    assert any(_given_back_mb(workspace) > 50 for _ in range(3))
    workspace.execute("select 1")


def _given_back_mb(workspace: Workspace) -> float:
    workspace.execute(
        "create table texts as select repeat(md5(i::varchar), 6) as text from range(400000) t(i)"
    )
    workspace.execute("create table ordered as select text from texts order by text")
    workspace.execute("drop table texts")
    workspace.execute("drop table ordered")
    workspace.give_back(1)
    held = _resident_mb()
    workspace.give_back(1_000_000_000)
    return held - _resident_mb()


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _note(workspace: Workspace, query: str, path: Path, written: list[str]) -> None:
    written.append(query)
    Workspace.write_parquet(workspace, query, path)
