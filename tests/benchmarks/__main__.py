"""The benchmarks' command: measures, keeps the results, and writes the report of all of them.

    python -m benchmarks [--only sides,peers] [--sizes 10000,100000] [--rows 10000] [--runs 1]
        [--films imdb_top_1000.csv]

`make bench` runs it; what is measured, and how, say docs/benchmarks.md, docs/tokens.md and
docs/million-rows.md, which it writes.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks.budget_report import budget_report
from benchmarks.chart import write_chart
from benchmarks.measuring import REPOSITORY
from benchmarks.parts import FILMS, PARTS, SIZES, Plan
from benchmarks.report import report
from benchmarks.results import Results
from benchmarks.token_report import token_report


def main() -> None:
    """Parse the command line, measure, and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", help="parts, with commas between: " + ", ".join(PARTS))
    parser.add_argument("--sizes", help="rows of export and load, with commas between")
    parser.add_argument("--rows", type=int, help="rows of the other parts")
    parser.add_argument("--runs", type=int, help="rounds of everything")
    parser.add_argument("--films", type=Path, default=FILMS, help="CSV file of the real films")
    parser.add_argument("--root", type=Path, default=REPOSITORY / ".bench")
    parser.add_argument("--docs", type=Path, default=REPOSITORY / "docs")
    given = parser.parse_args()
    names = given.only.split(",") if given.only else list(PARTS)
    unknown = set(names) - {*PARTS, "report"}
    if unknown:
        parser.error(f"no part is named {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    sizes = tuple(map(int, given.sizes.split(","))) if given.sizes else SIZES
    results = Results(given.root / "results")
    plan = Plan(given.root, sizes, given.rows, given.runs, given.films.resolve())
    plan.scratch.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name != "report":
            measure(name, plan, results)
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


def measure(name: str, plan: Plan, results: Results) -> None:
    """Measure a part and keep its results, round by round."""
    began = time.monotonic()
    for result in PARTS[name](plan):
        results.keep(result)
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        sys.stderr.write(
            f"{name}: {result.rows:,} rows, {len(result.rounds)} rounds "
            f"({minutes}:{seconds:02} since the part began)\n"
        )
        for peer, reason in result.missing.items():
            sys.stderr.write(f"  {peer} is missing: {reason}\n")


if __name__ == "__main__":
    main()
