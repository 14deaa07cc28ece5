"""The targets, each with what was measured and whether it is reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.results import Result, Results

ENGINE, NOTEBOOK, FLOOR = "dbt-enrich", "notebook", "floor"
BOTH = ("export", "load")
# The engine's stages, as its timings name them.
STEPS = ("stage", "claim", "write", "load", "publish", "table")
_NOTEBOOK_TIMES, _PEER_TIMES = 20.0, 100.0
_FLAT, _PEAK_MB, _DISK_TIMES = 1.2, 300.0, 3.0
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
    sides = results.of("sides")
    return [
        _at_each_size(
            f"Export and load together, keys and validation included, at least "
            f"{_NOTEBOOK_TIMES:.0f} times as fast as the notebook",
            sides,
            lambda found: found.ratio(NOTEBOOK, ENGINE, *BOTH),
            lambda times: f"{times:.1f} times",
            lambda times: times >= _NOTEBOOK_TIMES,
        ),
        _at_each_size(
            f"At least {_PEER_TIMES:.0f} times as fast as the best complete peer",
            results.of("peers"),
            best_peer_ratio,
            lambda times: f"{times:.0f} times",
            lambda times: times >= _PEER_TIMES,
        ),
        _flat_time(sides),
        _at_each_size(
            f"Peak memory of the process under {_PEAK_MB:.0f} MB, with 100 MB for the warehouse",
            sides,
            lambda found: found.largest(ENGINE, "peak_mb"),
            lambda size: f"{size:.0f} MB",
            lambda size: size < _PEAK_MB,
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
    ratios = [found.ratio(name, ENGINE, *BOTH) for name in peers]
    return min((ratio for ratio in ratios if ratio is not None), default=None)


def disk_times(found: Result) -> float | None:
    """Return the largest disk that the engine used, as a multiple of the requests' bytes."""
    disk = found.largest(ENGINE, "disk_mb")
    requests = found.median(ENGINE, "request_mb")
    return None if disk is None or not requests else disk / requests


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
        if (seconds := one.median(ENGINE, *BOTH)) is not None
    ]
    if len(times) < 2:
        return Target(wanted, "not measured", None)
    measured = "; ".join(f"{micros:.1f} µs at {rows:,} rows" for rows, micros in times)
    only = [micros for _, micros in times]
    return Target(wanted, measured, max(only) <= _FLAT * min(only))
