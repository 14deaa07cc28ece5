"""What `dbt-enrich doctor` looks at: one finding each, with its mend."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import yaml

from dbt_enrich import __version__
from dbt_enrich.cli.project import Project
from dbt_enrich.errors import AuthenticationError, EnrichmentError
from dbt_enrich.filesystems import network_file_system
from dbt_enrich.ledger import Ledger
from dbt_enrich.services import create_service
from dbt_enrich.services.base import BatchService
from dbt_enrich.store import StateDirectory

Verdict = Literal["ok", "warning", "wrong"]
_PACKAGES = ("dbt-core", "dbt-duckdb", "duckdb", "openai")
# What a resource takes: https://learn.microsoft.com/azure/ai-services/openai/how-to/batch, limits.
_MOST_FILES = 10_000
_MOST_LASTING_FILES = 500
_LITTLE_ROOM = 1_000_000_000


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        subject: What was looked at.
        verdict: Whether it is as it should be.
        found: What it is.
        mend: What to do about it; empty where nothing is to be done.
    """

    subject: str
    verdict: Verdict
    found: str
    mend: str = ""


def diagnose(project: Project, root: Path, models: tuple[str, ...]) -> Iterator[Finding]:
    """Look at everything that a run needs. Nothing is sent that costs.

    Args:
        project: The project and its plugin configuration.
        root: The dbt project's directory.
        models: Logical models whose deployments are looked at; the profile's if empty.
    """
    yield from _versions(root)
    yield from _state_directory(project)
    yield from _ledger(project)
    yield from _service(project, models)


def _versions(root: Path) -> Iterator[Finding]:
    yield Finding("dbt-enrich", "ok", __version__)
    for package in _PACKAGES:
        try:
            yield Finding(package, "ok", version(package))
        except PackageNotFoundError:
            yield Finding(package, "wrong", "not installed", f"pip install {package}")
    yield _macros(root)


