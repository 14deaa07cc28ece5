"""Embeddings by dbt: a contract with a vector, and a table that is merged into."""

from __future__ import annotations

from pathlib import Path

import pytest
from batch_server.server import RunningEmulator
from support.dbt_project import DbtProject

MODEL = "text-embedding-3-small"


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path, door: str) -> DbtProject:
    """A project whose service is the emulator, by OpenAI's paths."""
    config = {
        "provider": "openai",
        "base_url": f"{emulator.url}/v1",
        "api_key": emulator.api_key,
        "poll_interval": 0.05,
        "adoption_grace": 0.0,
    }
    return DbtProject(tmp_path, config, door=door, stands_in=True)


def write(project: DbtProject, select: str) -> None:
    """Write the enrichment over a SELECT."""
    project.enrichment("vectors", select)
    task = {
        "endpoint": "embeddings",
        "model": MODEL,
        "user": "{note}",
        "output": ["vector"],
        "publish": "merge",
    }
    columns = [
        {"name": "vector", "data_type": "float[12]", "description": "What it is about"},
        {"name": "id", "data_type": "bigint"},
        {"name": "note", "data_type": "varchar"},
    ]
    config = {"meta": {"enrichment": task}, "contract": {"enforced": True}}
    model = {"name": "vectors", "config": config, "columns": columns}
    project.write("models/vectors.yml", {"models": [model]})


def test_a_contract_holds_and_a_merge_asks_what_is_new(
    project: DbtProject, emulator: RunningEmulator
) -> None:
    """The column is an array of its length, which SQL compares, after a merge as before."""
    numbers = "select i as id, 'note ' || i as note from range({}, {}) as numbers(i)"
    for first, end in ((0, 5), (3, 7)):
        write(project, numbers.format(first, end))
        project.dbt("--warn-error", "run")
    assert project.rows("describe vectors")[0][:2] == ("vector", "FLOAT[12]")
    same = "select count(*), max(array_cosine_similarity(vector, vector)) from vectors"
    ((rows, similarity),) = project.rows(same)
    assert rows == 7
    assert similarity == pytest.approx(1, abs=1e-6)
    asked = [batch["usage"]["prompt_tokens"] for batch in emulator.jobs.batches()]
    assert asked == [2 * 2, 5 * 2]
