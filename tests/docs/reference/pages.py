"""The pages of docs/reference and where they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from docs.reference.commands import commands
from docs.reference.macros import macros
from docs.reference.markdown import REPOSITORY
from docs.reference.matrix import matrix
from docs.reference.model_settings import model_settings
from docs.reference.outcomes import failures, statuses
from docs.reference.profile import profile
from docs.reference.project_file import project_file
from docs.reference.relations import relations

PAGES: Mapping[str, Callable[[], str]] = {
    "model-settings": model_settings,
    "profile": profile,
    "project-file": project_file,
    "commands": commands,
    "statuses": statuses,
    "failures": failures,
    "relations": relations,
    "macros": macros,
    "matrix": matrix,
}


def path_of(page: str) -> Path:
    """Return where a page of the reference is."""
    return REPOSITORY / "docs" / "reference" / f"{page}.md"
