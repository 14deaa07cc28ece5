"""The whole `dbt run` against the emulator, from its start to its end, in a real process."""

from __future__ import annotations

import json
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import movies
from benchmarks.measuring import Figures, resident_mb
from benchmarks.movies import CATEGORIES, MODEL, PARAMETERS, SUMMARY, SYSTEM
from benchmarks.service import Service, running_service
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.shards import Step
from support.dbt_project import DbtProject, azure

# How often the batch is looked at, so that the pause between two looks is not what is measured.
_POLL_SECONDS = 0.2
_LOOK_SECONDS = 0.05
_FILES = 5
_SELECT = "select movie_id, title, overview from movies"


@dataclass(frozen=True)
class DbtRun:
    """What a run of dbt took.

    Attributes:
        seconds: From the start of its process to its end.
        cpu: Seconds of CPU.
        peak_mb: Its largest memory.
        model: Seconds of its model, as dbt says them.
    """

    seconds: float
    cpu: float
    peak_mb: float
    model: float


def measure(rows: int, directory: Path) -> Figures:
    """Run dbt on an enrichment, and on a plain table of the same rows.

    Returns:
        `seconds` of the enrichment, `service` of them the emulator's own, `overhead` the others,
        `plain` of the table, `beyond_plain` the overhead that it has not, `cpu_beyond_plain` the
        seconds of CPU that it has not;
        `begins` is 1 if the first file was on its way to the service before the second was written,
        `overlaps` is 1 if it was there.

    Raises:
        RuntimeError: dbt failed, or the table is not what the rows must become.
    """
    with running_service(directory / "service") as service:
        project = movies_project(directory, service, max_requests_per_file=max(1, rows // _FILES))
        movies.make_warehouse(project.warehouse, rows)
        dbt(project, "parse")
        plain = dbt(project, "run", "--select", "movies_plain")
        whole = dbt(project, "run", "--select", "movies_enriched")
        check(project)
        own = service.own_seconds()
        begins, overlaps = _before_the_second(project.state_dir)
        return {
            "seconds": whole.seconds,
            "service": own,
            "overhead": whole.seconds - own,
            "beyond_plain": whole.seconds - own - plain.seconds,
            "cpu_beyond_plain": whole.cpu - plain.cpu,
            "begins": float(begins),
            "overlaps": float(overlaps),
            "plain": plain.seconds,
            "peak_mb": whole.peak_mb,
            "emulator_mb": service.peak_mb,
        }


def check(project: DbtProject) -> None:
    """Compare the enriched table with what the rows must become.

    Raises:
        RuntimeError: It is another one.
    """
    found, wanted = movies.outcome(project.warehouse), movies.expected(project.warehouse)
    if found != wanted:
        raise RuntimeError(f"dbt run made another table: {found}, not {wanted}")


def movies_project(directory: Path, service: Service, **settings: object) -> DbtProject:
    """Write a project with `movies_plain`, a table, and `movies_enriched`, an enrichment.

    Args:
        directory: Where it is written.
        service: Who answers.
        settings: What the plugin's `config:` says beside.
    """
    plugin = azure(service.url, service.api_key, poll_interval=_POLL_SECONDS, **settings)
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


def dbt(project: DbtProject, *arguments: str, **environment: str) -> DbtRun:
    """Run dbt and return what it took.

    Raises:
        RuntimeError: It failed.
    """
    began, peak, before = time.perf_counter(), 0.0, _cpu_of_children()
    process = project.start(*arguments, **environment)
    while True:
        try:
            text, _ = process.communicate(timeout=_LOOK_SECONDS)
            break
        except subprocess.TimeoutExpired:
            peak = max(peak, _resident_mb(process.pid))
    seconds = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(f"dbt {' '.join(arguments)} failed: {text[-2000:]}")
    return DbtRun(seconds, _cpu_of_children() - before, peak, _model_seconds(project.directory))


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _model_seconds(directory: Path) -> float:
    path = directory / "target" / "run_results.json"
    results = json.loads(path.read_text())["results"] if path.exists() else []
    return sum(
        float(result["execution_time"])
        for result in results
        if result["unique_id"].startswith("model.")
    )


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
