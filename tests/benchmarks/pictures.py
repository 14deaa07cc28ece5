"""Pictures of 100 kB on their way out: from files, and from BLOBs of the warehouse.

    python -m benchmarks.pictures DIRECTORY ROWS files|blobs

What is looked at is the memory: it must not grow with the number of pictures.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import duckdb
from benchmarks.engine import Stages, open_warehouse
from benchmarks.measuring import Clock, Figures, in_fresh_process, resident_mb, size_mb
from benchmarks.movies import MODEL
from dbt_enrich.config.file_limits import ImageLimits
from dbt_enrich.console.timings import Stage, Timings
from dbt_enrich.pipeline.stage.picture_reader import ImageReading
from dbt_enrich.pipeline.stage.staged_rows import StagedRows, stage
from dbt_enrich.sql import literal
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.schema import OutputColumn
from support.pictures import png

BYTES = 100_000
WAYS = ("files", "blobs")
TASK = EnrichmentTask(
    model=MODEL,
    user="What is this?",
    images=("picture",),
    outputs=(OutputColumn(name="caption", data_type="varchar"),),
)


class PictureStages(Stages):
    """The stages over pictures that lie in a directory."""

    def __init__(self, state: Path, warehouse: duckdb.DuckDBPyConnection, directory: Path) -> None:
        super().__init__(state, warehouse, asked=TASK)
        self._reading = ImageReading(directory, ImageLimits())

    def stage(self) -> StagedRows:
        """Read the pictures and key the rows."""
        return stage(
            self.request.relation, self.task, self.task_key, self.run.workspace, (), self._reading
        )


def make_pictures(directory: Path, rows: int, way: str) -> None:
    """Make a warehouse of so many rows, each with a picture of its own."""
    (directory / "pictures").mkdir()
    with duckdb.connect(str(directory / "movies.duckdb")) as warehouse:
        for number in range(rows):
            data = png((number % 256, number // 256 % 256, number // 65_536), pad=BYTES - 100)
            (directory / "pictures" / f"{number}.png").write_bytes(data)
        paths = literal(directory / "pictures" / "*.png")
        value = "'pictures/' || i || '.png'"
        source = f"select i as movie_id, {value} as picture from range({rows}) as numbers(i)"
        if way == "blobs":
            warehouse.execute("set memory_limit = '2GB'")
            source = (
                "select row_number() over () as movie_id, content as picture "
                f"from read_blob({paths})"
            )
        warehouse.execute(f"create table movies as {source}")
    if way == "blobs":
        shutil.rmtree(directory / "pictures")


def run(directory: Path, clock: Clock) -> None:
    """Stage the pictures, claim the rows and write the request files."""
    timings = Timings(watches_memory=True)
    with open_warehouse(directory / "movies.duckdb") as warehouse:
        stages = PictureStages(directory / "state", warehouse, directory)
        with clock.step("stage"), timings.span(Stage.STAGE):
            rows = stages.stage()
        with clock.step("write"):
            with timings.span(Stage.CLAIM):
                claimed = stages.claim(rows)
            with timings.span(Stage.WRITE):
                shards = stages.write(rows, claimed)
        files = [stages.run.store.requests(shard.shard) for shard in shards]
        clock.figures["files"] = len(files)
        clock.figures["request_mb"] = sum(file.stat().st_size for file in files) / 1_000_000
        clock.figures["export_peak_mb"] = resident_mb()
        stages.close()
        stages.scratch.close()
    timings.close()
    clock.figures["state_left_mb"] = size_mb(directory / "state")


def measure(rows: int, way: str, scratch: Path) -> Figures:
    """Make the pictures, and measure their way out in a process of its own."""
    with tempfile.TemporaryDirectory(dir=scratch) as made:
        directory = Path(made)
        make_pictures(directory, rows, way)
        return in_fresh_process(["benchmarks.pictures", directory])


def contenders(rows: int, scratch: Path) -> dict[str, partial[Figures]]:
    """Return what measures each way, by name."""
    return {way: partial(measure, rows, way, scratch) for way in WAYS}


if __name__ == "__main__":
    OWN = Clock()
    run(Path(sys.argv[1]), OWN)
    OWN.report()
