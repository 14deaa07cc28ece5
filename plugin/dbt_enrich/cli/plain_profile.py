"""A profile read without dbt, whose import takes seconds: only one of which nothing is in doubt.

Whatever is more than plain YAML and `env_var` is dbt's to read, and so is every mistake.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_TEXT = r"'([^'\\]*)'|\"([^\"\\]*)\""
_ENV_VAR = re.compile(rf"{{{{\s*env_var\(\s*(?:{_TEXT})\s*(?:,\s*(?:{_TEXT})\s*)?\)\s*}}}}")
# What begins an expression, a statement or a comment of Jinja.
_JINJA = re.compile(r"{[{%#]")


class _NotPlainError(Exception):
    """Only dbt can say what this means."""


@dataclass(frozen=True)
class PlainProfile:
    """What a command needs of a project and its profile.

    Attributes:
        project: The project's name.
        target: The profile's target.
        adapter: The target's type, such as `duckdb`.
        settings: DuckDB's settings of the target.
        plugins: The plugins of the target, as the profile lists them.
        values: All that the target says; it may hold a password.
    """

    project: str
    target: str
    adapter: str
    settings: dict[str, Any]
    plugins: list[dict[str, Any]]
    values: dict[str, Any] = field(default_factory=dict, repr=False)


def read_plain(
    root: Path, profiles: Path, profile: str | None, target: str | None
) -> PlainProfile | None:
    """Read a project and its profile as dbt would, where that is beyond doubt.

    Args:
        root: The directory of dbt_project.yml.
        profiles: The directory of profiles.yml.
        profile: The profile in place of the project's, or None.
        target: The target in place of the profile's, or None.

    Returns:
        What they say, or None where dbt has to read them.
    """
    try:
        project = _mapping(_document(root / "dbt_project.yml"))
        chosen = _mapping(_document(profiles / "profiles.yml")).get(
            profile or _text(_rendered(project.get("profile")))
        )
        outputs = _mapping(_mapping(chosen).get("outputs"))
        name = target or _text(_rendered(_mapping(chosen).get("target", "default")))
        output = _mapping(_rendered(outputs.get(name)))
        adapter, values = _text(output.get("type")), output
        if adapter != "duckdb":
            output = {}
        return PlainProfile(
            project=_text(_rendered(project.get("name"))),
            target=name,
            adapter=adapter,
            settings=_mapping(_given(output.get("settings"), {})),
            plugins=[_mapping(plugin) for plugin in _list(_given(output.get("plugins"), []))],
            values=values,
        )
    except (_NotPlainError, OSError, ValueError, yaml.YAMLError):
        return None


def _document(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _rendered(value: Any) -> Any:
    """Return a value with the environment's variables in it."""
    if isinstance(value, str):
        return _rendered_text(value)
    if isinstance(value, dict):
        return {key: _rendered(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rendered(inner) for inner in value]
    return value


def _rendered_text(text: str) -> str:
    if not _JINJA.search(text):
        return text
    rest = _ENV_VAR.sub("", text)
    if _JINJA.search(rest) or "}}" in rest or text.endswith("\n"):
        raise _NotPlainError
    return _ENV_VAR.sub(_variable, text)


def _variable(found: re.Match[str]) -> str:
    name, other_name, default, other_default = found.groups()
    value = os.environ.get(name or other_name, default if default is not None else other_default)
    if value is None:
        raise _NotPlainError
    return value


def _given(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _NotPlainError
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _NotPlainError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _NotPlainError
    return value
