"""A contest: contenders in turn on copies of the same rows, each held to the same end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import movies
from benchmarks.measuring import REPOSITORY, Figures, in_fresh_process
from benchmarks.movies import SHAPES


class Contest:
    """Some rows, and a directory of its own for each run of a contender.

    Args:
        rows: How many movies there are.
        directory: Where everything is kept while the contest lasts.
        shape: The name of what the rows and answers are like.
    """

    def __init__(self, rows: int, directory: Path, shape: str) -> None:
        self.rows = rows
        self._shape = shape
        self._directory = directory
        self._movies = directory / "movies.duckdb"
        movies.make_warehouse(self._movies, rows, SHAPES[shape])
        self._expected = movies.expected(self._movies, SHAPES[shape])

    def dbt_enrich(self, *, memory_is_scarce: bool = True, python: Path | None = None) -> Figures:
        """Run the engine and return its figures.

        Args:
            memory_is_scarce: Whether warehouse and private DuckDB have limits of 100 and 160 MB, or
                their defaults.
            python: Another interpreter.
        """
        scarce = ["--scarce"] if memory_is_scarce else []
        with self._place() as directory:
            command = ["dbt-enrich", directory, "--shape", self._shape, *scarce]
            figures = in_fresh_process(
                ["benchmarks.contend", *map(str, command)],
                python=python,
                disk=directory / "state",
                environment={"PYTHONPATH": str(REPOSITORY / "plugin")},
            )
            self._check("dbt-enrich", directory)
        return figures

    def notebook(self) -> Figures:
        """Run the notebook and return its figures."""
        with self._place() as directory:
            command = ["notebook", directory, "--shape", self._shape]
            figures = in_fresh_process(["benchmarks.contend", *map(str, command)])
            self._check("notebook", directory)
        return figures

    def floor(self, ours: Figures) -> Figures:
        """Write and read as many bytes as the engine, and return the figures."""
        moved = [str(int(ours[name] * 1e6)) for name in ("request_mb", "response_mb")]
        with self._place() as directory:
            return in_fresh_process(["benchmarks.contend", "floor", directory, *moved])

    def peer(self, module: str, python: Path, arguments: Sequence[str]) -> Figures:
        """Run a peer under its interpreter; it is told the directory, then `arguments`."""
        with self._place() as directory:
            figures = in_fresh_process([module, directory, *arguments], python=python)
            self._check(module, directory)
        return figures

    @contextmanager
    def _place(self) -> Iterator[Path]:
        """Make a directory with a copy of the rows for the block."""
        with tempfile.TemporaryDirectory(dir=self._directory) as name:
            shutil.copyfile(self._movies, Path(name) / "movies.duckdb")
            yield Path(name)

    def _check(self, name: str, directory: Path) -> None:
        """Compare a contender's table with what the rows must become.

        Raises:
            RuntimeError: It is another one.
        """
        found = movies.outcome(directory / "movies.duckdb", SHAPES[self._shape])
        if found != self._expected:
            raise RuntimeError(
                f"{name} made another table of {self.rows:,} rows: {found}, not {self._expected}"
            )


@contextmanager
def contest(rows: int, root: Path, shape: str = "usual") -> Iterator[Contest]:
    """Hold a contest in a directory below `root` that is removed afterwards."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as name:
        yield Contest(rows, Path(name), shape)
