"""The whole `dbt run` against the emulator, from its start to its end, in a real process."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from benchmarks import movies
from benchmarks.measuring import Figures, resident_mb
from benchmarks.movies import CATEGORIES, MODEL, PARAMETERS, SUMMARY, SYSTEM
from benchmarks.service import running_service
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.shards import Step
from support.dbt_project import DbtProject, azure

# How often the batch is looked at, so that the pause between two looks is not what is measured.
_POLL_SECONDS = 0.2
_LOOK_SECONDS = 0.05
_FILES = 5
_SELECT = "select movie_id, title, overview from movies"


def measure(rows: int, directory: Path) -> Figures:
    """Run dbt on an enrichment, and on a plain table of the same rows.

    Returns:
        `seconds` of the enrichment, `service` of them the emulator's own, `overhead` the others,
        `plain` of the table, `beyond_plain` the overhead that it has not;
        `begins` is 1 if the first file was on its way to the service before the second was written,
        `overlaps` is 1 if it was there.

    Raises:
        RuntimeError: dbt failed, or the table is not what the rows must become.
    """
    with running_service(directory / "service") as service:
        plugin = azure(
            service.url,
            service.api_key,
            poll_interval=_POLL_SECONDS,
            max_requests_per_file=max(1, rows // _FILES),
        )
        project = _project(directory, plugin)
        movies.make_warehouse(project.warehouse, rows)
        _dbt(project, "parse")
        plain, _ = _dbt(project, "run", "--select", "movies_plain")
        seconds, peak = _dbt(project, "run", "--select", "movies_enriched")
        found = movies.outcome(project.warehouse)
        if found != movies.expected(project.warehouse):
            raise RuntimeError(f"dbt run made another table of {rows:,} rows: {found}")
        own = service.own_seconds()
        begins, overlaps = _before_the_second(project.state_dir)
        return {
            "seconds": seconds,
            "service": own,
            "overhead": seconds - own,
            "beyond_plain": seconds - own - plain,
            "begins": float(begins),
            "overlaps": float(overlaps),
            "plain": plain,
            "peak_mb": peak,
            "emulator_mb": service.peak_mb,
        }


def _project(directory: Path, plugin: dict[str, object]) -> DbtProject:
    project = DbtProject(directory, plugin)
    project.write("models/movies_plain.sql", _SELECT)
    project.enrichment(
        "movies_enriched",
        _SELECT,
        config="unique_key = 'movie_id'",
        meta={
            "model": MODEL,
            "system": SYSTEM,
            "user": "{overview}",
            "output": ["categories", "summary"],
            "parameters": PARAMETERS,
        },
        columns=[
            {
                "name": "categories",
                "data_type": "varchar[]",
                "description": CATEGORIES,
                "config": {"meta": {"enrichment": {"max_items": 4, "lower": True}}},
            },
            {"name": "summary", "data_type": "varchar", "description": SUMMARY},
        ],
    )
    return project


def _dbt(project: DbtProject, *arguments: str) -> tuple[float, float]:
    """Run dbt and return its seconds and its largest memory in megabytes."""
    began, peak = time.perf_counter(), 0.0
    process = project.start(*arguments)
    while True:
        try:
            text, _ = process.communicate(timeout=_LOOK_SECONDS)
            break
        except subprocess.TimeoutExpired:
            peak = max(peak, _resident_mb(process.pid))
    seconds = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(f"dbt {' '.join(arguments)} failed: {text[-2000:]}")
    return seconds, peak


def _before_the_second(state: Path) -> tuple[bool, bool]:
    """Whether an upload had begun, and whether one had ended, before a second file was written."""
    with Ledger(state / "ledger.sqlite") as ledger:
        events = ledger.events.all()

    def times(step: Step) -> list[str]:
        return sorted(event["at"] for event in events if event["step"] == step)

    written = times(Step.EXPORTED)
    if len(written) < 2:
        return False, False
    return times(Step.UPLOADING)[0] < written[1], times(Step.UPLOADED)[0] < written[1]


def _resident_mb(pid: int) -> float:
    """Return a process's largest memory so far, or nothing where it has just ended."""
    try:
        return resident_mb(pid)
    except OSError:
        return 0.0
