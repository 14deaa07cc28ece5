"""The targets, each with what was measured and whether it is reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.results import Result, Results

ENGINE, NOTEBOOK, FLOOR = "dbt-enrich", "notebook", "floor"
DEFAULT, DUCKDB2 = "dbt-enrich, default memory", "dbt-enrich, DuckDB 2.0"
# Without the table, which is the warehouse's, and with it.
BOTH = ("export", "load")
WHOLE = (*BOTH, "table")
# The engine's stages, as its timings name them.
STEPS = ("stage", "claim", "write", "load", "publish", "table")
# How many times as fast as the notebook with little memory, by rows, and with much.
_WHOLE_TIMES, _DEFAULT_TIMES = {10_000: 4.0, 100_000: 7.0}, {1_000_000: 10.0}
_ENGINE_TIMES = {100_000: 12.0, 1_000_000: 12.0}
_PEER_TIMES = {10_000: 20.0, 100_000: 40.0}
_NOTHING_NEW_SECONDS, _PLAN_TIMES, _FEW_SHARE = 3.0, 2.0, 1 / 3
_FLAT, _PEAK_MB, _DISK_TIMES = 1.2, 350.0, 3.0
_SINGLE, _BATCH = 500.0, 7_000.0
_TOKEN_SHARE = 0.3


@dataclass(frozen=True)
class Target:
    """A target.

    Attributes:
        wanted: What is wanted.
        measured: What was measured, or why nothing was.
        reached: Whether it is reached, or None where nothing was measured.
    """

    wanted: str
    measured: str
    reached: bool | None


def targets(results: Results) -> list[Target]:
    """Return all targets, as far as what was measured goes."""
    sides, daily = results.of("sides"), results.of("nothing-new")
    emulators = results.of("emulator")
    return [
        _times(
            "Times as fast as the notebook, with the table, in a warehouse of 100 MB",
            sides,
            lambda found: found.ratio(NOTEBOOK, ENGINE, *WHOLE),
            _WHOLE_TIMES,
        ),
        _times(
            "Times as fast as the notebook, with the table, in a warehouse with default memory",
            sides,
            lambda found: found.ratio(NOTEBOOK, DEFAULT, *WHOLE),
            _DEFAULT_TIMES,
        ),
        _times(
            "Times as fast as the notebook, without the table, in a warehouse of 100 MB",
            sides,
            lambda found: found.ratio(NOTEBOOK, ENGINE, *BOTH),
            _ENGINE_TIMES,
        ),
        _times(
            "Times as fast as the quickest complete peer",
            results.of("peers"),
            best_peer_ratio,
            _PEER_TIMES,
        ),
        _at_each_size(
            f"A run in which nothing is new takes at most {_NOTHING_NEW_SECONDS:.0f} s",
            daily,
            lambda found: found.median(found.contenders()[0], "nothing_new"),
            lambda seconds: f"{seconds:.1f} s",
            lambda seconds: seconds <= _NOTHING_NEW_SECONDS,
        ),
        _at_each_size(
            f"A run in which nothing is new takes at most {_PLAN_TIMES:.0f} times a plan",
            daily,
            lambda found: _within(found, "nothing_new", "plan"),
            lambda times: f"{times:.1f} times",
            lambda times: times <= _PLAN_TIMES,
        ),
        _at_each_size(
            "A run in which 1 % of the rows are new takes at most a third of a rebuild",
            daily,
            lambda found: _within(found, "few", "rebuild"),
            lambda share: f"{share:.0%}",
            lambda share: share <= _FEW_SHARE,
        ),
        _flat_time(sides),
        _at_each_size(
            f"Peak memory of the process at most {_PEAK_MB:.0f} MB, with limits of 100 MB for the "
            "warehouse and 160 MB for the private DuckDB",
            sides,
            lambda found: found.largest(ENGINE, "peak_mb"),
            lambda size: f"{size:.0f} MB",
            lambda size: size <= _PEAK_MB,
        ),
        _at_each_size(
            f"Disk at most {_DISK_TIMES:.0f} times the bytes of the requests",
            sides,
            disk_times,
            lambda times: f"{times:.1f} times",
            lambda times: times <= _DISK_TIMES,
        ),
        _at_each_size(
            "Requests, responses and scratch files freed after collection",
            sides,
            lambda found: found.largest(ENGINE, "files_left_mb"),
            lambda size: f"{size:.1f} MB left",
            lambda size: size < 0.1,
        ),
        _at_each_size(
            f"The batch server answers at least {_SINGLE:,.0f} single requests a second of four "
            "callers",
            emulators,
            lambda found: found.median("emulator", "single"),
            lambda speed: f"{speed:,.0f}",
            lambda speed: speed >= _SINGLE,
        ),
        _at_each_size(
            f"The batch server answers at least {_BATCH:,.0f} requests of a batch a second",
            emulators,
            lambda found: found.median("emulator", "batch"),
            lambda speed: f"{speed:,.0f}",
            lambda speed: speed >= _BATCH,
        ),
        _at_each_size(
            "The first file is on its way to the service before the second is written",
            results.of("dbt-run"),
            lambda found: min(found.values("dbt run", "begins"), default=None),
            lambda begins: "yes" if begins else "no",
            bool,
        ),
        _at_each_size(
            "The first file is at the service before the second is written",
            results.of("dbt-run"),
            lambda found: min(found.values("dbt run", "overlaps"), default=None),
            lambda overlaps: "yes" if overlaps else "no",
            bool,
        ),
        _at_each_size(
            f"Packed, at most {_TOKEN_SHARE:.0%} of the notebook's input tokens for real rows",
            results.of("tokens"),
            smallest_token_share,
            lambda share: f"{share:.0%}",
            lambda share: share <= _TOKEN_SHARE,
        ),
    ]


def in_shape(shape: str, contender: str) -> str:
    """Return the name of a contender among rows of a shape."""
    return f"{shape}: {contender}"


def token_share(found: Result, name: str) -> float | None:
    """Return a contender's input tokens as a share of the notebook's."""
    theirs, own = found.median(NOTEBOOK, "input"), found.median(name, "input")
    return own / theirs if own is not None and theirs else None


def smallest_token_share(found: Result) -> float | None:
    """Return the input tokens of the largest packs as a share of the notebook's."""
    shares = [token_share(found, name) for name in found.contenders() if name != NOTEBOOK]
    return min((share for share in shares if share is not None), default=None)


