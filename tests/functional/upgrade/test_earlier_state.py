"""A project and its state directory from an earlier version work unchanged, and pay for nothing.

`make_earlier_state.py` made them with that version's code.
"""

from __future__ import annotations

import json
import re
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
import yaml
from batch_server.server import RunningEmulator
from support.dbt_project import REPOSITORY
from support.forked_dbt import run_forked

_NINE_ROWS = ("--vars", "{rows: 9}")
_PUBLISHED = """
    select id, enrichment_status, summary, enriched_at from notes_enriched where id < 6
    union all select id, enrichment_status, summary, enriched_at from packs_enriched where id < 6
    order by all
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project's directory, unpacked, with the package of today."""
    directory = tmp_path / "notes"
    with zipfile.ZipFile(Path(__file__).with_name("earlier_state.zip")) as archive:
        archive.extractall(directory)
    # An archive has no modes.
    for path in [directory / ".enrichment", *(directory / ".enrichment").rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    packages = {"packages": [{"local": str(REPOSITORY)}]}
    (directory / "packages.yml").write_text(yaml.safe_dump(packages), encoding="utf-8")
    (directory / "dbt_packages").mkdir()
    (directory / "dbt_packages/dbt_enrich").symlink_to(REPOSITORY)
    return directory


def run(project: Path, program: str, *arguments: str, **environment: str) -> str:
    """Run a command in the project, which succeeds, and return what it printed."""
    code, output = run_forked(
        program,
        *arguments,
        directory=project,
        environment={"DBT_PROFILES_DIR": str(project), **environment},
    )
    assert code == 0, output
    assert "Traceback" not in output
    return output


def rows(project: Path, sql: str, *, database: str = "notes.duckdb") -> list[tuple[object, ...]]:
    """Return the rows of a query on a warehouse."""
    with duckdb.connect(str(project / database), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def answered(project: Path) -> dict[str, list[str]]:
    """Return the ids of the batches that the batch server has, with the requests it answered."""
    local = project / ".enrichment/local"
    with closing(sqlite3.connect(local / "emulator.sqlite")) as records:
        batches = records.execute("select id from records where kind = 'batch'").fetchall()
    found = {}
    for (batch,) in batches:
        results = local / f"results/{batch}.jsonl"
        lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
        found[batch] = sorted(json.loads(line)["custom_id"] for line in lines)
    return found


def test_its_answers_are_kept_and_its_batch_comes_home(project: Path) -> None:
    """Commands read it, and a run asks the batch server for the batch it has and nothing else."""
    before = answered(project)
    published = rows(project, _PUBLISHED)
    (in_flight,) = (batch for batch, requests in before.items() if not requests)
    status = run(project, "dbt-enrich", "status")
    assert re.search(rf"{in_flight} +waits", status)
    assert re.search(r"notes_enriched +5 +3 +0 +1 ", status)
    versions = run(project, "dbt-enrich", "versions", "notes_enriched")
    assert re.search(r"85e3ae05 .* 11  published +0  first", versions)
    assert "ledger: whole, with 1 batch in flight" in run(project, "dbt-enrich", "doctor")
    output = run(project, "dbt", "run", *_NINE_ROWS)
    assert "notes_enriched: 8 done, 1 failed (refusal 1); 5 reused, 0 sent" in output
    assert "packs_enriched: 6 done; 6 reused, 0 sent" in output
    assert rows(project, _PUBLISHED) == published
    for table in ("notes_enriched", "packs_enriched"):
        types = {row[0]: row[1] for row in rows(project, f"describe {table}")}
        assert types["enrichment_key"] == "UUID"
        assert str(types["enrichment_status"]).startswith("ENUM")
    after = answered(project)
    assert len(after.pop(in_flight)) == 3
    assert after == {batch: requests for batch, requests in before.items() if requests}


def test_its_tasks_may_ask_another_endpoint(project: Path) -> None:
    """No answer is asked again, and its batch in flight is read as the chat completions it is.

    The row that failed for good is, as wherever the way of a request has changed.
    """
    path = project / "models/enriched.yml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    for model in document["models"]:
        model["config"]["meta"]["enrichment"]["endpoint"] = "responses"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    output = run(project, "dbt", "run", *_NINE_ROWS)
    assert "notes_enriched: 8 done, 1 failed (refusal 1); 5 reused, 1 sent" in output
    assert "packs_enriched: 6 done; 6 reused, 0 sent" in output
    with closing(sqlite3.connect(project / ".enrichment/ledger.sqlite")) as ledger:
        found = ledger.execute("select endpoint, sum(requests) from batches group by 1 order by 1")
        (_, before), (endpoint, asked) = found.fetchall()
    assert (before > 5, endpoint, asked) == (True, "responses", 1)


def test_its_profile_of_azure_works(project: Path, emulator: RunningEmulator) -> None:
    """With all the keys that it has."""
    emulator.deployments({"name": "mini-batch"})
    output = run(
        project,
        *("dbt", "run", "--target", "azure"),
        AZURE_OPENAI_ENDPOINT=emulator.url,
        AZURE_OPENAI_API_KEY=emulator.api_key,
    )
    assert "notes_enriched: 6 done; 0 reused, 6 sent" in output
    (batch,) = {batch["endpoint"] for batch in emulator.jobs.batches()}
    assert batch == "/chat/completions"
