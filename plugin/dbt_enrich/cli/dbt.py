"""dbt in a process of its own, as a command runs it; what it is to do stands in its environment."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from dbt_enrich.cli.project import Location, yaml_document
from dbt_enrich.environment import DBT_VARIABLE, MODE_VARIABLE, REPORTS_VARIABLE, given
from dbt_enrich.errors import ConfigurationError, EnrichmentError
from dbt_enrich.task.options import Mode

# Importing dbt's entry point by name works wherever dbt-core is installed beside this package.
_DBT = (sys.executable, "-c", "from dbt.cli.main import cli; cli()")


def dbt_command() -> tuple[str, ...]:
    """Return the dbt that works without our plugin: of any version, and in any environment.

    The one that the environment names, else the first on the path, else the one beside this
    interpreter.

    Raises:
        ConfigurationError: There is none.
    """
    named = given(DBT_VARIABLE)
    if named:
        return tuple(shlex.split(named))
    beside = Path(sys.executable).with_name("dbt")
    found = shutil.which("dbt") or (str(beside) if beside.exists() else None)
    if found is None:
        raise ConfigurationError(
            "there is no dbt on the path, nor beside the Python of dbt-enrich",
            fix=f"install it, or name it in the environment variable {DBT_VARIABLE}",
        )
    return (found,)


ALL_ENRICHMENTS = "config.materialized:enrichment"
# With the models between them, which a chain of enrichments needs to go on.
_ALL_CHAINS = f"{ALL_ENRICHMENTS}+,+{ALL_ENRICHMENTS}"


@dataclass(frozen=True)
class DbtOptions:
    """How dbt finds the project, and what the user hands on to it.

    Attributes:
        location: Where dbt finds the project.
        select: What dbt selects; by default every enrichment of the project's default selector, or
            of the whole project.
        full_refresh: Whether tables that are merged into are rebuilt.
        command: What starts dbt.
    """

    location: Location
    select: tuple[str, ...] = ()
    full_refresh: bool = False
    command: tuple[str, ...] = _DBT

    def resolved(self) -> DbtOptions:
        """Return the options with what dbt selects written out, for several runs of dbt."""
        return replace(self, select=self.select or _within_default(self, _ALL_CHAINS))

    def narrowed(self) -> DbtOptions:
        """Return the options without what is selected and is no enrichment."""
        select = tuple(map(_enrichments_of, self.select))
        return replace(self, select=select or _within_default(self, ALL_ENRICHMENTS))

    def arguments(self) -> list[str]:
        """Return dbt's arguments.

        The user's variables go to dbt as they are: other ones would have dbt parse the whole
        project anew, and the next `dbt run` once more.
        """
        refresh = ["--full-refresh"] if self.full_refresh else []
        return [*self.location.arguments(), *refresh, "--select", *self.resolved().select]


def run_dbt(
    options: DbtOptions, mode: Mode, environment: Mapping[str, str]
) -> tuple[int, list[dict[str, Any]]]:
    """Run `dbt run` in the foreground.

    Args:
        options: How dbt finds the project.
        mode: How far every enrichment goes.
        environment: What dbt's environment has beside this process's own.

    Returns:
        Its exit code, and what the engine reports of each enrichment.
    """
    with reports() as (lines, path):
        given = {MODE_VARIABLE: mode.value, REPORTS_VARIABLE: path, **environment}
        return foreground_dbt(options, given), lines()


def foreground_dbt(options: DbtOptions, environment: Mapping[str, str]) -> int:
    """Run `dbt run` in the foreground, and return its exit code.

    Args:
        options: How dbt finds the project.
        environment: What dbt's environment has beside this process's own.
    """
    command = [*options.command, "run", *options.arguments()]
    done = subprocess.run(command, check=False, env={**os.environ, **environment})  # noqa: S603
    return done.returncode


def reports_of_dbt(
    options: DbtOptions, mode: Mode, environment: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Run `dbt run` in silence and return what the engine reports of each enrichment.

    Of what is selected other models are left out: they would be built.

    Args:
        options: How dbt finds the project.
        mode: How far every enrichment goes.
        environment: What dbt's environment has beside this process's own.

    Raises:
        EnrichmentError: dbt failed; its own words are printed before.
    """
    with reports() as (lines, path):
        given = {MODE_VARIABLE: mode.value, REPORTS_VARIABLE: path, **(environment or {})}
        quiet_dbt(options, "run", *options.narrowed().arguments(), environment=given)
        return lines()


@contextmanager
def reports() -> Iterator[tuple[Callable[[], list[dict[str, Any]]], str]]:
    """Make a file for the engine's reports; yield what reads it, and its path."""
    with tempfile.TemporaryDirectory(prefix="dbt-enrich-") as directory:
        path = Path(directory) / "reports.jsonl"

        def lines() -> list[dict[str, Any]]:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            return [json.loads(line) for line in text.splitlines()]

        yield lines, str(path)


def models_of_dbt(options: DbtOptions) -> list[dict[str, Any]]:
    """Return the selected enrichments as dbt lists them, without a connection to the warehouse.

    Raises:
        EnrichmentError: dbt cannot read the project; its own words are printed before.
    """
    enrichments = options.narrowed()
    keys = ("name", "alias", "database", "schema", "config", "columns")
    shown = ("--resource-type", "model", "--output", "json", "--output-keys", *keys)
    listed = quiet_dbt(options, "ls", *enrichments.arguments(), *shown)
    return [json.loads(line) for line in listed.splitlines() if line.startswith("{")]


def quiet_dbt(
    options: DbtOptions, *arguments: str, environment: Mapping[str, str] | None = None
) -> str:
    """Run dbt in silence and return what it printed, which is shown where it failed.

    Args:
        options: How dbt is started.
        arguments: Its arguments.
        environment: What its environment has beside this process's own.

    Raises:
        EnrichmentError: dbt failed.
    """
    done = subprocess.run(  # noqa: S603
        [*options.command, "--quiet", *arguments],
        check=False,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        click.echo(done.stdout.strip(), err=True)
        raise EnrichmentError("dbt failed", fix="fix what it names above, then try again")
    return done.stdout


def _within_default(options: DbtOptions, wanted: str) -> tuple[str, ...]:
    """Narrow a selection to what a bare `dbt build` takes: dbt drops that where one is given."""
    location = options.location
    if not _has_default_selector(location.root / "selectors.yml"):
        return (wanted,)
    shown = ("--resource-type", "model", "--output", "selector")
    listed = quiet_dbt(options, "ls", *location.arguments(), *shown)
    names = (line.strip() for line in listed.splitlines())
    return tuple(f"fqn:{name},{wanted}" for name in names if name) or ("",)


def _has_default_selector(path: Path) -> bool:
    """Whether a file of selectors has one that is meant where none is named."""
    selectors = yaml_document(path).get("selectors")
    return isinstance(selectors, list) and any(
        isinstance(one, dict) and "default" in one for one in selectors
    )


def _enrichments_of(selected: str) -> str:
    """Narrow one word of dbt's selection; an empty one selects nothing as it is."""
    return f"{selected},{ALL_ENRICHMENTS}" if selected else selected
