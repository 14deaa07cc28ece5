"""What dbt says of the run that the plugin works in: the root project, and the model at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbt.adapters.factory import get_adapter_by_type
from dbt_common.events.contextvars import get_node_info


@dataclass(frozen=True)
class RootProject:
    """The root project of a dbt run.

    Attributes:
        name: Its name.
        root: Its directory, absolute. Not the working directory: dbt stays where it was started.
        target: The profile's target.
    """

    name: str
    root: Path
    target: str


def root_project() -> RootProject:
    """Return the root project of the dbt run that this process is in.

    The adapter is registered anew by each invocation, also where several share a process and,
    through dbt-duckdb, one plugin object.
    """
    config: Any = get_adapter_by_type("duckdb").config
    return RootProject(
        name=str(config.project_name),
        root=Path(config.project_root).resolve(),
        target=str(config.target_name),
    )


def package_root(package: str) -> Path:
    """Return the directory of a package of the dbt run, or of the root project by its name."""
    config: Any = get_adapter_by_type("duckdb").config
    return Path(config.load_dependencies()[package].project_root).resolve()


def current_model() -> str | None:
    """Return the unique id of the model that dbt builds in this thread, or None.

    A Python model is given its table, which may be called otherwise, and neither its version nor
    its package; dbt records them for its own log.
    """
    found = get_node_info().get("unique_id")
    return str(found) if found else None
