"""The benchmarks run; what they measure is not judged here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("bench_notebook.py")


def test_every_contender_finishes_and_is_in_the_table() -> None:
    """At 10,000 rows, once each."""
    command = [sys.executable, str(SCRIPT), "--rows", "10000", "--runs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    for side in ("export", "load"):
        for contender in ("notebook", "dbt-enrich", "floor"):
            assert f"| {contender} {side} |" in done.stdout
