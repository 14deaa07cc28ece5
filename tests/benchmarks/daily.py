"""What a user waits for every day: `dbt run` where nothing, or one row in a hundred, is new.

Every figure is the seconds of the model beyond those of a plain table of the same rows, which also
is staged in the warehouse: dbt's own start, and the query of the rows, are in none of them.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
from benchmarks import movies
from benchmarks.dbt_run import DbtRun, check, dbt, movies_project
from benchmarks.engine import make_answers
from benchmarks.measuring import Figures
from benchmarks.service import Service
from dbt_enrich.environment import MODE_VARIABLE
from dbt_enrich.task.options import Mode

# As they follow one another in a round.
WAYS = ("plan", "nothing_new", "few", "rebuild")
# One row of so many is replaced by a new one, and the text of as many changed: 1 % in all.
_ONE_OF = 200


class DailyRuns:
    """A project whose rows are answered and published.

    Args:
        directory: Where it is written.
        service: Who answers what is new.
        rows: How many rows there are.
        answers: Answers in the store, those beyond the rows to rows that are gone.
        files: Files that hold them.
    """

    def __init__(
        self, directory: Path, service: Service, rows: int, answers: int, files: int
    ) -> None:
        self._service = service
        self._project = movies_project(directory, service)
        self._warehouse = self._project.warehouse
        self._count = max(1, rows // _ONE_OF)
        self._oldest, self._newest = 0, answers
        self._asked = 0
        movies.make_warehouse(self._warehouse, rows)
        make_answers(self._project.state_dir, self._warehouse, rows, answers, files)
        self._run()

    def round(self) -> Figures:
        """Run dbt once in each way.

        Returns:
            `plan`, `nothing_new`, `few` (without the service's own seconds) and `rebuild`, each
            also with `_cpu` after its name; `peak_mb` of the largest.

        Raises:
            RuntimeError: dbt failed, the table is another, or rows were asked that are not new.
        """
        plain = dbt(self._project, "run", "--select", "movies_plain")
        runs = {
            "plan": self._run(**{MODE_VARIABLE: Mode.PLAN}),
            "nothing_new": self._run(),
        }
        self._change_rows()
        served = self._service.own_seconds()
        runs["few"] = self._run()
        served = self._service.own_seconds() - served
        runs["rebuild"] = self._run("--full-refresh")
        figures = {"plain": plain.seconds, "peak_mb": max(run.peak_mb for run in runs.values())}
        for way in WAYS:
            figures[way] = runs[way].model - plain.model - (served if way == "few" else 0.0)
            figures[f"{way}_cpu"] = runs[way].cpu - plain.cpu
        return figures

    def _run(self, *arguments: str, **environment: str) -> DbtRun:
        """Run the enrichment, and hold its table and what was asked against what must be."""
        run = dbt(self._project, "run", "--select", "movies_enriched", *arguments, **environment)
        check(self._project)
        asked = len(self._service.account()["paid"])
        if asked != self._asked:
            raise RuntimeError(f"dbt run asked {asked:,} rows in place of {self._asked:,}")
        return run

    def _change_rows(self) -> None:
        """Replace rows by new ones, and change the texts of others."""
        first = self._oldest + self._count
        new = f"range({self._newest}, {self._newest + self._count})"
        with duckdb.connect(str(self._warehouse)) as warehouse:
            warehouse.execute(f"delete from movies where movie_id < {first}")
            warehouse.execute(f"insert into movies {movies.movies_sql(new)}")
            warehouse.execute(
                "update movies set overview = overview || ' again' "
                f"where movie_id < {first + self._count}"
            )
        self._oldest, self._newest = first, self._newest + self._count
        self._asked += 2 * self._count
