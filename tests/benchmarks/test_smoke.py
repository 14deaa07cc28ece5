"""The benchmarks run; what they measure is not judged here."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from benchmarks import engine, movies, notebook
from benchmarks.__main__ import main
from benchmarks.claims import RUNNERS
from benchmarks.measuring import REPOSITORY, Clock
from benchmarks.report import report
from benchmarks.results import Result, Results
from benchmarks.shared_state import LOCAL, SHARED
from benchmarks.targets import (
    DEFAULT,
    ENGINE,
    FLOOR,
    NOTEBOOK,
    best_peer_ratio,
    targets,
    token_share,
)

ROWS = 1_000
SEED = REPOSITORY / "seeds" / "movies.csv"


def test_every_contender_makes_the_same_table_and_is_in_the_report(tmp_path: Path) -> None:
    """Once each; a contender with another table would fail the command."""
    places = ["--root", str(tmp_path), "--docs", str(tmp_path)]
    main(["--only", "sides", "--sizes", str(ROWS), "--runs", "1", *places])
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    for contender in (ENGINE, DEFAULT, NOTEBOOK, FLOOR):
        assert f"| {ROWS:,} | {contender} |" in page
    assert f"- {ROWS:,} rows: writing the enriched table alone" in page
    assert (tmp_path / "benchmarks.svg").read_text(encoding="utf-8").startswith("<svg")
    (result,) = Results(tmp_path / "results").of("sides")
    assert result.largest(ENGINE, "files_left_mb") == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("shape", ["wide", "failed", "nested"])
def test_rows_of_every_shape_become_what_they_must(shape: str, tmp_path: Path) -> None:
    """By the engine and by the notebook; an answer that is cut off is no row's."""
    for name in ("ours", "theirs"):
        directory = tmp_path / name
        directory.mkdir()
        rows = directory / "movies.duckdb"
        movies.make_warehouse(rows, 200, movies.SHAPES[shape])
        if name == "ours":
            engine.run(directory, Clock(), shape)
        else:
            notebook.run(directory, Clock(), shape)
        found = movies.outcome(rows, movies.SHAPES[shape])
        assert found == movies.expected(rows, movies.SHAPES[shape])
        assert found.rows == (190 if shape == "failed" else 200)


