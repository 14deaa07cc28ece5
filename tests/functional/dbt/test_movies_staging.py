"""The movies project's seed, and how it and the IMDB file are staged by a real dbt."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import runpy
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from dbt_enrich.task.from_yaml import task_from_yaml
from support.forked_dbt import run_forked

ROOT = Path(__file__).parents[3]
SEED = ROOT / "seeds" / "movies.csv"
GENRES = {
    "action",
    "adventure",
    "animation",
    "biography",
    "comedy",
    "crime",
    "documentary",
    "drama",
    "family",
    "fantasy",
    "history",
    "horror",
    "music",
    "musical",
    "mystery",
    "romance",
    "science fiction",
    "sport",
    "thriller",
    "war",
    "western",
}

COLUMNS = {
    "source_row": "BIGINT",
    "movie_id": "VARCHAR",
    "title": "VARCHAR",
    "released_year": "INTEGER",
    "runtime_minutes": "INTEGER",
    "director": "VARCHAR",
    "genres": "VARCHAR[]",
    "overview": "VARCHAR",
    "rating": "DOUBLE",
    "metascore": "INTEGER",
    "votes": "BIGINT",
    "gross_usd": "BIGINT",
}

IMDB_COLUMNS = [
    "Poster_Link",
    "Series_Title",
    "Released_Year",
    "Certificate",
    "Runtime",
    "Genre",
    "IMDB_Rating",
    "Overview",
    "Meta_score",
    "Director",
    "Star1",
    "Star2",
    "Star3",
    "Star4",
    "No_of_Votes",
    "Gross",
]
IMDB_ROWS: list[dict[str, str]] = [
    {
        "Series_Title": "The Godfather",
        "Released_Year": "1972",
        "Runtime": "175 min",
        "Genre": "Crime, Drama",
        "IMDB_Rating": "9.2",
        "Overview": "A Mafia boss hands over to a son who never wanted it.",
        "Meta_score": "100",
        "Director": "Francis Ford Coppola",
        "No_of_Votes": "1620367",
        "Gross": "134,966,411",
    },
    {
        "Series_Title": "Apollo 13",
        "Released_Year": "PG",
        "Runtime": "140 min",
        "Genre": "Adventure, Drama, History",
        "IMDB_Rating": "7.6",
        "Overview": 'Three astronauts, "a problem", and a long way home.',
        "Director": "Ron Howard",
    },
    {
        "Series_Title": " Metropolis\u00a0",
        "Released_Year": "1927",
        "Runtime": "153 min",
        "Genre": "Drama, Sci-Fi",
        "Overview": "\tA city of towers,\nand the machines below it. ",
        "Director": "Fritz Lang",
    },
    {
        "Series_Title": "The Third Man",
        "Released_Year": "1949",
        "Runtime": "104 min",
        "Genre": "Film-Noir, Mystery, Thriller",
        "Overview": "Vienna, penicillin, a zither.",
        "Director": "Carol Reed",
    },
    {"Series_Title": "Drishyam", "Released_Year": "2013", "Overview": "A family hides a crime."},
    {"Series_Title": "Drishyam", "Released_Year": "2015", "Overview": "A family hides a crime."},
    {"Series_Title": "Drishyam", "Released_Year": "2015", "Overview": "The same film again."},
    {"Series_Title": "Amélie", "Released_Year": "2001", "Overview": "  \u00a0"},
    {"Series_Title": "", "Released_Year": "2001", "Overview": "A film that nobody named."},
    {"Series_Title": "羅生門", "Released_Year": "1950", "Overview": "Four people, four stories."},
    {"Series_Title": "???", "Released_Year": "n/a", "Overview": "A title without a letter."},
]


_SETTING_OF_THE_PROJECT = re.compile(r"AZURE_|DBT_|MOVIES_").match


@dataclass(frozen=True)
class MoviesProject:
    """A copy of the movies project, with its package installed, that dbt can be run in."""

    directory: Path

    def dbt(self, *arguments: str, warehouse: Path, **variables: str) -> str:
        """Run dbt with warnings as errors and return its log.

        Raises:
            AssertionError: dbt failed.
        """
        code, text = self.attempt(*arguments, warehouse=warehouse, **variables)
        assert code == 0, text
        return text

    def attempt(self, *arguments: str, warehouse: Path, **variables: str) -> tuple[int, str]:
        """Run dbt, whether it succeeds or not; return its exit code and its log."""
        if variables:
            arguments = (*arguments, "--vars", json.dumps(variables))
        inherited = {
            name: value for name, value in os.environ.items() if not _SETTING_OF_THE_PROJECT(name)
        }
        return run_forked(
            "dbt",
            *("--no-use-colors", "--warn-error", *arguments),
            directory=self.directory,
            environment={
                **inherited,
                "MOVIES_WAREHOUSE": str(warehouse),
                "DBT_ENRICH_STATE_DIR": f"{warehouse}.enrichment",
                "DBT_LOG_PATH": f"{warehouse}.logs",
                "DBT_TARGET_PATH": f"{warehouse}.target",
            },
            inherits=False,
        )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> MoviesProject:
    """The movies project and the package beside it, as a clone of the repository has them."""
    clone = tmp_path_factory.mktemp("clone")
    build = shutil.ignore_patterns(
        "target", "logs", "dbt_packages", "package-lock.yml", "*.duckdb*"
    )
    for directory in ("dbt_project", "seeds", "macros"):
        shutil.copytree(ROOT / directory, clone / directory, ignore=build)
    shutil.copy(ROOT / "dbt_project.yml", clone)
    movies = MoviesProject(clone / "dbt_project")
    movies.dbt("deps", warehouse=clone / "unused.duckdb")
    return movies


@pytest.fixture(scope="module")
def staged_seed(
    project: MoviesProject, tmp_path_factory: pytest.TempPathFactory
) -> duckdb.DuckDBPyConnection:
    """A warehouse with the seed staged and tested."""
    warehouse = tmp_path_factory.mktemp("seed") / "movies.duckdb"
    project.dbt("build", "--select", "+stg_movies_rejected", warehouse=warehouse)
    return duckdb.connect(warehouse, read_only=True)


@pytest.fixture(scope="module")
def staged_imdb(
    project: MoviesProject, tmp_path_factory: pytest.TempPathFactory
) -> duckdb.DuckDBPyConnection:
    """A warehouse with a file of IMDB's layout staged and tested."""
    directory = tmp_path_factory.mktemp("imdb")
    file = write_csv(directory / "film's list [1].csv", IMDB_COLUMNS, IMDB_ROWS)
    project.dbt(
        "build",
        "--select",
        "+stg_movies_rejected",
        warehouse=directory / "movies.duckdb",
        movies_csv=str(file),
    )
    return duckdb.connect(directory / "movies.duckdb", read_only=True)


