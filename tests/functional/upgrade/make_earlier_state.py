"""Make `earlier_state.zip`: a project as a user has it, with what an earlier version left in it.

Run it with the Python of an environment in which that version is installed, and its checkout:

    python make_earlier_state.py CHECKOUT

It was made by commit 4d2a6c9. The project holds answers to single requests and to packs, a row
that failed for good, a published table, and a batch that the batch server has and has not answered.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

ARCHIVE = Path(__file__).with_name("earlier_state.zip")
# What belongs to one machine or one process.
_LEFT_OUT = {
    "packages.yml", "dbt_packages", "target", "logs", ".user.yml",
    "users", "address.json", "emulator.log",
}  # fmt: skip

# The keys that a profile could hold, the rare ones among them.
_SHARED: dict[str, Any] = {
    "state_dir": ".enrichment",
    "completion_window": "24h",
    "line_url": "/chat/completions",
    "batch_endpoint": "/chat/completions",
    "max_requests_per_file": 50_000,
    "max_bytes_per_file": 100_000_000,
    "poll_interval": 0.05,
    "transfers": 2,
    "adoption_grace": 0,
    "timeout": 60,
    "max_retries": 2,
    "memory_limit": "160MB",
    "threads": 2,
    "keep_files": False,
    "store_inputs": True,
    "prices": {"gpt-4o-mini": {"input": 0.15, "output": 0.6}},
    "price_zone": "global",
    "caps": {"run": {"max_requests": 1000}, "day": {"max_cost": 5}},
}
_LOCAL = {
    "provider": "local",
    "responder": "scripted",
    "script": "script.json",
    "slots": 4,
    # The test must find its batch however old the archive is.
    "file_expiry_days": None,
    **_SHARED,
}
_AZURE = {
    "provider": "azure",
    "endpoint": "{{ env_var('AZURE_OPENAI_ENDPOINT', '') }}",
    "api_key": "{{ env_var('AZURE_OPENAI_API_KEY', '') }}",
    "deployments": {"gpt-4o-mini": ["mini-batch"]},
    "namespace": "notes",
    "file_expiry_days": 30,
    "max_enqueued_tokens": {"mini-batch": 1_000_000},
    **_SHARED,
}
_RULES = [{"match": "note 3", "fault": "refusal"}]
_MODEL = """\
{{{{ config(materialized = 'enrichment', unique_key = 'id') }}}}
select i as id, '{name} ' || i as note from range({rows}) as numbers(i)
"""
_TASK = {
    "model": "gpt-4o-mini",
    "system": "Summarise the note.",
    "user": "{note}",
    "output": ["summary"],
    "parameters": {"temperature": 0.1},
}


def _target(database: str, config: dict[str, Any]) -> dict[str, Any]:
    plugin = {"module": "dbt_enrich.plugin", "alias": "enrich", "config": config}
    return {"type": "duckdb", "path": database, "threads": 2, "plugins": [plugin]}


def _write_project(directory: Path, checkout: Path) -> None:
    targets = {"local": _target("notes.duckdb", _LOCAL), "azure": _target("azure.duckdb", _AZURE)}
    columns = [{"name": "summary", "data_type": "varchar", "description": "One sentence"}]
    tasks = {"notes_enriched": _TASK, "packs_enriched": {**_TASK, "rows_per_request": 3}}
    documents: dict[str, Any] = {
        "dbt_project.yml": {
            "name": "notes",
            "profile": "notes",
            "version": "1.0",
            "config-version": 2,
            "flags": {"send_anonymous_usage_stats": False},
        },
        "packages.yml": {"packages": [{"local": str(checkout.resolve())}]},
        "profiles.yml": {"notes": {"target": "local", "outputs": targets}},
        "models/enriched.yml": {
            "models": [
                {"name": name, "config": {"meta": {"enrichment": task}}, "columns": columns}
                for name, task in tasks.items()
            ]
        },
    }
    for path, document in documents.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    for model, name, rows in (
        ("notes_enriched", "note", "{{ var('rows', 6) }}"),
        ("packs_enriched", "packed", 6),
    ):
        text = _MODEL.format(name=name, rows=rows)
        (directory / f"models/{model}.sql").write_text(text, encoding="utf-8")
    (directory / "script.json").write_text(json.dumps(_RULES), encoding="utf-8")
    (directory / "dbt_packages").mkdir()
    (directory / "dbt_packages/dbt_enrich").symlink_to(checkout.resolve())


def _dbt(directory: Path, *arguments: str) -> None:
    command = [sys.executable, "-c", "from dbt.cli.main import cli; cli()", *arguments]
    subprocess.run([*command, "--profiles-dir", "."], cwd=directory, check=True)


def _leave_a_batch(directory: Path) -> None:
    """Send more rows to a batch server that answers nothing, and end it."""
    server = import_module("dbt_enrich.emulator.process")
    responders = import_module("dbt_enrich.emulator.responders")
    spec = responders.ResponderSpec(
        "scripted", script=(directory / "script.json").resolve(), slots=4, threads=2
    )
    local = directory.resolve() / ".enrichment/local"
    membership = server.join_emulator(local, spec=spec)
    headers = {"api-key": membership.api_key}
    pause = urllib.request.Request(  # noqa: S310
        f"{membership.url}/_control/pause", method="POST", headers=headers
    )
    urllib.request.urlopen(pause).close()  # noqa: S310
    given = json.dumps({"rows": 9, "enrichment_mode": "submit"})
    _dbt(directory, "run", "--select", "notes_enriched", "--vars", given)
    process = json.loads((local / "address.json").read_text(encoding="utf-8"))["pid"]
    os.kill(process, signal.SIGKILL)
    membership.release()


def _pack(directory: Path) -> None:
    with zipfile.ZipFile(ARCHIVE, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(directory.rglob("*")):
            name = path.relative_to(directory)
            is_kept = path.suffix not in (".lock", ".sqlite-shm") and not _LEFT_OUT.intersection(
                name.parts
            )
            if path.is_file() and is_kept:
                archive.write(path, name)


def main(checkout: Path) -> None:
    """Make the archive."""
    with tempfile.TemporaryDirectory() as parent:
        directory = Path(parent) / "notes"
        directory.mkdir()
        _write_project(directory, checkout)
        _dbt(directory, "run")
        # The batch server of the run ends some seconds after it.
        time.sleep(8)
        _leave_a_batch(directory)
        _pack(directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