def _macros(root: Path) -> Finding:
    path = root / "dbt_packages" / "dbt_enrich" / "dbt_project.yml"
    try:
        found = str(yaml.safe_load(path.read_text(encoding="utf-8"))["version"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return Finding(
            "macros",
            "wrong",
            "the dbt package dbt_enrich is not installed in this project",
            "add it to packages.yml (dbt-enrich init) and run dbt deps",
        )
    if found != __version__:
        return Finding(
            "macros",
            "wrong",
            f"version {found}, but the Python package is {__version__}",
            f"install {__version__} of both: packages.yml and dbt deps, pip install",
        )
    return Finding("macros", "ok", found)


def _state_directory(project: Project) -> Iterator[Finding]:
    root = project.config.state_dir.expanduser().resolve()
    if root.is_dir() and root.stat().st_mode & 0o077:
        mode = f"{root.stat().st_mode & 0o777:04o}"
        yield Finding(
            "state directory mode", "warning", f"{root} has the mode {mode}", f"chmod 700 {root}"
        )
    try:
        StateDirectory(project.config.state_dir)
    except EnrichmentError as error:
        yield _of_error("state directory", error)
        return
    yield Finding("state directory", "ok", str(root))
    network = network_file_system(root)
    if network:
        yield Finding(
            "file system",
            "warning",
            f"{root} is on a network file system ({network})",
            "set state_dir to a local disk: locks are not safe between machines there",
        )
    free = shutil.disk_usage(root).free
    if free < _LITTLE_ROOM:
        yield Finding("disk", "warning", f"{free / 1e6:,.0f} MB free", "make room")
    else:
        yield Finding("disk", "ok", f"{free / 1e9:,.0f} GB free")


def _ledger(project: Project) -> Iterator[Finding]:
    root = project.config.state_dir.expanduser().resolve()
    path = root / "ledger.sqlite"
    if not path.exists():
        yield Finding("ledger", "ok", "none yet: nothing was sent")
        return
    try:
        with Ledger(path) as ledger:
            names = ledger.all_answer_names()
            open_shards = len(ledger.open_shards())
        with closing(sqlite3.connect(path)) as connection:
            (verdict,) = connection.execute("pragma integrity_check").fetchone()
    except (EnrichmentError, sqlite3.Error) as error:
        yield _of_error("ledger", error)
        return
    if verdict != "ok":
        mend = f"move {path} away: batches are found again at the service, answers in the table"
        yield Finding("ledger", "wrong", str(verdict), mend)
        return
    yield Finding("ledger", "ok", f"{open_shards} batches in flight, {len(names)} files of answers")
    store = StateDirectory(root)
    missing = [name for name in names if not store.answers(name).exists()]
    if missing:
        yield Finding(
            "answers",
            "wrong",
            f"{len(missing)} files that the ledger names are not there, such as {missing[0]}",
            f"restore {root / 'answers'} from a backup; what is lost is asked and paid for again",
        )


def _service(project: Project, models: tuple[str, ...]) -> Iterator[Finding]:
    config = project.config
    try:
        service = create_service(config.service_settings())
    except EnrichmentError as error:
        yield _of_error("service", error)
        return
    try:
        deployments = _deployments(project, models)
        yield from _reached(service, deployments)
        yield from _room(project, service, deployments)
        yield from _files(service, config.provider)
    finally:
        service.close()


def _deployments(project: Project, models: tuple[str, ...]) -> list[str]:
    if models:
        return [project.config.deployment(model) for model in models]
    return [name for names in project.config.deployments.values() for name in names]


def _reached(service: BatchService, deployments: list[str]) -> Iterator[Finding]:
    try:
        next(iter(service.batches()), None)
    except AuthenticationError as error:
        yield _of_error("key", error)
        return
    except EnrichmentError as error:
        yield _of_error("endpoint", error)
        return
    yield Finding("endpoint", "ok", f"{service.service_id} answers and takes the key")
    for deployment in deployments:
        yield _checked(f"deployment {deployment}", partial(service.check, deployment))
    if not deployments:
        yield Finding(
            "deployments",
            "warning",
            "the profile names none, so the models' own names are used",
            "name a model by --model to have its deployment looked at",
        )


def _room(project: Project, service: BatchService, deployments: list[str]) -> Iterator[Finding]:
    path = project.config.state_dir.expanduser() / "ledger.sqlite"
    for deployment in deployments:
        limit = project.config.token_limit(deployment)
        if limit is None and path.exists():
            try:
                with Ledger(path) as ledger:
                    limit = ledger.token_limit(service.service_id, deployment)
            except EnrichmentError:
                return
        if limit is not None:
            yield Finding(f"quota of {deployment}", "ok", f"{limit:,} enqueued tokens")


def _files(service: BatchService, provider: str) -> Iterator[Finding]:
    if provider != "azure":
        return
    try:
        files = list(service.files())
    except EnrichmentError:
        return
    lasting = sum(file.expires_at is None for file in files)
    found = f"{len(files):,} of {_MOST_FILES:,} input files, {lasting:,} of them without expiry"
    if len(files) >= _MOST_FILES or lasting >= _MOST_LASTING_FILES:
        mend = "delete old input files at the resource, or set file_expiry_days to 14 to 30"
        yield Finding("file quota", "warning", found, mend)
        return
    yield Finding("file quota", "ok", found)


def _checked(subject: str, check: Callable[[], None]) -> Finding:
    try:
        check()
    except EnrichmentError as error:
        return _of_error(subject, error)
    return Finding(subject, "ok", "is there and takes batches, as far as the service tells")


def _of_error(subject: str, error: Exception) -> Finding:
    # The texts of our errors end with the mend.
    mark = "; " if "; " in str(error) else ": "
    found, _, mend = str(error).rpartition(mark)
    return Finding(subject, "wrong", found or str(error), mend)
