"""Where the dbt package comes from: what packages.yml has to say of it."""

from __future__ import annotations

import json
import os
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

from dbt_enrich import __version__
from dbt_enrich.cli.scaffold import is_package
from dbt_enrich.errors import ConfigurationError


def package_entry(package: str | None, root: Path) -> str:
    """Return the package's entry in packages.yml, of the same version as this Python package.

    Args:
        package: A path of the repository, from here or from the project, or its git address;
            None for where the Python package was installed from.
        root: The dbt project's directory.

    Raises:
        ConfigurationError: There is no such package, or its place is unknown.
    """
    revision = None
    if package is None:
        package, revision = _installed_from()
    if "://" in package or package.endswith(".git") or package.startswith("git@"):
        return _entry(git=package, revision=revision or f"v{__version__}")
    path = Path(package).expanduser()
    for base in (Path.cwd(), root):
        if is_package(base / path):
            # dbt takes a path from the project on.
            there = (base / path).resolve()
            return _entry(local=package if path.is_absolute() else os.path.relpath(there, root))
    raise ConfigurationError(
        f"{package} holds no dbt package dbt_enrich",
        fix="name the directory of its dbt_project.yml, or its git address, by --package",
    )


def _installed_from() -> tuple[str, str | None]:
    """Return the path or git address that pip recorded, and the commit.

    As https://packaging.python.org/en/latest/specifications/direct-url-data-structure/ has it.
    """
    try:
        recorded = json.loads(distribution("dbt-enrich").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        recorded = {}
    url = str(recorded.get("url", ""))
    if "vcs_info" in recorded:
        return url, recorded["vcs_info"].get("commit_id")
    path = Path(unquote(urlsplit(url).path))
    if url.startswith("file:") and is_package(path):
        return os.path.relpath(path), None
    raise ConfigurationError(
        "dbt cannot install the dbt package from where the Python package came from",
        fix="name the path of its repository, or its git address, by --package",
    )


def _entry(**values: str) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
