"""`dbt-enrich init`: what an existing dbt project needs, shown before it is written."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from dbt_enrich.cli.scaffold import (
    EXAMPLE_SQL,
    EXAMPLE_YAML,
    SOURCES_YAML,
    with_package,
    with_plugin,
)
from dbt_enrich.errors import ConfigurationError

_STATE_LINE = ".enrichment/"


@dataclass(frozen=True)
class Change:
    """What a file is to hold."""

    path: Path
    before: str | None
    after: str

    def diff(self) -> str:
        """Return the change as a unified diff."""
        before = (self.before or "").splitlines()
        lines = difflib.unified_diff(
            before, self.after.splitlines(), str(self.path), str(self.path), lineterm=""
        )
        return "\n".join(lines)


@click.command()
@click.option(
    "--project-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path(),
    help="Directory of dbt_project.yml (default: this one).",
)
@click.option(
    "--profiles-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    envvar="DBT_PROFILES_DIR",
    help="Directory of profiles.yml (default: the project's, else ~/.dbt).",
)
@click.option("--target", "-t", help="Target of the profile (default: the profile's).")
@click.option(
    "--provider",
    type=click.Choice(["azure", "openai", "local"]),
    default="local",
    show_default=True,
    help="Which service the plugin's block names.",
)
@click.option(
    "--package",
    help="Path of this repository, or its git address, for packages.yml.",
    required=True,
)
@click.option("--yes", is_flag=True, help="Write without asking.")
def init(
    project_dir: Path,
    profiles_dir: Path | None,
    target: str | None,
    provider: str,
    package: str,
    yes: bool,
) -> None:
    """Add dbt-enrich to an existing dbt project.

    The package, the plugin's block in the profile, an example model, sources with tests for the
    relations of the schema enrichment, and a line in .gitignore. Each change is shown, and nothing
    is written without a yes. What is there already stays as it is.
    """
    root = project_dir.resolve()
    if not (root / "dbt_project.yml").exists():
        raise ConfigurationError(
            f"{root} holds no dbt_project.yml; go to the dbt project, or name it by --project-dir"
        )
    # All changes are worked out, and all files read, before the first one is written.
    changes = list(_changes(root, profiles_dir, target, provider, package))
    if not changes:
        click.echo("everything is there already")
        return
    for change in changes:
        click.echo(change.diff())
        if yes or click.confirm(f"write {change.path}?", default=True):
            change.path.parent.mkdir(parents=True, exist_ok=True)
            change.path.write_text(change.after, encoding="utf-8")
            click.echo(f"wrote {change.path}")
    click.echo("next: dbt deps, then dbt run --select example_enriched")


def _changes(
    root: Path, profiles_dir: Path | None, target: str | None, provider: str, package: str
) -> Iterator[Change]:
    packages = root / "packages.yml"
    yield from _changed(packages, with_package(packages, package))
    profiles = _profiles(root, profiles_dir)
    yield from _changed(profiles, with_plugin(root, profiles, target, provider))
    models = root / "models" / "enriched"
    for name, text in (
        ("example_enriched.sql", EXAMPLE_SQL),
        ("_example_enriched.yml", EXAMPLE_YAML),
        ("_enrichment_sources.yml", SOURCES_YAML),
    ):
        if not (models / name).exists():
            yield Change(models / name, None, text)
    ignored = root / ".gitignore"
    lines = _read(ignored) or ""
    if _STATE_LINE not in lines.splitlines():
        ending = "" if not lines or lines.endswith("\n") else "\n"
        yield Change(ignored, lines or None, f"{lines}{ending}{_STATE_LINE}\n")


def _changed(path: Path, after: str | None) -> Iterator[Change]:
    if after is not None:
        yield Change(path, _read(path), after)


def _profiles(root: Path, profiles_dir: Path | None) -> Path:
    if profiles_dir:
        return profiles_dir.resolve() / "profiles.yml"
    own = root / "profiles.yml"
    return own if own.exists() else Path.home() / ".dbt" / "profiles.yml"


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
