"""The dbt project that a command works on: its name, and our plugin's configuration in its profile.

Read by dbt itself wherever its own reading could matter, so that profiles, targets, variables and
environment variables mean what they mean to `dbt run`.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml
from pydantic import SecretStr

from dbt_enrich.cli.plain_profile import read_plain
from dbt_enrich.config import PluginConfig, parse_config, read_project_file
from dbt_enrich.config.place import PROJECT_FILE
from dbt_enrich.config.profile import own_values
from dbt_enrich.config.state import StateKeys
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.open_ledger import has_ledger, ledger_place, open_ledger
from dbt_enrich.state.run import Run, open_run
from dbt_enrich.state.stray_directory import stray_state

if TYPE_CHECKING:
    from dbt_enrich.warehouse.databases import Databases

_MODULE = "dbt_enrich.plugin"


@dataclass(frozen=True)
class Location:
    """Where a dbt project is, as the user says it: by options, environment or working directory.

    Attributes:
        project_dir: Directory of dbt_project.yml, or None for the nearest one from here upwards.
        profiles_dir: Directory of profiles.yml, or None for where dbt looks.
        profile: Profile in place of the project's, or None.
        target: Target of the profile, or None.
        cli_vars: dbt variables, as YAML.
    """

    project_dir: Path | None = None
    profiles_dir: Path | None = None
    profile: str | None = None
    target: str | None = None
    cli_vars: str = "{}"

    @property
    def root(self) -> Path:
        """The project's directory, absolute, found as dbt finds it."""
        here = Path.cwd()
        if self.project_dir:
            return (here / self.project_dir).resolve()
        return next((path for path in (here, *here.parents) if _has_project(path)), here)

    @property
    def profiles(self) -> Path:
        """The directory of profiles.yml, absolute, found as dbt finds it.

        In the project's own directory, where dbt does not look from elsewhere, only if dbt would
        find no such profile: a command and dbt never read two different ones.
        """
        here = Path.cwd()
        if self.profiles_dir:
            return (here / self.profiles_dir).resolve()
        if (here / "profiles.yml").exists():
            return here
        home, root = Path.home() / ".dbt", self.root
        if not (root / "profiles.yml").exists():
            return home
        name = self.profile or yaml_document(root / "dbt_project.yml").get("profile")
        known = yaml_document(home / "profiles.yml")
        is_expression = bool(known) and "{{" in str(name)
        return home if is_expression or name in known else root

    def arguments(self) -> list[str]:
        """Return the arguments by which a dbt that is started here works on the same project."""
        named = {
            "--project-dir": self.root,
            "--profiles-dir": self.profiles,
            "--profile": self.profile,
            "--target": self.target,
            "--vars": self.cli_vars,
        }
        return [text for key, value in named.items() if value for text in (key, str(value))]


def _has_project(directory: Path) -> bool:
    return (directory / "dbt_project.yml").exists()


def yaml_document(path: Path) -> dict[str, Any]:
    """Return what a YAML file says, or nothing where it cannot be read."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        # dbt itself says what is wrong with it.
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Project:
    """A dbt project.

    Attributes:
        name: Its name, the default namespace.
        config: The configuration in force, with absolute paths; its `place` says where it is
            written.
        root: Its directory.
        target: The profile's target.
        adapter: The type of the target, such as `duckdb`.
        has_plugin: Whether the target has our plugin.
    """

    name: str
    config: PluginConfig
    root: Path = Path()
    target: str = ""
    adapter: str = "duckdb"
    has_plugin: bool = True

    @property
    def namespace(self) -> str:
        """The mark of the project's batches at the service."""
        return self.config.namespace or self.name

    @property
    def runs(self) -> str:
        """What a user types to enrich."""
        return "dbt run" if self.has_plugin else "dbt-enrich run"

    @property
    def state(self) -> StateDirectory:
        """The state directory, whether it is there or not."""
        return StateDirectory(self.config.work_dir)

    def opened_ledger(self) -> Ledger:
        """Open the ledger.

        Raises:
            ConfigurationError: There is none yet.
        """
        self._refuse_nothing_sent()
        return open_ledger(self.config)

    def opened_run(self) -> AbstractContextManager[Run]:
        """Begin a run, for a command that reads answers.

        Raises:
            ConfigurationError: There is no ledger yet.
        """
        self._refuse_nothing_sent()
        return open_run(self.config)

    def _refuse_nothing_sent(self) -> None:
        if not has_ledger(self.config):
            raise ConfigurationError(
                f"nothing was sent yet: there is no ledger at {ledger_place(self.config)}",
                fix=f"run `{self.runs}` first, or name the project by --project-dir",
            )


def _either(name: str) -> list[str]:
    """Return the environment variables of an option of dbt's; the first one wins."""
    return [f"DBT_ENGINE_{name}", f"DBT_{name}"]


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
            envvar=_either("PROJECT_DIR"),
            help="Directory of dbt_project.yml (default: this one, or the nearest above it).",
        ),
        click.option(
            "--profiles-dir",
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            envvar=_either("PROFILES_DIR"),
            help="Directory of profiles.yml (default: this one, ~/.dbt, then the project's).",
        ),
        click.option(
            "--profile", envvar=_either("PROFILE"), help="Profile in place of the project's."
        ),
        click.option("--target", "-t", envvar=_either("TARGET"), help="Target of the profile."),
        click.option("--vars", "cli_vars", default="{}", help="dbt variables, as YAML."),
    ]
    decorated: Callable[..., Any] = located
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def project_root(location: Location) -> Path:
    """Return a project's directory.

    Raises:
        ConfigurationError: There is no project.
    """
    root = location.root
    if not _has_project(root):
        raise ConfigurationError(
            f"{root} holds no dbt_project.yml",
            fix="go to the dbt project, or name it by --project-dir",
        )
    return root


