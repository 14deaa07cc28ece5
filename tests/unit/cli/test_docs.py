"""Where the commands say that their documentation is."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from click.testing import CliRunner
from dbt_enrich.cli import main
from dbt_enrich.errors import SITE
from docs.reference.commands import leaf_commands
from support.dbt_project import REPOSITORY


def test_docs_prints_the_address_of_the_site() -> None:
    """As the site itself and the package have it; nothing is opened without a terminal."""
    done = CliRunner().invoke(main, ["docs"])
    assert (done.exit_code, done.output) == (0, f"{SITE}\n")
    site = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))
    assert site["site_url"] == SITE
    assert f'Homepage = "{SITE}"' in (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")


def test_the_help_of_each_command_ends_with_its_page() -> None:
    """A heading of the page of commands."""
    page = (REPOSITORY / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    headings = {name.replace(" ", "-") for name in re.findall("^## `(.*)`$", page, re.MULTILINE)}
    for name in leaf_commands():
        done = CliRunner().invoke(main, [*name.split(), "--help"])
        address, _, anchor = done.output.split()[-1].partition("#")
        assert address == f"{SITE}reference/commands.html", name
        assert anchor == f"dbt-enrich-{name.replace(' ', '-')}"
        assert anchor in headings
    assert CliRunner().invoke(main, ["--help"]).output.split()[-1] == SITE


def test_an_error_ends_with_its_page(tmp_path: Path) -> None:
    """In a line of its own."""
    done = CliRunner().invoke(main, ["status", "--project-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert done.output.splitlines()[-1] == f"see {SITE}errors/configuration.html"
