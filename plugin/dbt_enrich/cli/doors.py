"""The two doors into dbt, as a command goes through them: our plugin in it, or this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from dbt_enrich.cli.dbt import DbtOptions, reports_of_dbt, run_dbt
from dbt_enrich.cli.hosts import known_host, refused_adapter
from dbt_enrich.cli.project import Project
from dbt_enrich.environment import RUN_BEGAN_VARIABLE
from dbt_enrich.state.tables.publications import Publication
from dbt_enrich.task.options import Mode


@dataclass(frozen=True)
class Step:
    """What came of one step of a run.

    Attributes:
        code: Its exit code.
        reports: What the engine reports of each enrichment.
        goes_on: Whether there is more to do at once, without waiting for the service.
    """

    code: int
    reports: list[dict[str, Any]] = field(default_factory=list)
    goes_on: bool = False

    @property
    def published(self) -> list[Publication]:
        """What it has published."""
        return [Publication(**one["published"]) for one in self.reports if "published" in one]


class Door(Protocol):
    """How a command has the enrichments of a project worked on."""

    def step(self, mode: Mode) -> Step:
        """Do what can be done without waiting for the service."""
        ...

    def reports(
        self, mode: Mode, environment: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """Return what the engine reports of each enrichment, and publish nothing.

        Args:
            mode: How far every enrichment goes.
            environment: What the environment of dbt and the engine has beside this process's own.

        Raises:
            EnrichmentError: dbt failed, or a model did; their own words are printed before.
        """
        ...


class PluginDoor:
    """Our plugin in dbt-duckdb.

    Args:
        options: How dbt finds the project, and what it selects.
    """

    def __init__(self, options: DbtOptions) -> None:
        self._given = options
        self._options: DbtOptions | None = None
        self._environment = {RUN_BEGAN_VARIABLE: datetime.now(UTC).isoformat()}

    def step(self, mode: Mode) -> Step:
        """Run dbt, which does all."""
        self._options = self._options or self._given.resolved()
        code, reports = run_dbt(self._options, mode, self._environment)
        return Step(code, reports)

    def reports(
        self, mode: Mode, environment: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """Return what the engine reports of each enrichment; see `Door`."""
        return reports_of_dbt(self._given, mode, environment)


def door_of(project: Project, options: DbtOptions) -> Door:
    """Return the door that a project's target has.

    Args:
        project: The project.
        options: How dbt finds it, and what it selects.

    Raises:
        ConfigurationError: It has none. dbt has built nothing yet.
    """
    if project.has_plugin:
        return PluginDoor(options)
    if known_host(project.adapter) is None:
        raise refused_adapter(project.adapter, project.target)
    from dbt_enrich.cli.command_door import CommandDoor

    return CommandDoor(project, options)


def finished(door: Door, mode: Mode) -> Step:
    """Take steps until nothing more can be done without waiting, and return the last one."""
    step = door.step(mode)
    while step.goes_on and not step.code:
        step = door.step(mode)
    return step
