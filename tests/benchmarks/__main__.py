"""The benchmarks' command: measures, keeps the results, and writes the report of all of them.

    python -m benchmarks [--only sides,peers] [--sizes 10000,100000] [--rows 10000] [--runs 1]
        [--films imdb_top_1000.csv] [--duckdb2 .venv-duckdb2/bin/python]

`make bench` runs it; what is measured, and how, say docs/benchmarks.md, docs/tokens.md and
docs/million-rows.md, which it writes. What fails is named at the end, and loses no other result.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from benchmarks.budget_report import budget_report
from benchmarks.chart import write_chart
from benchmarks.measuring import REPOSITORY
from benchmarks.parts import DUCKDB2_PYTHON, FILMS, PARTS, SIZES, Plan
from benchmarks.report import report
from benchmarks.results import Results
from benchmarks.token_report import token_report


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, and write the report.

    Args:
        arguments: In place of the process's own.

    Raises:
        SystemExit: Something failed; the text names it.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", help="parts, with commas between: " + ", ".join(PARTS))
    parser.add_argument("--sizes", help="rows of the part sides, with commas between")
    parser.add_argument("--rows", type=int, help="rows of the other parts")
    parser.add_argument("--runs", type=int, help="rounds of everything")
    parser.add_argument("--films", type=Path, default=FILMS, help="CSV file of the real films")
    parser.add_argument(
        "--duckdb2", type=Path, default=DUCKDB2_PYTHON, help="interpreter that has DuckDB 2.0"
    )
    parser.add_argument("--root", type=Path, default=REPOSITORY / ".bench")
    parser.add_argument("--docs", type=Path, default=REPOSITORY / "docs")
    given = parser.parse_args(arguments)
    names = given.only.split(",") if given.only else list(PARTS)
    unknown = set(names) - {*PARTS, "report"}
    if unknown:
        parser.error(f"no part is named {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    sizes = tuple(map(int, given.sizes.split(","))) if given.sizes else SIZES
    results = Results(given.root / "results")
    plan = Plan(
        given.root, sizes, given.rows, given.runs, given.films.resolve(), given.duckdb2.absolute()
    )
    plan.scratch.mkdir(parents=True, exist_ok=True)
    failed = [one for name in names if name != "report" for one in measure(name, plan, results)]
    write_chart(results, given.docs / "benchmarks.svg")
    pages = {
        "benchmarks": report(results),
        "tokens": token_report(results),
        "million-rows": budget_report(results),
    }
    for name, page in pages.items():
        if not page:
            continue
        path = given.docs / f"{name}.md"
        path.write_text(page, encoding="utf-8")
        sys.stderr.write(f"{path}\n")
    if failed:
        sys.exit("failed: " + "; ".join(failed))


def measure(name: str, plan: Plan, results: Results) -> list[str]:
    """Measure a part and keep its results, round by round; return what failed."""
    began = time.monotonic()
    failed: dict[str, None] = {}
    try:
        for result in PARTS[name](plan):
            results.keep(result)
            minutes, seconds = divmod(int(time.monotonic() - began), 60)
            sys.stderr.write(
                f"{name}: {result.rows:,} rows, {len(result.rounds)} rounds "
                f"({minutes}:{seconds:02} since the part began)\n"
            )
            for contender, reason in result.missing.items():
                sys.stderr.write(f"  {contender} is missing: {reason}\n")
            failed |= {f"{name}, {one}, {result.rows:,} rows": None for one in result.failed}
    # Hours of other parts must not be lost with one.
    except Exception:  # noqa: BLE001
        sys.stderr.write(traceback.format_exc())
        failed |= {name: None}
    return list(failed)


if __name__ == "__main__":
    main()