def test_what_fails_loses_no_other_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A contender that breaks is named with the reason, and the command fails in the end."""
    broken = RuntimeError("it broke")

    def breaks(*_: object) -> None:
        raise broken

    monkeypatch.setattr("benchmarks.dbt_run.measure", breaks)
    monkeypatch.setattr("benchmarks.emulator.measure", lambda *_: {"batch": 9_000.0})
    monkeypatch.setattr("benchmarks.parts.make_films", breaks)
    places = ["--root", str(tmp_path), "--docs", str(tmp_path)]
    with pytest.raises(SystemExit, match="failed: tokens; dbt-run, dbt run, 50 rows"):
        main(["--only", "tokens,dbt-run,emulator", "--rows", "50", "--runs", "2", *places])
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "dbt run could not be measured at 50 rows: it broke" in page
    kept = json.loads((tmp_path / "results" / "emulator-50.json").read_text())
    assert kept["rounds"] == [{"emulator": {"batch": 9_000.0}}] * 2
    assert "emulator: 50 rows, 2 rounds" in capsys.readouterr().err


def test_pictures_go_out_from_files_and_blobs(tmp_path: Path) -> None:
    """As base64, all of them, with nothing left of them but the request files."""
    places = ["--root", str(tmp_path), "--docs", str(tmp_path)]
    main(["--only", "pictures", "--rows", "20", "--runs", "1", *places])
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    (result,) = Results(tmp_path / "results").of("pictures")
    for way in ("files", "blobs"):
        assert f"| 20 | {way} |" in page
        assert result.largest(way, "request_mb") == pytest.approx(20 * 0.1334, rel=0.02)
        assert result.largest(way, "state_left_mb") == pytest.approx(20 * 0.1334, rel=0.15)


def test_a_run_in_which_nothing_is_new_takes_little_memory(tmp_path: Path) -> None:
    """The keys of 200,000 answered rows are grouped and joined in 100 bytes each, beyond 40 MB."""
    rows, warehouse_file, store = 200_000, tmp_path / "movies.duckdb", tmp_path / "store"
    movies.make_warehouse(warehouse_file, rows)
    engine.make_answers(store, warehouse_file, rows, rows, files=20)
    with engine.open_warehouse(warehouse_file) as warehouse:
        for mode in ("plan", "run"):
            engine.enrich(store, warehouse, mode, memory_limit="60MB")
    assert movies.outcome(warehouse_file) == movies.expected(warehouse_file)


def test_packs_take_fewer_tokens_of_the_films_in_a_file(tmp_path: Path) -> None:
    """Counted in the files as they would be sent; each pack size less than the one before."""
    films = tmp_path / "films.csv"
    duckdb.execute(
        "copy (select title as Series_Title, overview as Overview, "
        f"replace(genres, '|', ', ') as Genre from read_csv('{SEED}') "
        f"where overview is not null) to '{films}' (header)"
    )
    places = ["--root", str(tmp_path), "--docs", str(tmp_path)]
    main(["--only", "tokens", "--films", str(films), *places])
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
        steps = dict.fromkeys(("export", "load", "table"), seconds)
        return steps | {"peak_mb": 200.0, "imports_mb": 80.0}

    engine = figures(ours) | {"request_mb": 10.0, "disk_mb": 25.0, "files_left_mb": 0.0}
    return Result("sides", rows, [{"dbt-enrich": engine, "notebook": figures(theirs)}])


def _reached(results: Results, wanted: str) -> bool | None:
    (found,) = [one.reached for one in targets(results) if wanted in one.wanted]
    return found


def test_a_target_is_reached_where_it_is_at_every_size_that_it_names(tmp_path: Path) -> None:
    """The report says so plainly either way, and what was not measured is not reached."""
    results = Results(tmp_path)
    results.keep(_sides(10_000, ours=1.0, theirs=5.0))
    assert _reached(results, "with the table, in a warehouse of 100 MB") is True
    assert _reached(results, "with default memory") is None
    assert _reached(results, "without the table") is None
    assert _reached(results, "Peak memory") is True
    results.keep(_sides(100_000, ours=1.0, theirs=6.0))
    assert _reached(results, "with the table, in a warehouse of 100 MB") is False
    assert _reached(results, "without the table") is False
    assert "5.0 times at 10,000 rows; 6.0 times at 100,000 rows | **no** |" in report(results)


def test_days_are_held_against_a_plan_and_a_rebuild(tmp_path: Path) -> None:
    """By the smallest answer store."""
    day = {"plan": 1.5, "nothing_new": 2.0, "few": 5.0, "rebuild": 12.0}
    day |= {f"{way}_cpu": 1.0 for way in day} | {"peak_mb": 300.0}
    results = Results(tmp_path)
    larger = {name: 9 * value for name, value in day.items()}
    results.keep(Result("nothing-new", 1_000, [{"small": day, "large": larger}]))
    assert _reached(results, "nothing is new takes at most 3 s") is True
    assert _reached(results, "nothing is new takes at most 2 times a plan") is True
    assert _reached(results, "1 % of the rows are new") is False
    assert (
        "| 1,000 | small | 1.50 (1.0) | 2.00 (1.0) | 5.00 (1.0) | 12.00 (1.0) | 1.33 | 0.42 |"
        in report(results)
    )


def test_shared_state_is_held_against_one_machines_own(tmp_path: Path) -> None:
    """By ratios within a round, and with what a new machine's plan fetched."""
    local = {"export_s": 2.0, "load_s": 4.0, "plan_s": 1.0}
    shared = {"export_s": 3.0, "load_s": 5.0, "plan_s": 2.5}
    shared |= {"keys_mb": 17.25, "texts_mb": 0.0, "stored_mb": 101.5}
    found = {LOCAL: local, SHARED: shared, RUNNERS: {"first_s": 4.0, "second_s": 5.0}}
    results = Results(tmp_path)
    results.keep(Result("shared-state", 1_000_000, [found]))
    row = "| 1,000,000 | 1.50 | 1.25 | 2.5 | 101.5 | 17.2 | 0.0 | 1.25 | 2.50 | 1 |"
    assert row in report(results)


def test_a_ratio_is_one_within_a_round_and_the_best_peer_counts() -> None:
    """A round in which the machine was slow for everybody changes no ratio."""

    def round_of(slowness: float) -> dict[str, dict[str, float]]:
        times = {"dbt-enrich": 1.0, "one": 300.0, "other": 120.0}
        return {
            name: {"export": slowness * t, "load": 0.0, "table": 0.0} for name, t in times.items()
        }

    found = Result("peers", 1_000, [round_of(1.0), round_of(5.0), round_of(1.5)])
    assert found.ratio("one", "dbt-enrich", "export", "load", "table") == pytest.approx(300)
    assert best_peer_ratio(found) == pytest.approx(120)


def test_a_peer_that_cannot_be_measured_is_named_with_the_reason(tmp_path: Path) -> None:
    """It is not left out in silence."""
    results = Results(tmp_path)
    engine = {"dbt-enrich": {"export": 1.0, "load": 1.0, "table": 1.0, "peak_mb": 1.0}}
    results.keep(Result("peers", 1_000, [engine], missing={"steadybatch": "no index"}))
    assert "steadybatch 0.2.1 could not be measured at 1,000 rows: no index" in report(results)
