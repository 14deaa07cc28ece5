"""`dbt-enrich init`: what an existing dbt project needs, shown before it is written."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from dbt_enrich.cli.package_origin import package_entry
from dbt_enrich.cli.project import Location, project_options, project_root
from dbt_enrich.cli.scaffold import (
    EXAMPLE_SQL,
    EXAMPLE_YAML,
    SOURCES_YAML,
    Target,
    find_target,
    parsed,
    project_file_text,
    provider_needs,
    shared_state,
    with_package,
    with_plugin,
)
from dbt_enrich.config.local import LOCAL
from dbt_enrich.config.place import PROJECT_FILE
from dbt_enrich.config.profile import CONFIGS
from dbt_enrich.errors import SITE, ConfigurationError


@dataclass(frozen=True)
class Change:
    """What a file is to hold."""

    path: Path
    before: str | None
    after: str

    def diff(self) -> str:
        """Return the change as a unified diff."""
        previous = "/dev/null" if self.before is None else str(self.path)
        lines = difflib.unified_diff(
            (self.before or "").splitlines(),
            self.after.splitlines(),
            previous,
            str(self.path),
            lineterm="",
        )
        return "\n".join(lines)

    def write(self) -> None:
        """Write the file as it is to be.

        Raises:
            ConfigurationError: It cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # In place, as it may be a link, with a mode of its own, and with its own line ends.
            self.path.write_text(self.after, encoding="utf-8", newline="")
        except OSError as error:
            raise ConfigurationError(
                f"{self.path} cannot be written ({error.strerror})",
                fix="make it writable, then try again: what was written already stays",
            ) from None


@click.command()
@click.option(
    "--provider",
    type=click.Choice(list(CONFIGS)),
    default=LOCAL.name,
    show_default=True,
    help="Which service the plugin's block names.",
)
@click.option(
    "--package",
    help="The dbt package for packages.yml: path of this repository, or its git address "
    "(default: where the Python package was installed from).",
)
@click.option(
    "--ledger",
    help="For a state that several machines share: the Postgres of the ledger, such as "
    "postgresql://enrich@db.internal/enrich.",
)
@click.option(
    "--files", help="For the same: the bucket of the answers, such as az://container/enrich."
)
@click.option(
    "--no-plugin",
    is_flag=True,
    help="Write dbt_enrich.yml in place of the plugin's block, as for dbt 2. Targets of other "
    "adapters than duckdb always have that file.",
)
@click.option("--yes", is_flag=True, help="Write without asking.")
@project_options
def init(
    provider: str,
    package: str | None,
    ledger: str | None,
    files: str | None,
    no_plugin: bool,
    yes: bool,
    location: Location,
) -> None:
    """Add dbt-enrich to an existing dbt project.

    The package, the plugin's block in the profile or the file dbt_enrich.yml, an example model,
    with the plugin sources with tests for the relations of the schema enrichment, and a line in
    .gitignore. Each change is shown, and nothing is written without a yes. What is there already
    stays as it is.
    """
    root = project_root(location)
    # All changes are worked out, and all files read, before the first one is written.
    project = parsed(root / "dbt_project.yml", _read(root / "dbt_project.yml") or "") or {}
    profiles = location.profiles / "profiles.yml"
    target = _target(location, project, profiles, root / PROJECT_FILE)
    has_block = target.has_block and not (no_plugin and target.plugin is None)
    is_there = target.plugin if has_block else target.file is not None
    asks = not (yes or ledger or files or CONFIGS[provider].facts.runs_here or is_there)
    if asks and click.confirm("do machines run this project that keep no disk?", default=False):
        ledger = click.prompt("the Postgres of their ledger, postgresql://USER@HOST/DATABASE")
        files = click.prompt("the bucket of their answers, such as az://CONTAINER/PREFIX")
    state = shared_state(ledger, files)
    uses_plugin = has_block or target.plugin is not None
    changes = [
        *_package(root, package),
        *(_plugin(profiles, target, provider, state) if has_block else ()),
        *(_file(root / PROJECT_FILE, provider, state) if not (has_block or is_there) else ()),
        *_models(root, project.get("model-paths") or ["models"], uses_plugin),
        *_ignored(root, target.state_dir),
    ]
    needs = provider_needs(target.provider or provider)
    if not changes:
        click.echo(f"everything is there already; nothing was changed\n{needs}")
        return
    written = 0
    for change in changes:
        click.echo(change.diff())
        if yes or click.confirm(f"write {change.path}?", default=True):
            change.write()
            written += 1
            click.echo(f"wrote {change.path}")
    if not written:
        click.echo("nothing was written")
        return
    run = "dbt run" if uses_plugin else "dbt-enrich run"
    click.echo(
        f"{needs}\nnext: dbt deps, dbt-enrich doctor, then {run} --select example_enriched, "
        f"which sends its three rows\nwhole projects to copy from: {SITE}recipes/index.html"
    )


