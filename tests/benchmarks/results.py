"""What was measured, kept as JSON: one file for each part and number of rows, round by round.

A long run can therefore be cut into parts, and the report be written of all of them.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import duckdb
from benchmarks.measuring import Figures, UnavailableError

_PACKAGES = ("duckdb", "dbt-core", "dbt-duckdb", "pandas")


@dataclass
class Result:
    """A part of the benchmarks at one number of rows.

    Attributes:
        part: Its name.
        rows: The number of rows.
        rounds: The figures of each contender, for each round in which they followed one another.
        missing: Contenders that could not be measured, with the reason.
        failed: Those of them that should have been: they broke, or made another table.
        machine: What it ran on.
        measured_at: When, in UTC.
    """

    part: str
    rows: int
    rounds: list[dict[str, Figures]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    machine: str = ""
    measured_at: str = ""

    def begin_round(self) -> None:
        """Begin a round, which has no figures yet."""
        self.rounds.append({})

    def enter(
        self, contender: str, measure: Callable[[], Figures], number: int | None = None
    ) -> None:
        """Measure a contender, or record why it cannot be; the others go on.

        Args:
            contender: Its name.
            measure: Returns its figures; a RuntimeError is the reason why there are none.
            number: The round, from 1; the last by default.
        """
        if contender in self.missing:
            return
        found = self.rounds[-1 if number is None else number - 1]
        try:
            found[contender] = measure()
        except UnavailableError as error:
            self.missing[contender] = str(error)
        except (RuntimeError, OSError, duckdb.Error) as error:
            self.missing[contender] = str(error)
            self.failed.append(contender)

    def contenders(self) -> list[str]:
        """Return the names of those that have figures, in the order of the first round."""
        return list(dict.fromkeys(name for found in self.rounds for name in found))

    def values(self, contender: str, *names: str) -> list[float]:
        """Return the sum of some figures of a contender, of each round that has them."""
        return [
            sum(figures[name] for name in names)
            for found in self.rounds
            if (figures := found.get(contender)) and all(name in figures for name in names)
        ]

    def median(self, contender: str, *names: str) -> float | None:
        """Return the median of the sum of some figures, or None where there is none."""
        values = self.values(contender, *names)
        return statistics.median(values) if values else None

    def largest(self, contender: str, name: str) -> float | None:
        """Return the largest of a figure, or None where there is none."""
        return max(self.values(contender, name), default=None)

    def ratio(
        self, slow: str, quick: str, *names: str, against: Sequence[str] = ()
    ) -> float | None:
        """Return the median over the rounds of how many times longer `slow` took than `quick`.

        Args:
            slow: A contender.
            quick: Another one.
            names: The figures that are summed of both.
            against: Those of `quick`, where they are others.
        """
        ratios = [
            _sum(found, slow, names) / _sum(found, quick, against or names)
            for found in self.rounds
            if found.get(slow, {}).keys() >= set(names)
            and found.get(quick, {}).keys() >= set(against or names)
        ]
        return statistics.median(ratios) if ratios else None


def _sum(found: dict[str, Figures], contender: str, names: Sequence[str]) -> float:
    return sum(found[contender][name] for name in names)


class Results:
    """The results of all parts in one directory.

    Args:
        directory: Where they are kept; it is made where it is not there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def keep(self, result: Result) -> None:
        """Write a result over the previous one of its part and rows."""
        result.machine = machine()
        result.measured_at = datetime.now(UTC).isoformat(timespec="minutes")
        path = self._directory / f"{result.part}-{result.rows}.json"
        path.write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")

    def of(self, part: str) -> list[Result]:
        """Return the results of a part, by rows."""
        found = [
            Result(**json.loads(path.read_text(encoding="utf-8")))
            for path in self._directory.glob(f"{part}-*.json")
        ]
        return sorted((one for one in found if one.part == part), key=lambda one: one.rows)


def machine() -> str:
    """Say what everything runs on: processor, memory, system and versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GB, "
        f"{platform.system()} {platform.release()}; Python {platform.python_version()}, {versions}"
    )


def _processor() -> str:
    try:
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.machine()
