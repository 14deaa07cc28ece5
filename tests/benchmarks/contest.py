"""A contest: contenders in turn on copies of the same rows, each held to the same end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import movies
from benchmarks.measuring import Figures, in_fresh_process


class Contest:
    """Some rows, and a directory of its own for each run of a contender.

    Args:
        rows: How many movies there are.
        directory: Where everything is kept while the contest lasts.
    """

    def __init__(self, rows: int, directory: Path) -> None:
        self.rows = rows
        self._directory = directory
        self._movies = directory / "movies.duckdb"
        movies.make_warehouse(self._movies, rows)
        self._expected = movies.expected(self._movies)

    @contextmanager
    def place(self) -> Iterator[Path]:
        """Make a directory with a copy of the rows for the block."""
        with tempfile.TemporaryDirectory(dir=self._directory) as name:
            shutil.copyfile(self._movies, Path(name) / "movies.duckdb")
            yield Path(name)

    def contend(self, name: str, *arguments: object) -> Figures:
        """Run a contender in a fresh process, check its table, and return its figures."""
        with self.place() as directory:
            figures = in_fresh_process(
                ["benchmarks.contend", name, directory, *map(str, arguments)],
                disk=directory / "state" if name == "dbt-enrich" else None,
            )
            if name != "floor":
                self.check(name, directory)
        return figures

    def contend_elsewhere(self, name: str, python: Path, arguments: Sequence[str]) -> Figures:
        """Run a contender under another interpreter; it is told the directory, then `arguments`."""
        with self.place() as directory:
            figures = in_fresh_process([name, directory, *arguments], python=python)
            self.check(name, directory)
        return figures

    def check(self, name: str, directory: Path) -> None:
        """Compare a contender's table with what the rows must become.

        Raises:
            RuntimeError: It is another one.
        """
        found = movies.outcome(directory / "movies.duckdb")
        if found != self._expected:
            raise RuntimeError(
                f"{name} made another table of {self.rows:,} rows: {found}, not {self._expected}"
            )


@contextmanager
def contest(rows: int, root: Path) -> Iterator[Contest]:
    """Hold a contest in a directory below `root` that is removed afterwards."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as name:
        yield Contest(rows, Path(name))