def write_csv(path: Path, columns: list[str], rows: list[dict[str, str]]) -> Path:
    """Write a CSV file; a column that a row does not give is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def read_seed() -> list[dict[str, str]]:
    """Read the seed as texts."""
    with SEED.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def by_id(connection: duckdb.DuckDBPyConnection, column: str) -> dict[str, Any]:
    """Return one column of the staged films by film."""
    return dict(connection.execute(f"select movie_id, {column} from stg_movies").fetchall())


def columns_of(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    """Return the names and types of a table's columns, in order."""
    described = connection.execute(f"describe {table}").fetchall()
    return {row[0]: row[1] for row in described}


# The seed


def test_the_seed_has_the_size_and_the_columns_that_are_promised() -> None:
    """160 to 200 films, each with an id of its own and every fact filled in."""
    rows = read_seed()
    assert 160 <= len(rows) <= 200
    assert list(rows[0]) == [
        "movie_id",
        "title",
        "released_year",
        "runtime_minutes",
        "director",
        "genres",
        "overview",
    ]
    assert len({row["movie_id"] for row in rows}) == len(rows)
    for row in rows:
        assert re.fullmatch(rf"[a-z0-9]+(-[a-z0-9]+)*-{row['released_year']}", row["movie_id"])
        assert all(row[column].strip() for column in row if column != "overview"), row
        assert 1920 <= int(row["released_year"]) <= 2029
        assert 40 <= int(row["runtime_minutes"]) <= 600


