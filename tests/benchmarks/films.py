"""Real films: the IMDB top 1,000, a CSV file of Kaggle's that is read in place and never copied.

https://www.kaggle.com/datasets/harshitshankhdhar/imdb-dataset-of-top-1000-movies-and-tv-shows
"""

from __future__ import annotations

from pathlib import Path

import duckdb
from dbt_enrich.sql import literal


def make_films(csv: Path, warehouse: Path, rows: int | None = None) -> int:
    """Write the table `movies` of the films' ids, titles, overviews and genres.

    Args:
        csv: The file, with the columns Series_Title, Overview and Genre.
        warehouse: The DuckDB file.
        rows: How many films to take, spread over the file, or None for all of them.

    Returns:
        How many there are.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if not csv.exists():
        raise FileNotFoundError(
            f"the films' file {csv} is not there; fetch it as benchmarks/films.py says, and name "
            "it: make bench FILMS=imdb_top_1000.csv"
        )
    limit = "null" if rows is None else rows
    with duckdb.connect(str(warehouse)) as database:
        database.execute(
            f"""
            create or replace table movies as
            with films as (
                select
                    row_number() over () as movie_id,
                    Series_Title as title,
                    Overview as overview,
                    -- As the movies project calls it.
                    replace(Genre, 'Sci-Fi', 'Science fiction') as genres
                from read_csv({literal(csv)}, header = true)
            )
            select * from (select * from films order by hash(title) limit {limit})
            order by movie_id
            """
        )
        (count,) = database.execute("select count(*) from movies").fetchone() or (0,)
    return int(count)
