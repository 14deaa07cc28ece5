"""What a command does not import before it needs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from dbt_enrich.state.ledger import Ledger
from support.dbt_project import DbtProject, azure

# Each takes a part of a second or more: dbt, the clients, the batch server and the report.
_HEAVY = (
    "batch_server.jobs",
    "batch_server.server",
    "bpe_openai",
    "dbt",
    "dbt_common",
    "dbt_enrich.report",
    "httpx",
    "httpx2",
    "jinja2",
    "jsonschema",
    "numpy",
    "openai",
    "pandas",
    "pyarrow",
    "starlette",
    "uvicorn",
)
_SCRIPT = f"""
import sys
from dbt_enrich.cli import main
try:
    main(sys.argv[1:], prog_name="dbt-enrich")
finally:
    print("imported:", *sorted(set({_HEAVY!r}) & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("status", "--json"),
        ("--version",),
        *((name, "--help") for name in ("plan", "run", "serve", "doctor", "init")),
    ],
)
def test_commands_begin_at_once(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """`status` needs nothing of it at all."""
    project = DbtProject(tmp_path, azure("http://127.0.0.1:1", "key"))
    (tmp_path / "state").mkdir()
    with Ledger(tmp_path / "state" / "ledger.sqlite"):
        pass
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *arguments],
        cwd=project.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "nothing was sent" not in done.stdout
    assert done.stdout.splitlines()[-1] == "imported:", done.stderr