def test_the_seed_spans_genres_and_decades() -> None:
    """Every decade from the 1920s and every genre has enough films to count."""
    rows = read_seed()
    decades = Counter(int(row["released_year"]) // 10 * 10 for row in rows)
    assert sorted(decades) == list(range(1920, 2030, 10))
    assert min(decades.values()) >= 8
    genres = Counter(genre for row in rows for genre in row["genres"].split("|"))
    assert set(genres) == GENRES
    assert min(genres.values()) >= 8
    for row in rows:
        listed = row["genres"].split("|")
        assert listed == sorted(set(listed)), row
        assert len(listed) <= 4, row


def test_overviews_are_short_and_all_but_two_differ() -> None:
    """15 to 50 words each; one is empty, and two films share theirs."""
    overviews = [row["overview"] for row in read_seed()]
    assert overviews.count("") == 1
    for overview in filter(None, overviews):
        assert 15 <= len(overview.split()) <= 50, overview
    repeated = {text: count for text, count in Counter(overviews).items() if count > 1}
    assert list(repeated.values()) == [2]
    twins = [row for row in read_seed() if row["overview"] in repeated]
    assert {(row["title"], row["released_year"]) for row in twins} == {
        ("Funny Games", "1997"),
        ("Funny Games", "2007"),
    }


@pytest.mark.parametrize(
    "awkward",
    ['"', "“", ",", "'", "\n", "%", "{", "}", "\\", "&", "$", "\u0308", "\u200c"],
    ids=lambda text: f"U+{ord(text):04X}",
)
def test_the_seed_keeps_awkward_characters(awkward: str) -> None:
    """What breaks careless quoting stands somewhere in a title or an overview."""
    assert any(awkward in row["title"] + row["overview"] for row in read_seed())


def test_the_seed_has_many_scripts_and_an_emoji() -> None:
    """Latin with accents, Cyrillic, kanji, kana, hangul, Devanagari, Bengali, right to left."""
    text = "".join(row["title"] + row["overview"] for row in read_seed())
    for sample in "éЧ侍ゴ생लপدא":
        assert sample in text
    assert any(ord(character) > 0xFFFF for character in text)


def test_the_seed_file_is_plain_utf_8() -> None:
    """No byte order mark, line feeds only, and quotes as the csv module would set them."""
    data = SEED.read_bytes()
    assert not data.startswith(b"\xef\xbb\xbf")
    assert b"\r" not in data
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    assert text.getvalue() == data.decode()


# Staging


@pytest.mark.parametrize("source", ["staged_seed", "staged_imdb"])
def test_both_sources_give_the_same_columns(source: str, request: pytest.FixtureRequest) -> None:
    """Models further down need not know which file was staged."""
    connection = request.getfixturevalue(source)
    assert columns_of(connection, "stg_movies") == COLUMNS
    assert columns_of(connection, "stg_movies_rejected") == {
        "source_row": "BIGINT",
        "title": "VARCHAR",
        "reason": "VARCHAR",
        "source_values": "JSON",
    }


@pytest.mark.parametrize(
    ("source", "rows"), [("staged_seed", len(read_seed())), ("staged_imdb", len(IMDB_ROWS))]
)
def test_every_row_is_staged_or_rejected_once(
    source: str, rows: int, request: pytest.FixtureRequest
) -> None:
    """No row of the source is lost, and none is there twice."""
    connection = request.getfixturevalue(source)
    found = connection.execute(
        "select source_row from stg_movies union all select source_row from stg_movies_rejected "
        "order by all"
    ).fetchall()
    assert [row[0] for row in found] == list(range(1, rows + 1))


def test_the_seed_is_staged_as_it_stands(staged_seed: duckdb.DuckDBPyConnection) -> None:
    """Texts lose only the blanks around them; numbers and genres are typed."""
    films = [row for row in read_seed() if row["overview"]]
    assert by_id(staged_seed, "overview") == {
        film["movie_id"]: film["overview"].strip() for film in films
    }
    assert by_id(staged_seed, "title") == {film["movie_id"]: film["title"] for film in films}
    assert by_id(staged_seed, "genres") == {
        film["movie_id"]: film["genres"].split("|") for film in films
    }
    assert by_id(staged_seed, "runtime_minutes") == {
        film["movie_id"]: int(film["runtime_minutes"]) for film in films
    }
    assert by_id(staged_seed, "released_year") == {
        film["movie_id"]: int(film["released_year"]) for film in films
    }
    assert set(by_id(staged_seed, "(rating, votes, gross_usd, metascore)").values()) == {
        (None, None, None, None)
    }


def test_the_film_without_an_overview_is_rejected(staged_seed: duckdb.DuckDBPyConnection) -> None:
    """It is not sent anywhere, and stands with its reason and its whole row."""
    rejected = staged_seed.execute(
        "select title, reason, source_values ->> 'director' from stg_movies_rejected"
    ).fetchall()
    assert rejected == [("Koyaanisqatsi", "no_overview", "Godfrey Reggio")]


def test_imdb_values_are_typed(staged_imdb: duckdb.DuckDBPyConnection) -> None:
    """`175 min`, `134,966,411` and `Crime, Drama` become a number, a number and a list."""
    row = staged_imdb.execute(
        "select * exclude (source_row, overview) from stg_movies where title = 'The Godfather'"
    ).fetchone()
    assert row == (
        "the-godfather-1972",
        "The Godfather",
        1972,
        175,
        "Francis Ford Coppola",
        ["crime", "drama"],
        9.2,
        100,
        1620367,
        134966411,
    )


def test_a_film_with_a_wrong_year_stays(staged_imdb: duckdb.DuckDBPyConnection) -> None:
    """Where the year reads `PG` the film is staged without one; missing numbers are null."""
    row = staged_imdb.execute(
        "select movie_id, released_year, runtime_minutes, metascore, votes, gross_usd "
        "from stg_movies where title = 'Apollo 13'"
    ).fetchone()
    assert row == ("apollo-13", None, 140, None, None, None)


def test_imdb_ids_are_made_of_title_and_year(staged_imdb: duckdb.DuckDBPyConnection) -> None:
    """Two films of one title differ by year; other scripts keep their letters."""
    ids = {title: movie_id for movie_id, title in by_id(staged_imdb, "title").items()}
    assert {"drishyam-2013", "drishyam-2015"} <= set(by_id(staged_imdb, "title"))
    assert ids["羅生門"] == "羅生門-1950"
    assert ids["Metropolis"] == "metropolis-1927"
    assert len(ids["???"]) == 32


def test_blanks_around_texts_go_and_line_breaks_within_stay(
    staged_imdb: duckdb.DuckDBPyConnection,
) -> None:
    """Tabs, spaces and no-break spaces are trimmed at the ends alone."""
    row = staged_imdb.execute(
        "select title, overview from stg_movies where movie_id = 'metropolis-1927'"
    ).fetchone()
    assert row == ("Metropolis", "A city of towers,\nand the machines below it.")


def test_imdb_genres_use_our_names(staged_imdb: duckdb.DuckDBPyConnection) -> None:
    """`Sci-Fi` and `Film-Noir` are written out, and a film without genres has an empty list."""
    genres = by_id(staged_imdb, "genres")
    assert genres["metropolis-1927"] == ["drama", "science fiction"]
    assert genres["the-third-man-1949"] == ["film noir", "mystery", "thriller"]
    assert genres["drishyam-2013"] == []


def test_rejected_rows_say_why(staged_imdb: duckdb.DuckDBPyConnection) -> None:
    """Each reason is given to the row that it holds for, in the order of the file."""
    rejected = staged_imdb.execute(
        "select title, reason, source_values ->> 'Overview' from stg_movies_rejected "
        "order by source_row"
    ).fetchall()
    assert rejected == [
        ("Drishyam", "repeated_movie_id", "The same film again."),
        ("Amélie", "no_overview", "  \u00a0"),
        ("", "no_title", "A film that nobody named."),
    ]


def test_both_ways_in_ask_the_same() -> None:
    """The task in the model's YAML and the Python model's have one identity, so share answers."""
    enriched = ROOT / "dbt_project" / "models" / "movies" / "enriched"
    document = yaml.safe_load((enriched / "_enriched.yml").read_text(encoding="utf-8"))
    model = next(each for each in document["models"] if each["name"] == "movies_enriched")
    by_yaml = task_from_yaml(
        model["name"],
        model["config"]["meta"]["enrichment"],
        {column["name"]: column for column in model["columns"]},
    )
    by_python = runpy.run_path(str(enriched / "movies_enriched_python.py"))["TASK"]
    assert by_python.document("scripted") == by_yaml.document("scripted")
    assert by_python.parameters == by_yaml.parameters


def test_a_file_of_another_layout_is_refused(project: MoviesProject, tmp_path: Path) -> None:
    """The message names the columns that the file has and the ones that are needed."""
    file = write_csv(tmp_path / "books.csv", ["isbn", "author"], [{"isbn": "1", "author": "A"}])
    code, text = project.attempt(
        "build",
        "--select",
        "+stg_movies",
        warehouse=tmp_path / "movies.duckdb",
        movies_csv=str(file),
    )
    assert code != 0
    assert "movies_csv: the file has the columns isbn, author; it needs movie_id, title" in (text)
    assert "Series_Title" in text


def test_azure_asks_for_its_environment_and_local_does_not(
    project: MoviesProject, tmp_path: Path
) -> None:
    """Credentials are wanted by the target that uses them, by name."""
    project.dbt("parse", warehouse=tmp_path / "local.duckdb")
    code, text = project.attempt("parse", "--target", "azure", warehouse=tmp_path / "azure.duckdb")
    assert code != 0
    assert "Env var required but not provided: 'AZURE_OPENAI_ENDPOINT'" in text
