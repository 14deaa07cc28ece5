"""Pages in headless Chromium, which `make browser` installs with axe-core."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

AXE = Path(__file__).resolve().parents[2] / ".browser/node_modules/axe-core/axe.min.js"
THEMES = ("light", "dark")
WIDTHS = {"desktop": 1200, "phone": 360}
_CHROMIUM = shutil.which("chromium")

needs_browser = pytest.mark.skipif(
    not (_CHROMIUM and AXE.exists()) and not os.environ.get("DBT_ENRICH_BROWSER_TESTS"),
    reason="Chromium or axe-core is not there: make browser",
)


@contextmanager
def headless_chromium() -> Iterator[Browser]:
    """Run Chromium from the system's packages."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=_CHROMIUM or "chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield chromium
        chromium.close()


def watched(page: Page) -> list[str]:
    """What a page asks for over the network, prints to the console, or fails at."""
    text: list[str] = []
    page.on("request", lambda request: text.append(request.url))
    page.on("console", lambda message: text.append(message.text))
    page.on("pageerror", lambda error: text.append(str(error)))
    page.on("dialog", lambda dialog: text.append(dialog.message))
    return text
