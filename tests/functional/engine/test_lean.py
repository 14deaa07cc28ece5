"""What a run does not import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from batch_server.server import RunningEmulator
from benchmarks import movies
from benchmarks.measuring import REPOSITORY
from support.dbt_project import DbtProject, azure
from support.without import recorded

_UNWANTED = ("numpy", "pandas", "pyarrow")

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


def test_the_commands_import_no_pandas(emulator: RunningEmulator, tmp_path: Path) -> None:
    """From the hook that begins a run of dbt to the one that ends it, and in what looks at it."""
    project = DbtProject(tmp_path, azure(emulator.url, emulator.api_key))
    emulator.rules([{"match": "hopeless", "fault": "broken_json"}])
    notes = "select 1 as id, 'a note' as note union all select 2, 'a hopeless one'"
    project.enrichment("notes_enriched", notes)
    imported = tmp_path / "imported.txt"
    environment = recorded(tmp_path / "site", _UNWANTED, imported)
    for command in (("dbt", "run"), ("dbt-enrich", "plan"), ("dbt-enrich", "report")):
        done = subprocess.run(
            [Path(sys.executable).parent / command[0], *command[1:]],
            cwd=project.directory,
            env={**os.environ, **environment, "DBT_PROFILES_DIR": str(project.directory)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert set(imported.read_text().split()) == {"duckdb"}, command
