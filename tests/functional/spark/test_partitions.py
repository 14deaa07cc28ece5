"""The engine's SQL inside partitions, over Sail: the keys of DuckDB, and a cluster of workers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.config.bucket_address import parse_bucket_address
from dbt_enrich.config.file_limits import ServiceLimits
from dbt_enrich.endpoints.choice import endpoint_of
from dbt_enrich.pipeline.export.new_requests import Selection
from dbt_enrich.pipeline.partitions import worker
from dbt_enrich.pipeline.partitions.engine import empty_relation
from dbt_enrich.pipeline.partitions.job import Addressee, Job, copied
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.options import EnrichmentOptions
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.warehouse.catalogs import Catalog
from dbt_enrich.warehouse.placement import Placement, place
from dbt_enrich.warehouse.spark_partitions import SparkRows, parts_of
from dbt_enrich.warehouse.spark_types import arrow_schema, held_type, spark_schema
from functional.spark.test_enrich import TYPES, selects_of_types
from support.parted import PartedWarehouse
from support.sail import sail_server, spark_session
from support.shared import SharedState
from support.warehouse import config_for
from unit.task.test_golden_keys import GOLDEN, keys_of


def frame_of(spark: Any, select: str) -> Any:
    """Return the rows of a SELECT of DuckDB as a DataFrame, in the types that Spark holds."""
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    described = connection.execute(f"describe {select}").fetchall()
    held = {row[0]: str(held_type(row[1])) for row in described}
    values = ", ".join(f'cast("{name}" as {kind}) as "{name}"' for name, kind in held.items())
    table = connection.execute(f"select {values} from ({select})").to_arrow_table()
    return spark.createDataFrame(table.cast(arrow_schema(held)), schema=spark_schema(held))


@pytest.mark.parametrize(
    ("rows", "parts"),
    [(0, 1), (100_001, 2), (10**7, 100), (10**8, 200), (10**9, 1_000)],
)
def test_many_rows_lie_in_few_parts(rows: int, parts: int) -> None:
    """As each part reads the keys of all answers."""
    assert parts_of(rows, 10**7) == parts


def job_of(task: EnrichmentTask, task_key: str, directory: Path) -> Job:
    """Return a job of which nothing is sent, with an empty ledger."""
    with Ledger(directory / "ledger.sqlite") as ledger:
        return Job(
            began=datetime.now(UTC),
            id="golden",
            ledger=copied(ledger, directory),
            bucket=parse_bucket_address(f"file://{directory}/bucket"),
            alive=frozenset(),
            selection=Selection(task, task_key, endpoint_of(task.endpoint), max_attempts=3),
            options=EnrichmentOptions(),
            enrichment="model.tests.golden",
            model="golden",
            unique_key=("id",),
            addressee=Addressee(("d",), {}, "s", ServiceLimits(10, 10_000), "/v1", "tests"),
            price=None,
            memory_limit="100MB",
            mask="",
        )


def keys_in_partitions(
    case: dict[str, Any], rows: Any, directory: Path
) -> tuple[str, dict[Any, str | None]]:
    """Return the task's key, and the rows' request keys by their id."""
    outputs = tuple(OutputColumn(**column) for column in case["outputs"])
    task = EnrichmentTask(outputs=outputs, **case["task"])
    task_key = task.task_key(case["answered_by"])
    job = job_of(task, task_key, directory)
    relation = empty_relation(rows.columns, ("id",), "golden")
    placed, _ = place(Placement(Catalog.SPARK), relation, outputs)
    columns = {"id": rows.columns["id"], "enrichment_key": "VARCHAR"}
    work = partial(worker.published, job, placed, columns, errors=False)
    found = rows.frame(partial(worker.keyed, job), work, columns).collect()
    keys = {row["id"]: row["enrichment_key"] for row in found}
    return task_key, keys


@pytest.mark.parametrize(
    "case",
    [case for case in GOLDEN if not case["task"].get("images")],
    ids=lambda case: case["name"],
)
def test_keys_are_those_of_duckdb(case: dict[str, Any], spark: Any, tmp_path: Path) -> None:
    """Each golden key, of every type that Spark has or holds as a text or a wider number."""
    rows = SparkRows(frame_of(spark, case["select"]), parts=2)
    ids = [
        row[0] for row in duckdb.connect().execute(f"select id from ({case['select']})").fetchall()
    ]
    task_key, keys = keys_in_partitions(case, rows, tmp_path)
    assert task_key == case["task_key"]
    assert [keys[id_] for id_ in ids] == case["request_keys"]


def test_every_type_has_the_key_that_duckdb_gives(spark: Any, tmp_path: Path) -> None:
    """Also where its values come out of Spark's own SQL."""
    select, duck = selects_of_types()
    user = " ".join(f"{{c{number}}}" for number in range(len(TYPES)))
    case = {
        "task": {"model": "gpt-4o-mini", "system": "Sort it.", "user": user},
        "outputs": [{"name": "topic", "data_type": "varchar", "description": "Which"}],
        "answered_by": "gpt-4o-mini",
        "select": duck,
    }
    _, keys = keys_in_partitions(case, SparkRows(spark.sql(select), parts=1), tmp_path)
    (tmp_path / "duckdb").mkdir()
    assert list(keys.values()) == keys_of(case, tmp_path / "duckdb")[1] != [None]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A session in a cluster of Sail with two workers, each with room for two parts."""
    settings = {
        "SAIL_MODE": "local-cluster",
        "SAIL_CLUSTER__WORKER_INITIAL_COUNT": "2",
        "SAIL_CLUSTER__WORKER_MAX_COUNT": "2",
        "SAIL_CLUSTER__WORKER_TASK_SLOTS": "2",
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, value in settings.items():
            patched.setenv(name, value)
        directory = tmp_path_factory.mktemp("cluster")
        with sail_server(directory) as port, spark_session(port) as session:
            yield session


def test_workers_of_a_cluster_pay_once(
    cluster: Any, emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal rows that lie apart meet in one part, and every row has its answer.

    Sail refuses more parts than there is room for: then there are fewer.
    """
    shared = SharedState(tmp_path / "bucket", monkeypatch)
    parted = PartedWarehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state"))
    select = "select i as id, 'note ' || i % 150 as note from range(200) as numbers(i)"
    rows = SparkRows(frame_of(cluster, select).repartition(3), parts=10)
    outcome = parted.engine.enrich_parted(parted.model(), rows)
    assert rows.parts == rows.at_once == 4
    found = outcome.enriched.select("id", "summary").collect()
    assert sorted(map(tuple, found)) == [(i, f"summary: note {i % 150}") for i in range(200)]
    account = emulator.account()
    assert len(account["paid"]) == 150
    assert set(account["custom_ids"].values()) == {1}
    assert list(shared.bucket.list("requests")) == []
