"""How good the categories of an enriched table are: F1 against the seed's genres.

    python tests/benchmarks/evaluate_categories.py dbt_project/movies.duckdb

Micro F1 weighs every label alike, macro F1 every genre, over the genres that the seed has. Always
answering "drama" is printed beside it, as a model that adds nothing to the most frequent genre has
read nothing. Rows that are not `done` are left out and counted.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
from dbt_enrich.sql import identifier

BASELINE = "drama"
Labels = frozenset[str]


@dataclass(frozen=True)
class CategoryScores:
    """How well predicted categories fit the true ones.

    Attributes:
        rows: Rows compared.
        micro_f1: F1 over all labels of all rows together, 0 to 1.
        macro_f1: Mean of the F1 of each true genre, 0 to 1.
        exact: Share of rows whose labels are all right.
        unknown: Predicted labels that no row has as a true one.
    """

    rows: int
    micro_f1: float
    macro_f1: float
    exact: float
    unknown: int


def category_scores(pairs: Iterable[tuple[Iterable[str], Iterable[str]]]) -> CategoryScores:
    """Score predicted against true categories.

    Case, blanks around a label and repeated labels do not count. A predicted label that no row has
    as a true one is a wrong answer for micro F1, and no genre for macro F1.

    Args:
        pairs: Predicted and true labels of each row.
    """
    rows = [(_labels(predicted), _labels(true)) for predicted, true in pairs]
    right = Counter(label for predicted, true in rows for label in predicted & true)
    wrong = Counter(label for predicted, true in rows for label in predicted - true)
    missed = Counter(label for predicted, true in rows for label in true - predicted)
    genres = set(right) | set(missed)
    f1_of = [_f1(right[genre], wrong[genre], missed[genre]) for genre in sorted(genres)]
    return CategoryScores(
        rows=len(rows),
        micro_f1=_f1(right.total(), wrong.total(), missed.total()),
        macro_f1=sum(f1_of) / len(f1_of) if f1_of else 0.0,
        exact=sum(predicted == true for predicted, true in rows) / len(rows) if rows else 0.0,
        unknown=sum(count for label, count in wrong.items() if label not in genres),
    )


def split_genres(text: str | None) -> list[str]:
    """Return the genres of a text that separates them by commas or bars."""
    return [genre.strip() for genre in re.split(r"[|,]", text or "") if genre.strip()]


def read_pairs(
    warehouse: Path, *, enriched: str, seed: str
) -> tuple[list[tuple[list[str], list[str]]], int]:
    """Read predicted and true categories of the rows that are done.

    Args:
        warehouse: The DuckDB file.
        enriched: Table with movie_id, categories and enrichment_status; `schema.table` or `table`.
        seed: Table with movie_id and genres.

    Returns:
        The pairs, and how many rows are not done.
    """
    tables = [".".join(identifier(part) for part in name.split(".")) for name in (enriched, seed)]
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        rows = connection.execute(
            f"select enriched.categories, seed.genres, enriched.enrichment_status = 'done' "
            f"from {tables[0]} as enriched join {tables[1]} as seed using (movie_id)"
        ).fetchall()
    pairs = [(categories or [], split_genres(genres)) for categories, genres, done in rows if done]
    return pairs, len(rows) - len(pairs)


def report(pairs: Sequence[tuple[Sequence[str], Sequence[str]]], left_out: int) -> str:
    """Return the table that is printed."""
    scores = {
        "categories": category_scores(pairs),
        f'always "{BASELINE}"': category_scores([([BASELINE], true) for _, true in pairs]),
    }
    lines = [f"{'':16} {'rows':>6} {'micro F1':>9} {'macro F1':>9} {'exact':>7} {'unknown':>8}"]
    lines += [
        f"{name:16} {score.rows:6} {score.micro_f1:9.3f} {score.macro_f1:9.3f} {score.exact:7.1%} "
        f"{score.unknown:8}"
        for name, score in scores.items()
    ]
    return "\n".join([*lines, f"rows that are not done, left out: {left_out}"])


def _labels(labels: Iterable[str]) -> Labels:
    return frozenset(text for label in labels if (text := label.strip().lower()))


def _f1(right: int, wrong: int, missed: int) -> float:
    whole = 2 * right + wrong + missed
    return 2 * right / whole if whole else 0.0


def main() -> None:
    """Read the arguments and print the table."""
    parser = argparse.ArgumentParser(description="F1 of the enriched categories.")
    parser.add_argument("warehouse", type=Path, help="DuckDB file")
    parser.add_argument("--enriched", default="movies_enriched", help="enriched table")
    parser.add_argument("--seed", default="movies", help="table with the true genres")
    options = parser.parse_args()
    pairs, left_out = read_pairs(options.warehouse, enriched=options.enriched, seed=options.seed)
    print(report(pairs, left_out))


if __name__ == "__main__":
    main()