def _target(location: Location, project: dict[Any, Any], profiles: Path, file: Path) -> Target:
    target = find_target(
        profiles,
        _read(profiles) or "",
        profile=location.profile or project.get("profile"),
        target=location.target,
        chosen_by="--profile" if location.profile else "dbt_project.yml",
    )
    text = _read(file)
    return target if text is None else replace(target, file=parsed(file, text) or {})


def _file(path: Path, provider: str, state: str) -> Iterator[Change]:
    yield Change(path, None, project_file_text(provider, state))


def _plugin(profiles: Path, target: Target, provider: str, state: str) -> Iterator[Change]:
    text = _read(profiles) or ""
    yield from _changed(profiles, with_plugin(profiles, text, target, provider, state))


def _package(root: Path, package: str | None) -> Iterator[Change]:
    path = root / "packages.yml"
    other = root / "dependencies.yml"
    # dbt refuses a project that lists packages in both.
    if "packages" in (parsed(other, _read(other) or "") or {}):
        path = other
    entry = package_entry(package, root)
    yield from _changed(path, with_package(path, _read(path) or "", entry, root))


def _models(root: Path, paths: list[str], uses_plugin: bool) -> Iterator[Change]:
    # A second model, description or source of the same name would stop dbt, wherever it is.
    files = [file for path in paths for file in sorted((root / path).rglob("*")) if file.is_file()]
    declared = {found for file in files for found in _declared(file)}
    directory = root / paths[0] / "enriched"
    wanted = [
        (("models", "example_enriched.sql"), "example_enriched.sql", EXAMPLE_SQL),
        (("models", "example_enriched"), "_example_enriched.yml", EXAMPLE_YAML),
    ]
    if uses_plugin:
        wanted.append((("sources", "enrichment"), "_enrichment_sources.yml", SOURCES_YAML))
    for declaration, name, text in wanted:
        if declaration not in declared and not (directory / name).exists():
            yield Change(directory / name, None, text)


def _declared(file: Path) -> Iterator[tuple[str, str]]:
    """Yield what a file of the models' directory declares: models and sources by name."""
    if file.suffix in (".sql", ".py"):
        yield "models", f"{file.stem}.sql"
    if file.suffix not in (".yml", ".yaml"):
        return
    text = _read(file) or ""
    if "enrichment" not in text and "example_enriched" not in text:
        return
    document = parsed(file, text) or {}
    for kind in ("models", "sources"):
        for entry in document.get(kind) or []:
            if isinstance(entry, dict):
                yield kind, str(entry.get("name"))


def _ignored(root: Path, state_dir: str) -> Iterator[Change]:
    # Where an expression decides, or outside of the project, there is no line to write.
    directory = (root / Path(state_dir).expanduser()).resolve()
    if "{{" in state_dir or "${" in state_dir or root not in directory.parents:
        return
    line = f"{directory.relative_to(root).as_posix()}/"
    path = root / ".gitignore"
    text = _read(path)
    lines = (text or "").splitlines()
    if any(found.strip().strip("/*") == line.strip("/") for found in lines):
        return
    gap = "\n" if text and not text.endswith("\n") else ""
    yield Change(path, text, f"{text or ''}{gap}{line}\n")


def _changed(path: Path, after: str | None) -> Iterator[Change]:
    if after is not None:
        yield Change(path, _read(path), after)


def _read(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error})",
            fix="correct it, then try again. Nothing was written",
        ) from None