def load_project(location: Location) -> Project:
    """Read a dbt project and its profile.

    The working directory stays: dbt-duckdb counts a relative path of the warehouse from it.

    Raises:
        ConfigurationError: dbt cannot read them, or neither the target's plugin nor the
            project's file says how to enrich.
    """
    root = project_root(location)
    _variables(location.cli_vars)
    plain = read_plain(root, location.profiles, location.profile, location.target)
    if plain:
        project, target, adapter = plain.project, plain.target, plain.adapter
        settings, plugins = plain.settings, plain.plugins
    else:
        project, loaded = _read_by_dbt(location)
        target, credentials = str(loaded.target_name), loaded.credentials
        adapter = str(credentials.type)
        settings = dict(getattr(credentials, "settings", None) or {})
        plugins = [vars(plugin) for plugin in getattr(credentials, "plugins", None) or []]
    plugin = next((one for one in plugins if one.get("module") == _MODULE), None)
    config = _profile_config(settings, plugin) or read_project_file(root, target)
    if config is None:
        raise _not_configured(target, adapter, plugin is not None)
    if config.state and config.state.is_in_target and adapter == "postgres":
        config = _with_ledger(config, config.state, location)
    stray = stray_state(config, root, config.namespace or project)
    if stray:
        click.secho(stray, fg="yellow", err=True)
    has_plugin = plugin is not None
    return Project(project, config.within(root), root, target, adapter, has_plugin)


def _with_ledger(config: PluginConfig, state: StateKeys, location: Location) -> PluginConfig:
    """Return a configuration with the ledger in the target's server."""
    from dbt_enrich.warehouse.postgres_host import conninfo

    ledger = SecretStr(conninfo(load_target(location), with_role=True))
    return config.model_copy(update={"state": state.model_copy(update={"ledger": ledger})})


def load_databases(location: Location) -> Databases:
    """Read the databases of a project's target.

    Raises:
        ConfigurationError: dbt cannot read the project or its profile.
    """
    from dbt_enrich.warehouse.databases import databases_of

    _, loaded = _read_by_dbt(location)
    return databases_of(loaded.credentials)


def load_target(location: Location) -> dict[str, Any]:
    """Return what the profile says of a project's target; it may hold a password.

    Raises:
        ConfigurationError: dbt cannot read the project or its profile.
    """
    plain = read_plain(project_root(location), location.profiles, location.profile, location.target)
    if plain:
        return plain.values
    _, loaded = _read_by_dbt(location)
    return {"type": loaded.credentials.type, **vars(loaded.credentials)}


def _read_by_dbt(location: Location) -> tuple[str, Any]:
    """Have dbt read a project's name and its profile."""
    from dbt.config.runtime import load_profile
    from dbt.config.runtime import load_project as load_dbt_project
    from dbt.flags import set_from_args
    from dbt_common.context import set_invocation_context
    from dbt_common.exceptions import DbtBaseException

    root, profiles = project_root(location), location.profiles
    variables = _variables(location.cli_vars)
    try:
        set_invocation_context(os.environ)
        set_from_args(Namespace(PROFILES_DIR=str(profiles), PROJECT_DIR=str(root)), {})
        loaded = load_profile(str(root), variables, location.profile, location.target)
        name = load_dbt_project(str(root), False, loaded, variables).project_name
    except (DbtBaseException, OSError) as error:
        raise ConfigurationError(
            f"dbt cannot read the project {root} with the profiles in {profiles}: "
            f"{' '.join(str(error).split())}",
            fix="name the directory of profiles.yml by --profiles-dir if it is another one",
        ) from None
    return name, loaded


def _variables(text: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f"--vars is no YAML ({' '.join(str(error).split())})", fix="write it as '{a: 1}'"
        ) from None
    if not isinstance(found, dict):
        raise ConfigurationError("--vars is no mapping", fix="write it as '{a: 1}'")
    return found


def _profile_config(
    settings: Mapping[Any, Any], plugin: Mapping[str, Any] | None
) -> PluginConfig | None:
    """Return the configuration that the profile has, or None where the project's file has it.

    Args:
        settings: DuckDB's settings of the target.
        plugin: Our plugin, as the profile lists it.
    """
    settings = {str(name): value for name, value in settings.items()}
    values = {**settings, **((plugin or {}).get("config") or {})}
    return parse_config(values, duckdb_settings=settings) if own_values(values, settings) else None


def _not_configured(target: str, adapter: str, has_plugin: bool) -> ConfigurationError:
    found = "has no config" if has_plugin else "is not there"
    plugin = f"its plugin {_MODULE} {found}, and " if adapter == "duckdb" else ""
    return ConfigurationError(
        f"the target '{target}' is not configured: {plugin}there is no {PROJECT_FILE} beside "
        "dbt_project.yml",
        fix="run dbt-enrich init, which writes what fits, or name another target by --target",
    )
