"""The scores of categories against the seed's genres."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from benchmarks.evaluate_categories import category_scores, read_pairs, report, split_genres


def test_micro_weighs_labels_and_macro_weighs_genres() -> None:
    """Three right of four labels with one wrong; one of two genres always right, one half."""
    scores = category_scores([(["drama"], ["drama", "war"]), (["drama", "war"], ["drama", "war"])])
    assert scores.rows == 2
    assert scores.micro_f1 == pytest.approx(2 * 3 / (2 * 3 + 0 + 1))
    assert scores.macro_f1 == pytest.approx((1 + 2 / 3) / 2)
    assert scores.exact == 0.5


def test_a_label_that_no_row_has_is_wrong_but_no_genre() -> None:
    """An invented genre lowers micro F1 and does not add a genre to macro F1."""
    scores = category_scores([(["drama", "heartwarming"], ["drama"])])
    assert scores.micro_f1 == pytest.approx(2 / 3)
    assert scores.macro_f1 == 1
    assert scores.unknown == 1


def test_case_blanks_and_repeats_do_not_count() -> None:
    """The same genre written otherwise is the same."""
    assert category_scores([([" Drama", "drama"], ["DRAMA"])]).micro_f1 == 1


def test_no_rows_and_no_labels_score_nothing() -> None:
    """Nothing divides by zero."""
    assert category_scores([]).micro_f1 == 0
    assert category_scores([([], [])]).exact == 1


@pytest.mark.parametrize("text", ["Crime|Drama", "Crime, Drama", " Crime | Drama |"])
def test_genres_are_separated_by_bars_or_commas(text: str) -> None:
    """Both ways in which sources write genres are taken."""
    assert split_genres(text) == ["Crime", "Drama"]


def test_a_warehouse_is_read_and_reported_beside_always_drama(tmp_path: Path) -> None:
    """Rows that are not done are left out and counted."""
    path = tmp_path / "movies.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table movies as select 'a' movie_id, 'drama|war' genres")
        connection.execute("insert into movies values ('b', 'Comedy, Crime'), ('c', 'drama')")
        connection.execute(
            "create table movies_enriched as select * from (values "
            "('a', ['drama', 'war'], 'done'), ('b', ['crime'], 'done'), ('c', null, 'failed')) "
            "as t(movie_id, categories, enrichment_status)"
        )
    pairs, left_out = read_pairs(path, enriched="main.movies_enriched", seed="movies")
    assert sorted(pairs) == [(["crime"], ["Comedy", "Crime"]), (["drama", "war"], ["drama", "war"])]
    assert left_out == 1
    text = report(pairs, left_out)
    assert "0.857" in text
    assert 'always "drama"' in text
