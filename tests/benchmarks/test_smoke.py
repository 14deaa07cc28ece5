"""The benchmarks run; what they measure is not judged here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from benchmarks import engine, movies
from benchmarks.measuring import REPOSITORY
from benchmarks.report import report
from benchmarks.results import Result, Results
from benchmarks.targets import best_peer_ratio, targets, token_share

ROWS = 10_000
SEED = REPOSITORY / "seeds" / "movies.csv"


def test_every_contender_makes_the_same_table_and_is_in_the_report(tmp_path: Path) -> None:
    """At 10,000 rows, once each; a contender with another table would fail the command."""
    command = [
        sys.executable, "-m", "benchmarks", "--only", "sides", "--sizes", str(ROWS), "--runs", "1",
        "--root", str(tmp_path), "--docs", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=REPOSITORY / "tests", capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    for contender in ("notebook", "dbt-enrich", "floor"):
        assert f"| {ROWS:,} | {contender} |" in page
    assert f"- {ROWS:,} rows: writing the enriched table alone" in page
    assert (tmp_path / "benchmarks.svg").read_text(encoding="utf-8").startswith("<svg")
    (result,) = Results(tmp_path / "results").of("sides")
    assert result.largest("dbt-enrich", "files_left_mb") == pytest.approx(0, abs=0.01)


def test_a_run_in_which_nothing_is_new_takes_little_memory(tmp_path: Path) -> None:
    """The keys of 500,000 answered rows are grouped and joined in less than the usual memory."""
    rows, warehouse_file, store = 500_000, tmp_path / "movies.duckdb", tmp_path / "store"
    movies.make_warehouse(warehouse_file, rows)
    engine.make_answers(store, rows, rows, files=50)
    with engine.open_warehouse(warehouse_file) as warehouse:
        for mode in ("plan", "run"):
            engine.enrich(store, warehouse, mode, memory_limit="100MB")
    assert movies.outcome(warehouse_file) == movies.expected(warehouse_file)


def test_packs_take_fewer_tokens_of_the_films_in_a_file(tmp_path: Path) -> None:
    """Counted in the files as they would be sent; each pack size less than the one before."""
    films = tmp_path / "films.csv"
    duckdb.execute(
        "copy (select title as Series_Title, overview as Overview, "
        f"replace(genres, '|', ', ') as Genre from read_csv('{SEED}') "
        f"where overview is not null) to '{films}' (header)"
    )
    command = [
        sys.executable, "-m", "benchmarks", "--only", "tokens", "--films", str(films),
        "--root", str(tmp_path), "--docs", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=REPOSITORY / "tests", capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (found,) = Results(tmp_path / "results").of("tokens")
    shares = [token_share(found, name) or 0.0 for name in found.contenders()]
    # The seed has two films with the same overview, which are asked once.
    assert shares == sorted(set(shares), reverse=True)
    assert shares[0] == 1.0
    assert shares[1] > 0.98, "one row a request is the notebook's request"
    page = (tmp_path / "tokens.md").read_text(encoding="utf-8")
    assert f"| {found.rows:,} films | requests |" in page


def _sides(rows: int, ours: float, theirs: float) -> Result:
    def figures(seconds: float) -> dict[str, float]:
        return {"export": seconds, "load": seconds, "peak_mb": 200.0, "imports_mb": 80.0}

    engine = figures(ours) | {"request_mb": 10.0, "disk_mb": 25.0, "files_left_mb": 0.0}
    return Result("sides", rows, [{"dbt-enrich": engine, "notebook": figures(theirs)}])


def test_a_target_is_reached_where_it_is_at_every_size(tmp_path: Path) -> None:
    """The report says so plainly either way, and what was not measured is not reached."""
    results = Results(tmp_path)
    results.keep(_sides(1_000, ours=1.0, theirs=25.0))
    assert [one.reached for one in targets(results)][:4] == [True, None, None, True]
    results.keep(_sides(2_000, ours=3.0, theirs=25.0))
    assert [one.reached for one in targets(results)][:4] == [False, None, False, True]
    assert "25.0 times at 1,000 rows; 8.3 times at 2,000 rows | **no** |" in report(results)


def test_a_ratio_is_one_within_a_round_and_the_best_peer_counts() -> None:
    """A round in which the machine was slow for everybody changes no ratio."""

    def round_of(slowness: float) -> dict[str, dict[str, float]]:
        times = {"dbt-enrich": 1.0, "one": 300.0, "other": 120.0}
        return {name: {"export": slowness * t, "load": 0.0} for name, t in times.items()}

    found = Result("peers", 1_000, [round_of(1.0), round_of(5.0), round_of(1.5)])
    assert found.ratio("one", "dbt-enrich", "export", "load") == pytest.approx(300)
    assert best_peer_ratio(found) == pytest.approx(120)


def test_a_peer_that_cannot_be_measured_is_named_with_the_reason(tmp_path: Path) -> None:
    """It is not left out in silence."""
    results = Results(tmp_path)
    engine = {"dbt-enrich": {"export": 1.0, "load": 1.0, "peak_mb": 1.0}}
    results.keep(Result("peers", 1_000, [engine], missing={"steadybatch": "no index"}))
    assert "steadybatch 0.2.1 could not be measured at 1,000 rows: no index" in report(results)
