"""What `dbt-enrich doctor` looks at: versions and the profile, then the state and the service."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement

from dbt_enrich import __version__
from dbt_enrich.cli.diagnosis_host import door_findings, host_findings
from dbt_enrich.cli.diagnosis_prices import price_findings
from dbt_enrich.cli.diagnosis_service import service_findings
from dbt_enrich.cli.diagnosis_state import state_findings
from dbt_enrich.cli.findings import Finding, of_error
from dbt_enrich.cli.project import Location, load_databases, load_project
from dbt_enrich.config.place import PROJECT_FILE
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.warehouse.databases import Databases

_PACKAGES = ("dbt-core", "dbt-duckdb", "duckdb", "openai")


def diagnose(location: Location, models: tuple[str, ...]) -> Iterator[Finding]:
    """Look at everything that a run needs. Nothing is sent that costs.

    Args:
        location: Where the dbt project is.
        models: Logical models whose deployments are looked at; the profile's if empty.
    """
    root = location.root
    packages = list(_packages())
    yield from packages
    yield _macros(root)
    if any(finding.verdict == "wrong" for finding in packages):
        # Without dbt the profile cannot be read.
        return
    try:
        project = load_project(location)
        databases = load_databases(location) if project.adapter == "duckdb" else None
    except ConfigurationError as error:
        is_of_file = error.problem.startswith(PROJECT_FILE)
        yield of_error("configuration" if is_of_file else "profile", error)
        return
    yield Finding("profile", "ok", f"{project.name}, provider {project.config.provider}")
    yield from door_findings(project)
    if databases is not None:
        yield from _databases(databases)
    else:
        yield from host_findings(project, location)
    yield from state_findings(project.config)
    yield from price_findings(project.config, models)
    yield from service_findings(project.config, models)


def _databases(databases: Databases) -> Iterator[Finding]:
    if databases.server:
        yield of_error("database", databases.server)
        return
    yield Finding("database", "ok", f"models go to {databases.default} by default")
    for other in databases.attached:
        if other.is_quack:
            yield Finding(
                "database",
                "warning",
                f"{other.name} is a DuckDB server reached through Quack, to which no enriched "
                "table is published",
                "keep enrichments out of it",
            )


def _packages() -> Iterator[Finding]:
    yield Finding("dbt-enrich", "ok", __version__)
    wanted = _requirements()
    for package in _PACKAGES:
        need = wanted.get(package)
        try:
            found = version(package)
        except PackageNotFoundError:
            yield Finding(package, "wrong", "not installed", f"pip install '{need or package}'")
            continue
        if need is not None and not need.specifier.contains(found, prereleases=True):
            text = f"{found}, which dbt-enrich {__version__} was not made for"
            yield Finding(package, "warning", text, f"pip install '{need}'")
            continue
        yield Finding(package, "ok", found)


def _requirements() -> dict[str, Requirement]:
    """Return what this package requires in any case, by name."""
    try:
        lines = requires("dbt-enrich") or []
    except PackageNotFoundError:
        return {}
    found = [Requirement(line) for line in lines]
    return {requirement.name: requirement for requirement in found if not requirement.marker}


def _macros(root: Path) -> Finding:
    installed = _document(root / "dbt_project.yml").get("packages-install-path") or "dbt_packages"
    path = root / str(installed) / "dbt_enrich" / "dbt_project.yml"
    found = _document(path).get("version")
    if found is None:
        return Finding(
            "macros",
            "wrong",
            "the dbt package dbt_enrich is not installed in this project",
            "add it to packages.yml (dbt-enrich init) and run dbt deps",
        )
    if str(found) != __version__:
        return Finding(
            "macros",
            "wrong",
            f"version {found}, but the Python package is {__version__}",
            "install the same version of both: packages.yml and dbt deps, pip install",
        )
    return Finding("macros", "ok", str(found))


def _document(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return document if isinstance(document, dict) else {}