def best_peer_ratio(found: Result) -> float | None:
    """Return how many times longer than the engine the quickest peer took, at one size."""
    peers = [name for name in found.contenders() if name != ENGINE]
    ratios = [found.ratio(name, ENGINE, *WHOLE) for name in peers]
    return min((ratio for ratio in ratios if ratio is not None), default=None)


def disk_times(found: Result) -> float | None:
    """Return the largest disk that the engine used, as a multiple of the requests' bytes."""
    disk = found.largest(ENGINE, "disk_mb")
    requests = found.median(ENGINE, "request_mb")
    return None if disk is None or not requests else disk / requests


def _within(found: Result, way: str, other: str) -> float | None:
    """Return how many times as long as another one a way of running took, of the smallest store."""
    store = found.contenders()[0]
    return found.ratio(store, store, way, against=(other,))


def _times(
    wanted: str,
    results: Sequence[Result],
    figure: Callable[[Result], float | None],
    at_least: Mapping[int, float],
) -> Target:
    """Hold a ratio against what it is to be at some numbers of rows; others count for nothing."""
    text = ", ".join(f"{times:.0f} at {rows:,} rows" for rows, times in at_least.items())
    known = {one.rows: times for one in results if (times := figure(one)) is not None}
    measured = "; ".join(f"{times:.1f} times at {rows:,} rows" for rows, times in known.items())
    held = [known[rows] >= times for rows, times in at_least.items() if rows in known]
    return Target(
        f"{wanted}: at least {text}", measured or "not measured", all(held) if held else None
    )


def _at_each_size(
    wanted: str,
    results: Sequence[Result],
    figure: Callable[[Result], float | None],
    said: Callable[[float], str],
    is_reached: Callable[[float], bool],
) -> Target:
    """Hold a figure against a target at each size; it is reached if it is at all of them."""
    known = [(one.rows, value) for one in results if (value := figure(one)) is not None]
    if not known:
        return Target(wanted, "not measured", None)
    measured = "; ".join(f"{said(value)} at {rows:,} rows" for rows, value in known)
    return Target(wanted, measured, all(is_reached(value) for _, value in known))


def _flat_time(results: Sequence[Result]) -> Target:
    wanted = "Time for a row flat within 20 % from the smallest to the largest number of rows"
    times = [
        (one.rows, seconds / one.rows * 1e6)
        for one in results
        if (seconds := one.median(ENGINE, *WHOLE)) is not None
    ]
    if len(times) < 2:
        return Target(wanted, "not measured", None)
    measured = "; ".join(f"{micros:.1f} µs at {rows:,} rows" for rows, micros in times)
    only = [micros for _, micros in times]
    return Target(wanted, measured, max(only) <= _FLAT * min(only))
