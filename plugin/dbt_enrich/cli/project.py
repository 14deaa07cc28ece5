"""The dbt project that a command works on: its name, and our plugin's configuration in its profile.

Read by dbt itself, so that profiles, targets, variables and environment variables mean what they
mean to `dbt run`.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any

import click
import yaml

from dbt_enrich.config import PluginConfig, parse_config
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.report.warehouse import Database

_MODULE = "dbt_enrich.plugin"


@dataclass(frozen=True)
class Location:
    """Where dbt finds a project, as the user says it.

    Attributes:
        project_dir: Directory of dbt_project.yml, or None for this one.
        profiles_dir: Directory of profiles.yml, or None.
        profile: Profile in place of the project's, or None.
        target: Target of the profile, or None.
        cli_vars: dbt variables, as YAML.
    """

    project_dir: Path | None = None
    profiles_dir: Path | None = None
    profile: str | None = None
    target: str | None = None
    cli_vars: str = "{}"

    def absolute(self) -> Location:
        """Return the same location for whoever works in another directory."""
        return replace(
            self,
            project_dir=(self.project_dir or Path.cwd()).resolve(),
            profiles_dir=self.profiles_dir.resolve() if self.profiles_dir else None,
        )


@dataclass(frozen=True)
class Project:
    """A dbt project.

    Attributes:
        name: Its name, the default namespace.
        config: Our plugin's configuration in the profile's target.
        databases: The target's databases, the warehouse first.
    """

    name: str
    config: PluginConfig
    databases: tuple[Database, ...] = ()

    @property
    def namespace(self) -> str:
        """The mark of the project's batches at the service."""
        return self.config.namespace or self.name


def project_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options by which dbt finds a project, spelled as dbt spells them.

    The command takes them together, as its argument `location`.
    """

    @wraps(command)
    def located(
        project_dir: Path | None,
        profiles_dir: Path | None,
        profile: str | None,
        target: str | None,
        cli_vars: str,
        **named: Any,
    ) -> Any:
        location = Location(project_dir, profiles_dir, profile, target, cli_vars)
        return command(location=location, **named)

    options = [
        click.option(
            "--project-dir",
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            envvar="DBT_PROJECT_DIR",
            help="Directory of dbt_project.yml (default: this one).",
        ),
        click.option(
            "--profiles-dir",
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            envvar="DBT_PROFILES_DIR",
            help="Directory of profiles.yml (default: the project's, else ~/.dbt).",
        ),
        click.option("--profile", envvar="DBT_PROFILE", help="Profile in place of the project's."),
        click.option("--target", "-t", envvar="DBT_TARGET", help="Target of the profile."),
        click.option("--vars", "cli_vars", default="{}", help="dbt variables, as YAML."),
    ]
    decorated: Callable[..., Any] = located
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def load_project(location: Location) -> Project:
    """Read a dbt project and its profile, and work in the project's directory from now on.

    Raises:
        ConfigurationError: dbt cannot read them, or the target has no plugin of ours.
    """
    from dbt.config.runtime import load_profile
    from dbt.config.runtime import load_project as load_dbt_project
    from dbt.flags import set_from_args
    from dbt_common.context import set_invocation_context
    from dbt_common.exceptions import DbtBaseException

    root = (location.project_dir or Path.cwd()).resolve()
    if not (root / "dbt_project.yml").exists():
        raise ConfigurationError(
            f"{root} holds no dbt_project.yml",
            fix="go to the dbt project, or name it by --project-dir",
        )
    given = location.profiles_dir
    profiles = given.resolve() if given else _profiles_dir(root)
    # As dbt does, so that relative paths of the profile lead to the same places.
    os.chdir(root)
    try:
        variables = yaml.safe_load(location.cli_vars) or {}
        set_invocation_context(os.environ)
        set_from_args(Namespace(PROFILES_DIR=str(profiles), PROJECT_DIR=str(root)), {})
        loaded = load_profile(str(root), variables, location.profile, location.target)
        name = load_dbt_project(str(root), False, loaded, variables).project_name
    except (DbtBaseException, yaml.YAMLError, OSError) as error:
        raise ConfigurationError(
            f"dbt cannot read the project {root} with the profiles in {profiles}: "
            f"{' '.join(str(error).split())}",
            fix="correct what dbt names, or the options that lead there",
        ) from None
    return Project(
        name,
        _plugin_config(loaded.credentials, loaded.target_name),
        tuple(_databases(loaded.credentials)),
    )


def _profiles_dir(root: Path) -> Path:
    return root if (root / "profiles.yml").exists() else Path.home() / ".dbt"


def _databases(credentials: Any) -> Iterator[Database]:
    """Yield the DuckDB files of a target; others that it attaches hold no enriched table."""
    yield Database(str(getattr(credentials, "path", ":memory:")))
    for attached in getattr(credentials, "attach", None) or []:
        if attached.type in (None, "duckdb"):
            yield Database(str(attached.path), attached.alias)


def _plugin_config(credentials: Any, target: str) -> PluginConfig:
    settings = dict(getattr(credentials, "settings", None) or {})
    for plugin in getattr(credentials, "plugins", None) or []:
        if plugin.module == _MODULE:
            return parse_config({**settings, **(plugin.config or {})}, duckdb_settings=settings)
    raise ConfigurationError(
        f"the target '{target}' of the profile has no plugin with module: {_MODULE}",
        fix="add it under plugins, or name another target by --target",
    )
