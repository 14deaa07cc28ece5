"""The pictures of the docs, made from the movies project as the packaged model answers it.

    python -m docs.screenshots [--responder scripted]

`make screenshots` runs it; it needs Chromium (`make browser`). It takes minutes, the model's own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser
from support.browser import headless_chromium
from support.dbt_project import REPOSITORY

_PROJECT = REPOSITORY / "dbt_project"
_WIDTH = 1200
_HEIGHT = 1060
# What is shown of the report beside its beginning.
_ELEMENTS = {
    "report-answers.png": "section[aria-labelledby=model-1] .cards",
    "report-rows.png": "[data-rows] .scroll",
}


def main() -> None:
    """Parse the command line, build the project, and take the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--responder", default="llama", help="who answers")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, headless_chromium() as browser:
        report = movies_report(Path(directory), responder=given.responder)
        for path in take(browser, report, REPOSITORY / "docs"):
            print(path)


def movies_report(directory: Path, *, responder: str) -> Path:
    """Enrich the movies project's films in a directory, and write its report there.

    Args:
        directory: Where warehouse, state and report go.
        responder: Who answers, as in the profile.

    Returns:
        The HTML file.
    """
    report = directory / "report.html"
    environment = {
        **os.environ,
        "MOVIES_WAREHOUSE": str(directory / "movies.duckdb"),
        "DBT_ENRICH_STATE_DIR": str(directory / "state"),
        "DBT_ENRICH_RESPONDER": responder,
        "DBT_ENGINE_TARGET_PATH": str(directory / "target"),
    }
    programs = Path(sys.executable).parent
    for command in (
        ["dbt", "deps", "--quiet"],
        ["dbt", "build", "--select", "+movies_enriched"],
        ["dbt-enrich", "report", "--output", str(report)],
    ):
        program = [str(programs / command[0]), *command[1:]]
        subprocess.run(program, cwd=_PROJECT, env=environment, check=True)
    return report


def take(browser: Browser, report: Path, directory: Path) -> list[Path]:
    """Take the pictures of a report.

    Args:
        browser: Chromium.
        report: The HTML file.
        directory: Where the pictures go.

    Returns:
        Their files.
    """
    viewport = {"width": _WIDTH, "height": _HEIGHT}
    with browser.new_page(viewport=viewport, color_scheme="light") as page:  # type: ignore[arg-type]
        page.goto(report.as_uri())
        page.screenshot(path=directory / "report.png")
        for name, element in _ELEMENTS.items():
            page.locator(element).first.screenshot(path=directory / name)
    return [directory / name for name in ("report.png", *_ELEMENTS)]


if __name__ == "__main__":
    main()
