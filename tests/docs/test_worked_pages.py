"""What a page shows of the worked projects is what they have."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
import yaml
from support.dbt_project import REPOSITORY

_SHOWN = re.compile(r"^```\w+\n(?:#|--) (dbt_project/\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LEFT_OUT = {"# ...", "-- ..."}
PAGES = sorted((REPOSITORY / "docs" / "recipes").glob("*.md"))


def excerpts(page: Path) -> list[tuple[str, list[str]]]:
    """Return the parts of files that a page shows: a path and lines that follow one another."""
    found = []
    for path, source in _SHOWN.findall(page.read_text(encoding="utf-8")):
        part: list[str] = []
        for line in [*source.splitlines(), "# ..."]:
            if line.strip() not in _LEFT_OUT:
                part.append(line.strip())
            elif part:
                found.append((path, part))
                part = []
    return found


def holds(lines: list[str], part: list[str]) -> bool:
    """Whether lines have a part, one line after the other; indentation does not count."""
    return any(lines[at : at + len(part)] == part for at in range(len(lines)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_shows_what_the_project_has(page: Path) -> None:
    """Each excerpt is in the file that its first line names; a line `...` stands for others."""
    for path, part in excerpts(page):
        text = (REPOSITORY / path).read_text(encoding="utf-8")
        shown = "\n".join(part)
        assert holds([line.strip() for line in text.splitlines()], part), f"{path}:\n{shown}"


def test_the_worked_projects_have_pages_that_show_them() -> None:
    """The test above has something to look at."""
    shown = {path for page in PAGES for path, _ in excerpts(page)}
    models = REPOSITORY / "dbt_project" / "models"
    for project in (path for path in models.iterdir() if path.is_dir()):
        assert any(path.startswith(f"dbt_project/models/{project.name}/") for path in shown)


def test_the_notebooks_prompt_is_quoted_word_for_word() -> None:
    """As examples/batch_processing.ipynb of openai/openai-cookbook has it."""
    path = REPOSITORY / "dbt_project" / "models" / "movies" / "notebook" / "_notebook.yml"
    (model,) = yaml.safe_load(path.read_text(encoding="utf-8"))["models"]
    system = model["config"]["meta"]["enrichment"]["system"].strip()
    digest = hashlib.sha256(system.encode()).hexdigest()
    assert digest == "94bcab5814d0e2a53c01647d54565b0d6d8aba0e62628cac547efc950355ba6a"
