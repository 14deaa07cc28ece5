"""The command's door: dbt stages and publishes by itself, and the paid work is done in between.

For projects whose target has no plugin of ours. dbt is a process of its own, of any version; what
it has staged is told by its manifest.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import click

from dbt_enrich.cli.dbt import DbtOptions, dbt_command, foreground_dbt, quiet_dbt, reports
from dbt_enrich.cli.doors import Step
from dbt_enrich.cli.exits import DONE, ERROR
from dbt_enrich.cli.hosts import open_host
from dbt_enrich.cli.manifest import Manifest, RunResults, alone_in
from dbt_enrich.cli.project import Project
from dbt_enrich.console.console import Console
from dbt_enrich.environment import MODE_VARIABLE, REPORTS_VARIABLE, RUN_BEGAN_VARIABLE, report
from dbt_enrich.errors import EnrichmentError
from dbt_enrich.pipeline.checks import check_version
from dbt_enrich.pipeline.hosted import forget
from dbt_enrich.pipeline.partitions.engine import PartedEngine
from dbt_enrich.pipeline.partitions.hosted import work
from dbt_enrich.task.command_options import refuse_several
from dbt_enrich.task.options import Mode
from dbt_enrich.wording import counted


class CommandDoor:
    """A project in which dbt works by itself.

    Args:
        project: The project.
        options: How dbt finds it, and what it selects.
    """

    def __init__(self, project: Project, options: DbtOptions) -> None:
        self._project = project
        self._given = replace(options, command=dbt_command())
        self._options: DbtOptions | None = None
        self._began = datetime.now(UTC).isoformat()
        self._warned = set[str]()
        self._manifest: Manifest | None = None
        self._has_forgotten = False
        # A step that brings nothing new need not say so again.
        self._said: set[str] = set()
        self._selected: Collection[str] = ()
        # A step that only has dbt publish brings the next one something to do for each model
        # that reads another one's answers.
        self._publishes = 0

    def step(self, mode: Mode) -> Step:
        """Have dbt stage and publish where there is something new, and do the work on its rows."""
        with alone_in(self._project.root, click.echo):
            return self._step(mode)

    def _step(self, mode: Mode) -> Step:
        self._forget()
        # Another run of dbt since then may have staged other rows, or been for another target.
        is_staged = self._manifest is not None and self._manifest.is_last()
        has_failed = not is_staged and bool(self._dbt(mode))
        if has_failed and not self._selected:
            return Step(ERROR)
        results, found, errors = self._work(
            mode, {RUN_BEGAN_VARIABLE: self._began}, Console(click.echo, self._warn)
        )
        self._publishes = self._publishes + 1 if results else 0
        has_failed = has_failed or bool(errors)
        if results:
            self._manifest = None
        if has_failed and results:
            self._dbt(mode)
        if has_failed:
            return Step(ERROR, found)
        goes_on = bool(results) and self._publishes <= len(self._selected) + 1
        return Step(DONE, found, goes_on)

    def reports(
        self, mode: Mode, environment: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """Have dbt stage in silence, and return what the engine reports; see `Door`."""
        silent = Console(_say_nothing, _say_nothing)
        with alone_in(self._project.root, _say_on_stderr):
            self._forget()
            options = self._given.narrowed()
            results = RunResults(self._project.root)
            quiet_dbt(options, "run", *options.arguments(), environment=self._for_dbt(mode))
            self._read(results)
            _, found, errors = self._work(mode, environment or {}, silent)
        if errors:
            raise EnrichmentError(
                f"{counted(errors, 'enrichment')} cannot be looked at",
                fix="fix what is named above, then try again",
            )
        return found

    def _forget(self) -> None:
        """Once, have rows staged again whose answers the user had forgotten since dbt ran last."""
        if self._has_forgotten:
            return
        self._has_forgotten = True
        engine = self._engine(Console(_say_nothing))
        if not engine.forgotten() or not Manifest.is_there(self._project.root):
            return
        manifest = Manifest.read(self._project.root)
        with closing(open_host(self._project, self._given.location)) as host:
            for unique_id in manifest.enrichments(manifest.nodes):
                # What is wrong is said where its rows are worked on; a target may be a new one.
                with suppress(EnrichmentError):
                    forget(engine, host, manifest.model(unique_id))

    def _engine(self, console: Console) -> PartedEngine:
        project = self._project
        return PartedEngine(
            project.config, project=project.name, console=console, target=project.target
        )

    def _dbt(self, mode: Mode) -> int:
        self._options = self._options or self._given.resolved()
        results = RunResults(self._project.root)
        code = foreground_dbt(self._options, self._for_dbt(mode))
        self._read(results)
        return code

    def _read(self, results: RunResults) -> None:
        """Take in what dbt leaves of a run."""
        self._refuse_reused(results)
        self._selected = results.built()
        self._manifest = Manifest.read(self._project.root) if self._selected else None
        if self._manifest is not None and self._manifest.version is not None:
            check_version(self._manifest.version)

    def _refuse_reused(self, results: RunResults) -> None:
        """Refuse a run of dbt that has passed over an enrichment."""
        reused = results.reused()
        manifest = Manifest.read(self._project.root) if reused else None
        passed = manifest.enrichments(reused) if manifest else []
        if manifest and passed:
            names = " and ".join(manifest.names[one] for one in passed)
            raise EnrichmentError(
                f"dbt State reused the table of {names}, so that dbt neither staged its rows nor "
                "published its answers",
                fix="set DBT_ENGINE_MANAGE_STATE=false for dbt-enrich, or manage_state: false "
                "below flags in dbt_project.yml",
            )

    def _for_dbt(self, mode: Mode) -> dict[str, str]:
        # What is selected, and how it is staged, is told by what dbt writes.
        return {
            MODE_VARIABLE: mode.value,
            RUN_BEGAN_VARIABLE: self._began,
            "DBT_WRITE_JSON": "true",
        }

    def _warn(self, text: str) -> None:
        """Say a warning once: each step may have it anew."""
        if text not in self._warned:
            click.secho(text, fg="yellow", err=True)
        self._warned.add(text)

    def _work(
        self, mode: Mode, environment: Mapping[str, str], console: Console
    ) -> tuple[int, list[dict[str, Any]], int]:
        """Work on what is staged; return how many results are new, the reports, and the errors."""
        project, manifest = self._project, self._manifest
        if manifest is None:
            return 0, [], 0
        wanted = manifest.enrichments(self._selected)
        engine = self._engine(console)
        results, failed = 0, set[str]()
        with (
            reports() as (lines, path),
            _environment({MODE_VARIABLE: mode.value, REPORTS_VARIABLE: path, **environment}),
            closing(open_host(project, self._given.location)) as host,
        ):
            refuse_several(wanted)
            for unique_id in wanted:
                if failed.intersection(manifest.reads(unique_id)):
                    continue
                missing = manifest.missing(unique_id, host) if mode == Mode.PLAN else []
                if missing:
                    name = manifest.names[unique_id]
                    unplanned = {"name": name, "enrichment": unique_id, "missing": missing}
                    report({"unplanned": unplanned})
                    continue
                try:
                    worked = work(engine, host, manifest.model(unique_id))
                except EnrichmentError as error:
                    failed.add(unique_id)
                    click.echo(f"Error: {error.with_page}", err=True)
                    continue
                results += worked.results
                if unique_id in self._said and not worked.is_news:
                    continue
                self._said.add(unique_id)
                console.say(worked.summary)
                if worked.outcome.warning:
                    console.warn(worked.outcome.warning)
            return results, lines(), len(failed)


def _say_nothing(_: str) -> None:
    pass


def _say_on_stderr(text: str) -> None:
    click.echo(text, err=True)


@contextmanager
def _environment(given: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process's environment for as long as the block runs."""
    before = dict(os.environ)
    os.environ.update(given)
    try:
        yield
    finally:
        for name in given:
            os.environ.pop(name)
        os.environ.update({name: before[name] for name in given if name in before})
