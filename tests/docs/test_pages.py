"""The blocks of every page do what the page says."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_server.server import RunningEmulator, running_emulator
from docs.blocks import Page
from docs.commands import Programs, warm_commands
from support.dbt_project import REPOSITORY

PAGES = sorted(
    str(path.relative_to(REPOSITORY))
    for path in (REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md"))
    if "```" in path.read_text(encoding="utf-8") and path.parent.name != "reference"
)


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    """`dbt` and `dbt-enrich`."""
    # A socket's path has about a hundred characters; pytest's own directories have more.
    with tempfile.TemporaryDirectory() as directory, warm_commands(Path(directory)) as found:
        yield found


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[RunningEmulator]:
    """What stands for a resource of Azure."""
    with running_emulator(tmp_path / "azure") as running:
        yield running


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(
    page: str, tmp_path: Path, programs: Programs, azure: RunningEmulator
) -> None:
    """One after another, each on what those before it left."""
    Page(REPOSITORY / page, tmp_path, programs, azure).run()
