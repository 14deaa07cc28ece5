"""dbt in a process of its own, as a command runs it, with our variables beside the user's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import yaml

from dbt_enrich.cli.project import Location
from dbt_enrich.errors import ConfigurationError, EnrichmentError
from dbt_enrich.pipeline.reports import REPORTS_VARIABLE

# Importing dbt's entry point by name works wherever dbt-core is installed beside this package.
_DBT = (sys.executable, "-c", "from dbt.cli.main import cli; cli()")
ALL_ENRICHMENTS = "config.materialized:enrichment"
# With the models between them, which a chain of enrichments needs to go on.
_ALL_CHAINS = f"{ALL_ENRICHMENTS}+,+{ALL_ENRICHMENTS}"


@dataclass(frozen=True)
class DbtOptions:
    """How dbt finds the project, and what the user hands on to it.

    Attributes:
        location: Where dbt finds the project.
        select: What dbt selects; every enrichment by default.
        full_refresh: Whether tables that are merged into are rebuilt.
    """

    location: Location
    select: tuple[str, ...] = ()
    full_refresh: bool = False

    def arguments(self, **variables: Any) -> list[str]:
        """Return dbt's arguments, with variables of ours beside the user's.

        Raises:
            ConfigurationError: The user's variables are no YAML mapping.
        """
        where = self.location
        named = {
            "--project-dir": where.project_dir,
            "--profiles-dir": where.profiles_dir,
            "--profile": where.profile,
            "--target": where.target,
        }
        found = [text for key, value in named.items() if value for text in (key, str(value))]
        try:
            own = yaml.safe_load(where.cli_vars) or {}
        except yaml.YAMLError as error:
            raise ConfigurationError(
                f"--vars is no YAML ({error})",
                fix="write it as '{a: 1}'",
            ) from None
        if not isinstance(own, dict):
            raise ConfigurationError("--vars is no mapping", fix="write it as '{a: 1}'")
        selected = self.select or (_ALL_CHAINS,)
        refresh = ["--full-refresh"] if self.full_refresh else []
        return [*found, *refresh, "--select", *selected, "--vars", json.dumps({**own, **variables})]


def run_dbt(options: DbtOptions, environment: Mapping[str, str], **variables: Any) -> int:
    """Run `dbt run` in the foreground and return its exit code.

    Args:
        options: How dbt finds the project.
        environment: What dbt's environment has beside this process's own.
        variables: dbt variables of ours.
    """
    command = [*_DBT, "run", *options.arguments(**variables)]
    done = subprocess.run(command, check=False, env={**os.environ, **environment})  # noqa: S603
    return done.returncode


def reports_of_dbt(options: DbtOptions, **variables: Any) -> list[dict[str, Any]]:
    """Run `dbt run` in silence and return what the engine reports of each enrichment.

    Of what is selected other models are left out: they would be built, and a Python model, which
    does not see our variables, would send its rows.

    Raises:
        EnrichmentError: dbt failed; its own words are printed before.
    """
    with tempfile.TemporaryDirectory(prefix="dbt-enrich-") as directory:
        path = Path(directory) / "reports.jsonl"
        enrichments = replace(
            options, select=tuple(map(_enrichments_of, options.select)) or (ALL_ENRICHMENTS,)
        )
        command = [*_DBT, "--quiet", "run", *enrichments.arguments(**variables)]
        done = subprocess.run(  # noqa: S603
            command,
            check=False,
            env={**os.environ, REPORTS_VARIABLE: str(path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            click.echo(done.stdout.strip(), err=True)
            raise EnrichmentError(
                "dbt failed",
                fix="correct what it names above, then try again",
            )
        lines: Sequence[str] = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def models_of_dbt(options: DbtOptions) -> list[dict[str, Any]]:
    """Return the selected enrichments as dbt lists them, without a connection to the warehouse.

    Raises:
        EnrichmentError: dbt cannot read the project; its own words are printed before.
    """
    enrichments = replace(options, select=tuple(map(_enrichments_of, options.select)))
    keys = ("name", "alias", "database", "schema", "config", "columns")
    shown = ("--resource-type", "model", "--output", "json", "--output-keys", *keys)
    done = subprocess.run(  # noqa: S603
        [*_DBT, "--quiet", "ls", *enrichments.arguments(), *shown],
        check=False,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        click.echo(done.stdout.strip(), err=True)
        raise EnrichmentError("dbt failed", fix="fix what it names above, then try again")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def _enrichments_of(selected: str) -> str:
    """Narrow one word of dbt's selection; an empty one selects nothing as it is."""
    return f"{selected},{ALL_ENRICHMENTS}" if selected else selected
