"""Texts of many kilobytes are staged, written and loaded within the usual memory, all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from benchmarks.answers import answer_requests
from benchmarks.engine import Stages, open_warehouse, publish_table
from dbt_enrich.endpoints.packs import Packing
from dbt_enrich.errors import EnrichmentError
from dbt_enrich.warehouse.copy_out import copy_table

# A text of so many characters, that tells its row from all others.
TEXT = (
    "left(i || ' drama film ' || "
    "repeat(md5(i::varchar) || ' ', ({length} // 33 + 1)::bigint), {length})"
)


@contextmanager
def warehouse_of(
    directory: Path, rows: int, length: str
) -> Iterator[tuple[duckdb.DuckDBPyConnection, list[str]]]:
    """Open a warehouse with movies whose texts have so many characters; it may hold 100 MB.

    Args:
        directory: Where its file goes.
        rows: How many movies there are.
        length: An SQL expression over a movie's number `i`.

    Yields:
        The warehouse, and the texts in order.
    """
    path = directory / "movies.duckdb"
    with duckdb.connect(str(path)) as made:
        made.execute(
            f"create table movies as select i as movie_id, 'Movie ' || i as title, "
            f"{TEXT.format(length=f'({length})')} as overview from range({rows}) as numbers(i)"
        )
        texts = [text for (text,) in made.execute("select overview from movies").fetchall()]
    with open_warehouse(path) as warehouse:
        yield warehouse, sorted(texts)


def copy(warehouse: duckdb.DuckDBPyConnection, directory: Path) -> tuple[Path, ...]:
    """Copy the texts to files."""
    return copy_table(
        warehouse,
        lambda where: f"select overview from movies {where}",
        "movies",
        "overview",
        directory,
        rows="the movies",
    )


def copied(files: tuple[Path, ...]) -> list[str]:
    """Return the texts that files hold."""
    with duckdb.connect() as reader:
        names = [str(path) for path in files]
        found = reader.execute("select overview from read_parquet(?)", [names]).fetchall()
    return [text for (text,) in found]


def asked(stages: Stages) -> Iterator[str]:
    """Yield the message of each line of the request files."""
    for path in stages.run.store.requests("x").parent.glob("*.jsonl"):
        with path.open() as lines:
            for line in lines:
                yield json.loads(line)["body"]["messages"][-1]["content"]


@pytest.mark.parametrize(
    "length",
    [
        pytest.param("12_000", id="all-long"),
        pytest.param("case when i < 300 then 50_000 else 20 end", id="first-long"),
        pytest.param("case when i >= 4_500 then 15_000 else 20 end", id="last-long"),
        pytest.param("case when i % 40 = 0 then 100_000 else 20 end", id="some-long"),
    ],
)
def test_long_texts_reach_the_table(tmp_path: Path, length: str) -> None:
    """Each is asked as it stands, and answered, with the memory that short ones need."""
    with warehouse_of(tmp_path, 6_000, length) as (warehouse, texts):
        stages = Stages(tmp_path / "state", warehouse)
        rows = stages.stage()
        shards = stages.write(rows, stages.claim(rows))
        assert sorted(asked(stages)) == texts
        for shard in shards:
            name = shard.shard
            store = stages.run.store
            answer_requests(store.requests(name), store.response(name, "output"))
            stages.load(shard)
        published = stages.publish(rows)
        stages.close()
        publish_table(warehouse, published.enriched_sql, published.errors_sql)
        found = warehouse.execute(
            "select overview from movies_enriched "
            "where enrichment_status = 'done' and summary = 'summary: ' || left(overview, 200)"
        ).fetchall()
    assert sorted(text for (text,) in found) == texts


def test_too_little_memory_has_a_name(tmp_path: Path) -> None:
    """It is the warehouse's own limit that must be raised."""
    with warehouse_of(tmp_path, 150, "1_000_000") as (warehouse, _):
        stages = Stages(tmp_path / "state", warehouse)
        with pytest.raises(EnrichmentError, match=r"(?s)'movies'.* memory_limit of the warehouse"):
            stages.stage()
        stages.close()


def test_long_texts_are_packed(tmp_path: Path) -> None:
    """With several rows in a request, each row is in one of them."""
    with warehouse_of(tmp_path, 3_000, "12_000") as (warehouse, texts):
        stages = Stages(tmp_path / "state", warehouse, Packing(rows=10))
        rows = stages.stage()
        stages.write(rows, stages.claim(rows))
        packs = [json.loads(message) for message in asked(stages)]
        assert len(packs) == 300
        assert sorted(text for pack in packs for text in pack.values()) == texts
        stages.close()


@pytest.mark.parametrize("length", [10, 3_000, 50_000])
def test_every_row_is_copied_once(tmp_path: Path, length: int) -> None:
    """Also where rows were deleted, and their numbers have gaps."""
    with warehouse_of(tmp_path, 1_500, str(length)) as (warehouse, texts):
        warehouse.execute("delete from movies where movie_id < 200 or movie_id % 7 = 0")
        files = copy(warehouse, tmp_path / "copied")
        left = [text for text in texts if (i := int(text.split()[0])) >= 200 and i % 7]
        assert sorted(copied(files)) == left


def test_a_table_without_rows_is_copied(tmp_path: Path) -> None:
    """As files that hold its columns."""
    with warehouse_of(tmp_path, 0, "10") as (warehouse, _):
        files = copy(warehouse, tmp_path / "copied")
        assert files
        assert copied(files) == []
