"""Spark itself, a master and two workers as processes; one is killed while it writes requests."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.config import PluginConfig
from dbt_enrich.config.state import StateKeys
from dbt_enrich.spark import failed_attempts
from dbt_enrich.warehouse.spark_partitions import SparkRows
from functional.spark.test_enrich import NOTES, Notebook, rows, statuses
from functional.spark.test_partitions import frame_of, keys_in_partitions
from support.parted import PartedWarehouse
from support.shared_ledger import LedgerServer
from support.spark_cluster import SparkCluster, spark_cluster
from support.warehouse import config_for
from unit.task.test_golden_keys import GOLDEN

pytestmark = pytest.mark.spark
ROWS, TEXTS, FILE_ROWS, PARTS = 6_000, 5_000, 150, 4
SELECT = (
    f"select i as id, 'note ' || i % {TEXTS} || repeat(' and so on', 20) as note "
    f"from range({ROWS}) as numbers(i)"
)


def spark_home() -> Path:
    """Return where Spark is: in PySpark's package, which its client alone does not have."""
    import pyspark

    home = Path(str(pyspark.__file__)).parent
    if not (home / "bin" / "spark-class").exists():
        pytest.fail("needs PySpark with Spark itself: make test-spark installs it")
    return home


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    """A master and two workers."""
    with spark_cluster(spark_home(), tmp_path_factory.mktemp("spark"), 2) as running:
        yield running


@pytest.fixture(scope="module")
def spark(cluster: SparkCluster) -> Iterator[Any]:
    """A session on the cluster, with speculation."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder: Any = SparkSession.builder
    settings = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.executor.memory": "512m",
        "spark.ui.enabled": "false",
        "spark.speculation": "true",
        "spark.speculation.interval": "50ms",
        "spark.speculation.multiplier": "1.1",
        "spark.speculation.quantile": "0.25",
        "spark.sql.session.timeZone": "UTC",
        # Of few rows, each of the usual 200 parts of a join would be a task that does nothing.
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.warehouse.dir": str(cluster.directory / "warehouse"),
    }
    builder = builder.master(cluster.url).appName("tests")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.mark.parametrize(
    "case",
    [case for case in GOLDEN if not case["task"].get("images")],
    ids=lambda case: case["name"],
)
def test_keys_are_those_of_duckdb(case: dict[str, Any], spark: Any, tmp_path: Path) -> None:
    """As over Sail."""
    rows = SparkRows(frame_of(spark, case["select"]).coalesce(1), parts=1)
    task_key, keys = keys_in_partitions(case, rows, tmp_path)
    assert task_key == case["task_key"]
    assert sorted(map(str, keys.values())) == sorted(map(str, case["request_keys"]))


class Killer(threading.Thread):
    """Kills a worker in the middle of a task that has written a file, and notes all files' names.

    Args:
        bucket: The directory that is the bucket.
        cluster: The cluster.
    """

    def __init__(self, bucket: Path, cluster: SparkCluster) -> None:
        super().__init__(daemon=True)
        self.seen: set[str] = set()
        self.has_killed = False
        self._own: set[str] = set()
        self._bucket, self._cluster = bucket, cluster
        self._ended = threading.Event()

    def run(self) -> None:
        """Watch until it is told to end."""
        while not self._ended.is_set():
            self.seen |= {path.stem for path in (self._bucket / "requests").glob("*/*.jsonl")}
            if not self.has_killed and self._is_in_the_middle():
                self.has_killed = True
                self._cluster.kill(0)
            time.sleep(0.001)

    def _is_in_the_middle(self) -> bool:
        """Whether the worker writes a file now, and one of its files is in the bucket."""
        with suppress(FileNotFoundError):
            now = self._cluster.temporary(0).glob("dbt-enrich-*/state/requests/*.jsonl")
            writing = {path.stem for path in now}
            self._own |= writing
            return bool(writing) and not self._own.isdisjoint(self.seen)
        return False

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()
        self.join()


def test_rows_stream_out_of_a_session_with_a_jvm(
    spark: Any, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """It has no client of Spark Connect: workers pack the batches, and tables are renamed."""
    notebook = Notebook(spark, config_for(emulator.url, emulator.api_key, tmp_path / "state"))
    expected = [(i, f"summary: note {i}", "done") for i in range(5)]
    for select in (NOTES, NOTES, f"{NOTES} where id > 0"):
        found = notebook.enrich(select)
        assert rows(found, "id", "summary", "enrichment_status") == expected[-found.count() :]
    assert set(emulator.account()["request_keys"].values()) == {1}
    assert len(spark.catalog.listTables("default_enrichment")) == 3


def shared_config(emulator: RunningEmulator, keys: StateKeys, state: Path) -> PluginConfig:
    """Return a configuration whose state all machines reach."""
    return config_for(
        emulator.url,
        emulator.api_key,
        state,
        max_requests_per_file=FILE_ROWS,
        state={
            "ledger": keys.ledger.get_secret_value(),
            "ledger_schema": keys.ledger_schema,
            "files": keys.files,
        },
    )


def test_results_of_rows_that_stay_are_put_together_in_spark(
    spark: Any, emulator: RunningEmulator, ledgers: LedgerServer, tmp_path: Path
) -> None:
    """Beside those that are there, by Spark's own SQL."""
    notebook = Notebook(spark, shared_config(emulator, ledgers.new(), tmp_path / "state"))
    emulator.rules([{"match": "note 2", "refusal": "no"}])
    given: dict[str, Any] = {"table": "parted", "partition_rows": 0}
    assert statuses(notebook.enrich(NOTES, **given)) == {"done": 4, "failed": 1}
    assert "parted: 4 done, 1 failed (refusal 1); 0 reused, 5 sent" in notebook.log[-2]
    changed = f"select id, if(id = 3, 'changed', note) as note from ({NOTES})"
    found = notebook.enrich(changed, **given)
    assert statuses(found) == {"done": 4, "failed": 1}
    assert (3, "summary: changed") in rows(found, "id", "summary")
    assert rows(failed_attempts(spark, "parted"), "id", "kind") == [(2, "refusal")]
    assert set(emulator.account()["custom_ids"].values()) == {1}


def test_a_killed_worker_pays_nothing_twice(
    spark: Any,
    cluster: SparkCluster,
    emulator: RunningEmulator,
    ledgers: LedgerServer,
    tmp_path: Path,
) -> None:
    """Its part is written once more elsewhere: what it had written, nobody names."""
    keys = ledgers.new()
    config = shared_config(emulator, keys, tmp_path / "state")
    bucket = Path(keys.files.removeprefix("file://"))
    rows = SparkRows(frame_of(spark, SELECT).repartition(PARTS), parts=PARTS)
    parted = PartedWarehouse(config)
    killer = Killer(bucket, cluster)
    killer.start()
    try:
        outcome = parted.engine.enrich_parted(parted.model(), rows)
    finally:
        killer.end()
    assert killer.has_killed
    assert not cluster.workers[0].is_running()
    account = emulator.account()
    assert len(account["paid"]) == TEXTS
    assert set(account["custom_ids"].values()) == {1}
    claimed = {batch["metadata"]["shard"] for batch in emulator.jobs.batches()}
    assert claimed < killer.seen
    found = outcome.enriched.groupBy("enrichment_status").count().collect()
    assert [tuple(row) for row in found] == [("done", ROWS)]
    texts = outcome.enriched.select("id", "summary", "note").collect()
    assert len({row["id"] for row in texts}) == ROWS
    assert all(row["summary"].startswith(f"summary: {row['note'][:6]}") for row in texts)
