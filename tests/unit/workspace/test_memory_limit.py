"""How much memory the private DuckDB may take."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from dbt_enrich.config import parse_config
from dbt_enrich.state.run import open_run
from dbt_enrich.workspace.database import Workspace

_LIMIT = "select parse_formatted_bytes(current_setting('memory_limit'))"
# As Slurm grants it, in megabytes, where DuckDB looks before it asks containers and the machine.
_GRANTED = "SLURM_MEM_PER_NODE"
# 256 MiB.
_LEAST = 268.4


def limit(directory: Path, memory_limit: str | None = None, room: int = 0) -> float:
    """Return the limit in MB, after a value was announced that needs so many bytes more."""
    workspace = Workspace(directory, threads=1, memory_limit=memory_limit)
    with closing(workspace):
        workspace.make_room(room)
        (found,) = workspace.row(_LIMIT)
    return float(found) / 10**6


@pytest.mark.parametrize(
    ("granted", "expected"), [("16000", 1600), ("4000", 400), ("2000", _LEAST), ("500", _LEAST)]
)
def test_it_is_a_tenth_of_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, granted: str, expected: float
) -> None:
    """And at least 256 MiB, below which large models spill more than they need to."""
    monkeypatch.setenv(_GRANTED, granted)
    # DuckDB says both in tenths of a GiB, rounded down.
    assert limit(tmp_path) == pytest.approx(expected, rel=0.07)


def test_this_machine_s_is_a_tenth_too(tmp_path: Path) -> None:
    """Whatever it has, as DuckDB takes four fifths of it."""
    with duckdb.connect() as connection:
        ((most,),) = connection.execute(_LIMIT).fetchall()
    assert limit(tmp_path) == pytest.approx(max(most / 8 / 10**6, _LEAST), rel=0.07)


@pytest.mark.parametrize("room", [0, 10**6])
def test_one_that_is_set_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Below the default and above it."""
    monkeypatch.setenv(_GRANTED, "16000")
    for megabytes in (100, 4000):
        given = f"{megabytes}MB"
        assert limit(tmp_path, given, room) == pytest.approx(megabytes, rel=0.07)


def test_a_large_value_raises_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what it needs, as it could not be read at all."""
    monkeypatch.setenv(_GRANTED, "500")
    assert limit(tmp_path, "100MB", 10**8) == pytest.approx(200, rel=0.07)
    assert limit(tmp_path, None, 10**8) == pytest.approx(_LEAST + 100, rel=0.07)


def test_the_profile_s_is_the_private_duckdb_s(tmp_path: Path) -> None:
    """From the key of the plugin's config to the database."""
    values = {"provider": "local", "state_dir": str(tmp_path), "memory_limit": "100MiB"}
    with open_run(parse_config(values, duckdb_settings={})) as run:
        assert run.workspace.row("select current_setting('memory_limit')") == ("100.0 MiB",)
