"""What a run does not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks import movies
from benchmarks.measuring import REPOSITORY

_SCRIPT = """
import sys
from pathlib import Path
from benchmarks import engine
from benchmarks.measuring import Clock
engine.run(Path(sys.argv[1]), Clock())
print(*sorted({"numpy", "pandas", "pyarrow"} & set(sys.modules)))
"""


def test_a_run_imports_no_pandas(tmp_path: Path) -> None:
    """From rows to table: DuckDB's client loads it for values that are bound, where it is there."""
    movies.make_warehouse(tmp_path / "movies.duckdb", 100)
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path)],
        cwd=REPOSITORY / "tests",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []
