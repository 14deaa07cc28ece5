"""The floor: as many bytes as another contender wrote and read, and the table written once."""

from __future__ import annotations

from pathlib import Path

from benchmarks.engine import open_warehouse
from benchmarks.measuring import Clock
from benchmarks.movies import MODEL, categories_sql, summary_sql

_BLOCK = 1 << 20


def run(directory: Path, clock: Clock, request_bytes: int, response_bytes: int) -> None:
    """Write so many bytes, and read so many that are there; then copy the table."""
    requests, responses = directory / "floor-requests", directory / "floor-responses"
    with clock.step("export"):
        _write(requests, request_bytes)
    _write(responses, response_bytes)
    with clock.step("load"), responses.open("rb") as file:
        while file.read(_BLOCK):
            pass
    _copy_table(directory / "movies.duckdb", clock)
    clock.figures["request_mb"] = requests.stat().st_size / 1_000_000
    clock.figures["response_mb"] = responses.stat().st_size / 1_000_000


def _write(path: Path, size: int) -> None:
    block = b"x" * _BLOCK
    with path.open("wb") as file:
        for written in range(0, size, _BLOCK):
            file.write(block[: size - written])


def _copy_table(path: Path, clock: Clock) -> None:
    """Write the enriched table, with its status columns, from one that is there already."""
    with open_warehouse(path) as warehouse:
        warehouse.execute(
            f"""
            create table answered as
            select
                movies.*,
                {categories_sql("overview")} as categories,
                {summary_sql("overview")} as summary,
                'done' as enrichment_status,
                cast(null as varchar) as enrichment_error,
                '{MODEL}' as enrichment_model,
                'batch_' || movie_id // 100000 as enrichment_batch_id,
                now() as enriched_at,
                md5(overview) as enrichment_key,
                '01234567' as enrichment_version
            from movies
            """
        )
        with clock.step("table"):
            warehouse.execute("create table movies_enriched as select * from answered")
            warehouse.execute("checkpoint")
