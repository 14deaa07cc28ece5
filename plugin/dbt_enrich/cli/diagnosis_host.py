"""What `dbt-enrich doctor` says of the host: which door leads there, and whether it answers."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing

from dbt_enrich.cli.dbt import dbt_command
from dbt_enrich.cli.findings import Finding, of_error
from dbt_enrich.cli.hosts import KnownHost, known_host, open_host, refused_adapter
from dbt_enrich.cli.project import Location, Project
from dbt_enrich.config.place import PROFILE, PROJECT_FILE
from dbt_enrich.errors import ConfigurationError, EnrichmentError
from dbt_enrich.warehouse.host import HostTable

_VERSION = re.compile(r"\d+\.\d+\.\d+\S*")
# dbt-core imports for some seconds before it says its version.
_SECONDS = 120.0


def door_findings(project: Project) -> Iterator[Finding]:
    """Say where the configuration stands, and which door the project uses, and why.

    Args:
        project: The project.
    """
    if project.config.place == PROFILE:
        found = "the plugin's block in profiles.yml"
        if (project.root / PROJECT_FILE).exists():
            found = f"{found}; {PROJECT_FILE} is not read"
    else:
        found = f"{PROJECT_FILE}, as the profile has no block of dbt-enrich"
    yield Finding("configuration", "ok", found)
    if project.has_plugin:
        yield _plugin()
        return
    if known_host(project.adapter) is None:
        yield of_error("door", refused_adapter(project.adapter, project.target))
        return
    why = (
        "as the target has no plugin dbt_enrich.plugin"
        if project.adapter == "duckdb"
        else f"as the target is of the type {project.adapter}"
    )
    yield Finding("door", "ok", f"the command `dbt-enrich run`, {why}")
    yield _dbt()


def _plugin() -> Finding:
    """Say that the plugin does all, where the dbt that a user starts knows plugins."""
    there = shutil.which("dbt")
    version = _version_of((there,)) if there else None
    if version is not None and int(version.partition(".")[0]) > 1:
        return Finding(
            "door",
            "warning",
            f"the plugin of the target, but the dbt on the path is {version}, which has no plugins",
            f"take the plugin out of the target and write {PROJECT_FILE} (dbt-enrich init "
            "--no-plugin), or start the dbt-core of this environment",
        )
    return Finding("door", "ok", "the plugin dbt_enrich.plugin of the target: `dbt run` does all")


def _dbt() -> Finding:
    try:
        command = dbt_command()
    except ConfigurationError as error:
        return of_error("dbt", error)
    version = _version_of(command)
    if version is None:
        return Finding(
            "dbt",
            "wrong",
            f"{' '.join(command)} does not say its version",
            "see what `dbt --version` prints, or name another in DBT_ENRICH_DBT",
        )
    return Finding("dbt", "ok", f"{version} ({' '.join(command)})")


def _version_of(command: tuple[str, ...]) -> str | None:
    """Return the version of a dbt, or None where it does not say."""
    try:
        done = subprocess.run(  # noqa: S603
            [*command, "--version"], capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(done.stdout)
    return found[0] if found else None


def host_findings(project: Project, location: Location) -> Iterator[Finding]:
    """Look whether what the host needs is installed, and whether it answers.

    Args:
        project: The project, whose target is not DuckDB's. Of one that has no door nothing is said.
        location: Where dbt finds it.
    """
    known = known_host(project.adapter)
    if known is None:
        return
    if known.extra is not None and known.extra.missing():
        yield Finding(
            "host",
            "wrong",
            f"{known.label} needs the extra '{known.extra}', which is not installed",
            known.extra.install,
        )
        return
    yield _answer(project, location, known)


def _answer(project: Project, location: Location, known: KnownHost) -> Finding:
    try:
        with closing(open_host(project, location)) as host:
            # That there is none is an answer too.
            host.columns(HostTable(None, "enrichment", "doctor"))
    except EnrichmentError as error:
        return of_error("host", error)
    return Finding("host", "ok", f"{known.label} answers")
