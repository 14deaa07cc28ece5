"""The rows of every benchmark, and what each of them has to become: the same for all contenders.

A row's answer follows from its text alone, as the emulator's scripted responder gives it. What a
contender made of the rows is therefore compared with what they must become, row by row, in SQL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

MODEL = "gpt-4o-mini"
SYSTEM = (
    "Your goal is to extract movie categories from movie descriptions, as well as a one-sentence "
    "summary of these movies. You will be provided with a movie description, and you will answer "
    "with a JSON object of two fields: categories, an array of the movie's genres in lower case, "
    "at most four, the most obvious ones; and summary, the film in one sentence."
)
PARAMETERS: dict[str, Any] = {"temperature": 0.1}
# As the language model is told of them; lists and texts, in this order.
CATEGORIES, SUMMARY = "Genres, lower case, at most four", "The film in one sentence"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "categories": {"type": "array", "items": {"type": "string"}, "description": CATEGORIES},
        "summary": {"type": "string", "description": SUMMARY},
    },
    "required": ["categories", "summary"],
    "additionalProperties": False,
}
# The scripted responder's summary is so much of the message.
_SUMMARY_CHARACTERS = 200
_WORDS = re.findall(
    r"\S+",
    """
    a the of and in who young old town war love family secret murder journey city night ship king
    détective “quoted” father's must finds loses returns discovers escape plan heist ghost winter
    river last first summer friends train island soldier singer teacher storm letter
    """,
)


@dataclass(frozen=True)
class Outcome:
    """What a table holds, in two numbers.

    Attributes:
        rows: Its rows that are answered.
        checksum: Sum of a hash of each row's id, categories and summary.
    """

    rows: int
    checksum: int


def make_warehouse(path: Path, rows: int) -> None:
    """Write a DuckDB file with the table `movies`: an id, a title, an overview of 20 to 40 words.

    The first three words of an overview are its row's categories.
    """
    words = ", ".join("'" + word.replace("'", "''") + "'" for word in _WORDS)
    path.unlink(missing_ok=True)
    with duckdb.connect(str(path)) as warehouse:
        warehouse.execute(
            f"""
            create table movies as
            select
                i as movie_id,
                'Movie ' || i as title,
                i || ' drama film ' || list_aggregate(list_transform(
                    range((20 + hash(i) % 21)::bigint),
                    lambda n: ([{words}])[1 + (hash(i * 100 + n) % {len(_WORDS)})::integer]
                ), 'string_agg', ' ') as overview
            from range({rows}) as numbers(i)
            """
        )


def categories_sql(overview: str) -> str:
    """Build the SQL expression of a row's categories, over its overview."""
    return f"split(split_part({overview}, ' ', 1) || ' drama film', ' ')"


def summary_sql(overview: str) -> str:
    """Build the SQL expression of a row's summary, over its overview."""
    return f"'summary: ' || left({overview}, {_SUMMARY_CHARACTERS})"


def expected(warehouse: Path) -> Outcome:
    """Return what the rows must become."""
    answers = (
        f"(select movie_id, {categories_sql('overview')} as categories, "
        f"{summary_sql('overview')} as summary from movies)"
    )
    return _outcome(warehouse, answers)


def outcome(warehouse: Path, table: str = "movies_enriched") -> Outcome:
    """Return what a contender made of the rows."""
    return _outcome(warehouse, table)


def _outcome(warehouse: Path, relation: str) -> Outcome:
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        found = connection.execute(
            "select count(*), coalesce(sum(hash(movie_id::bigint, categories::varchar[], "
            f"summary::varchar)::hugeint), 0) from {relation} where summary is not null"
        ).fetchone()
    count, checksum = found or (0, 0)
    return Outcome(int(count), int(checksum))
