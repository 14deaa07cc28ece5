"""Request keys that every version, on every DuckDB, must go on giving: they are what was paid for.

`golden_keys.json` was written once. A key that changes asks every row of every user again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dbt_enrich.config.file_limits import ImageLimits
from dbt_enrich.pipeline.stage.picture_reader import ImageReading
from dbt_enrich.pipeline.stage.staged_rows import stage
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.warehouse.relation import StagedRelation
from dbt_enrich.workspace.database import Workspace

GOLDEN: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("golden_keys.json").read_text(encoding="utf-8")
)


def keys_of(case: dict[str, Any], directory: Path) -> tuple[str, list[str | None]]:
    """Return the task's key and the rows' request keys, in the rows' order."""
    outputs = tuple(OutputColumn(**column) for column in case["outputs"])
    task = EnrichmentTask(outputs=outputs, **case["task"])
    task_key = task.task_key(case["answered_by"])
    connection = duckdb.connect()
    connection.execute(f"create table staged as {case['select']}")
    relation = StagedRelation(connection, "staged", ("id",), "golden")
    workspace = Workspace(directory, memory_limit="100MB", threads=1)
    reading = ImageReading(directory, ImageLimits()) if task.images else None
    rows = stage(relation, task, task_key, workspace, (), reading)
    found = workspace.rows(
        f"select replace(cast(request_key as varchar), '-', '') from {rows.all_sql} order by row_id"
    )
    return task_key, [key for (key,) in found]


@pytest.mark.parametrize("case", GOLDEN, ids=[case["name"] for case in GOLDEN])
def test_the_keys_stay(case: dict[str, Any], tmp_path: Path) -> None:
    """A task and its rows have the keys that they had when the file was written."""
    assert keys_of(case, tmp_path) == (case["task_key"], case["request_keys"])
