"""The rows of every benchmark, and what each of them has to become: the same for all contenders.

A row's answer follows from its text alone, as the emulator's scripted responder gives it. What a
contender made of the rows is therefore compared with what they must become, row by row, in SQL.
"""

from __future__ import annotations

import re
from collections.abc import Callable
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
# As the language model is told of them.
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


def categories_sql(overview: str) -> str:
    """Build the SQL expression of a row's categories, over its overview."""
    return f"split(split_part({overview}, ' ', 1) || ' drama film', ' ')"


def summary_sql(overview: str) -> str:
    """Build the SQL expression of a row's summary, over its overview."""
    return f"'summary: ' || left({overview}, {_SUMMARY_CHARACTERS})"


def _people_sql(overview: str) -> str:
    return (
        f"list_transform(split({overview}, ' ')[4:6], "
        "lambda word: {'name': word, 'role': 'the ' || word})"
    )


def _release_sql(overview: str) -> str:
    return f"{{'year': 1950 + length({overview}) % 70, 'country': left({overview}, 1)}}"


@dataclass(frozen=True)
class Output:
    """A column that is asked for.

    Attributes:
        name: Its name.
        data_type: Its type in SQL.
        description: What the language model is told of it.
        sql: Builds the SQL expression of its value, over a row's overview.
    """

    name: str
    data_type: str
    description: str
    sql: Callable[[str], str]


_USUAL_OUTPUTS = (
    Output("categories", "varchar[]", CATEGORIES, categories_sql),
    Output("summary", "varchar", SUMMARY, summary_sql),
)
_NESTED_OUTPUTS = (
    Output("people", "struct(name varchar, role varchar)[]", "Who is in it", _people_sql),
    Output("release", "struct(year integer, country varchar)", "When and where", _release_sql),
)


@dataclass(frozen=True)
class Shape:
    """What the rows and their answers are like.

    Attributes:
        name: What it is called on the page.
        columns: Columns of a row beside id, title and overview.
        failed_of: One answer of so many is cut off, and none of 0.
        outputs: The columns that are asked for.
    """

    name: str
    columns: int = 0
    failed_of: int = 0
    outputs: tuple[Output, ...] = _USUAL_OUTPUTS

    def fails_sql(self, overview: str) -> str:
        """Build the SQL condition of a row whose answer is cut off, over its overview."""
        number = f"cast(split_part({overview}, ' ', 1) as bigint)"
        return f"{number} % {self.failed_of} = 0" if self.failed_of else "false"

    def content_sql(self, overview: str) -> str:
        """Build the SQL expression of the text of a row's answer, over its overview."""
        fields = ", ".join(f"{one.name}: {one.sql(overview)}" for one in self.outputs)
        content = f"cast(to_json({{{fields}}}) as varchar)"
        if not self.failed_of:
            return content
        return f"if({self.fails_sql(overview)}, left({content}, 40), {content})"


USUAL = Shape("usual rows")
SHAPES = {
    "usual": USUAL,
    "wide": Shape("40 more columns", columns=40),
    "failed": Shape("5 % of the answers cut off", failed_of=20),
    "nested": Shape("nested outputs", outputs=_USUAL_OUTPUTS + _NESTED_OUTPUTS),
}
# What a further column of a row is, one after the other.
_FURTHER = (
    "'text ' || hash(i * 41 + {n}) % 1000",
    "hash(i * 43 + {n}) % 1000000",
    "cast(hash(i * 47 + {n}) % 100000 as double) / 7",
    "timestamp '2020-01-01' + to_seconds(cast(hash(i * 53 + {n}) % 100000000 as bigint))",
)


@dataclass(frozen=True)
class Outcome:
    """What a table holds, in two numbers.

    Attributes:
        rows: Its rows that are answered.
        checksum: Sum of a hash of each row's id and outputs.
    """

    rows: int
    checksum: int


def make_warehouse(path: Path, rows: int, shape: Shape = USUAL) -> None:
    """Write a DuckDB file with the table `movies`: an id, a title, an overview of 20 to 40 words.

    The first three words of an overview are its row's categories.
    """
    with duckdb.connect(str(_absent(path))) as warehouse:
        warehouse.execute(f"create table movies as {movies_sql(f'range({rows})', shape)}")


def movies_sql(numbers: str, shape: Shape = USUAL) -> str:
    """Build the SELECT of the movies of some numbers, given as a table expression of one column."""
    words = ", ".join("'" + word.replace("'", "''") + "'" for word in _WORDS)
    further = "".join(
        f", {_FURTHER[n % len(_FURTHER)].format(n=n)} as further_{n}" for n in range(shape.columns)
    )
    return f"""
        select
            i as movie_id,
            'Movie ' || i as title,
            i || ' drama film ' || list_aggregate(list_transform(
                range((20 + hash(i) % 21)::bigint),
                lambda n: ([{words}])[1 + (hash(i * 100 + n) % {len(_WORDS)})::integer]
            ), 'string_agg', ' ') as overview
            {further}
        from {numbers} as numbers(i)
    """


def expected(warehouse: Path, shape: Shape = USUAL) -> Outcome:
    """Return what the rows must become."""
    outputs = ", ".join(f"{one.sql('overview')} as {one.name}" for one in shape.outputs)
    answered = f"(select movie_id, {outputs} from movies where not ({shape.fails_sql('overview')}))"
    return _outcome(warehouse, answered, shape)


def outcome(warehouse: Path, shape: Shape = USUAL) -> Outcome:
    """Return what a contender made of the rows."""
    return _outcome(warehouse, "movies_enriched", shape)


def _absent(path: Path) -> Path:
    path.unlink(missing_ok=True)
    return path


def _outcome(warehouse: Path, relation: str, shape: Shape) -> Outcome:
    outputs = ", ".join(f"cast({one.name} as {one.data_type})" for one in shape.outputs)
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        found = connection.execute(
            f"select count(*), coalesce(sum(hash(movie_id::bigint, {outputs})::hugeint), 0) "
            f"from {relation} where summary is not null"
        ).fetchone()
    count, checksum = found or (0, 0)
    return Outcome(int(count), int(checksum))
