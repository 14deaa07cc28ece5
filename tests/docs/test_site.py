"""The site of docs/ as `make docs` builds it, and as a reader opens it, without any network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser
from support.browser import AXE, THEMES, WIDTHS, headless_chromium, needs_browser, watched
from support.dbt_project import REPOSITORY

# What a browser fetches by itself, by tag and attribute.
_FETCHED = {
    ("audio", "src"),
    ("iframe", "src"),
    ("img", "src"),
    ("img", "srcset"),
    ("script", "src"),
    ("source", "srcset"),
    ("video", "src"),
}
_FETCHED_LINKS = {"icon", "manifest", "modulepreload", "preconnect", "prefetch", "stylesheet"}


def build(directory: Path) -> tuple[int, str]:
    """Build the site of a copy of docs/, and return the exit code and what was printed."""
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def copied(directory: Path) -> Path:
    """Copy what the site is made of."""
    shutil.copytree(REPOSITORY / "docs", directory / "docs")
    shutil.copy(REPOSITORY / "mkdocs.yml", directory)
    return directory


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    directory = copied(tmp_path_factory.mktemp("docs"))
    code, text = build(directory)
    assert code == 0, text
    return directory / "site"


def nav_pages() -> list[str]:
    """The pages of the navigation, in its order."""

    def pages(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        for inner in entry.values() if isinstance(entry, dict) else entry:
            if isinstance(entry, dict | list):
                yield from pages(inner)

    text = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    return [*pages(yaml.safe_load(text)["nav"])]


def test_every_page_is_in_the_navigation_once() -> None:
    """And the navigation names no page that is not there."""
    docs = REPOSITORY / "docs"
    assert sorted(nav_pages()) == sorted(str(path.relative_to(docs)) for path in docs.rglob("*.md"))


@pytest.mark.parametrize("link", ["nowhere.md", "start/install.md#nowhere"])
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path, link: str) -> None:
    """To a page or to an anchor."""
    page = copied(tmp_path) / "docs" / "index.md"
    page.write_text(f"{page.read_text(encoding='utf-8')}\n[a link]({link})\n", encoding="utf-8")
    code, text = build(tmp_path)
    assert code != 0
    assert "does not exist" in text


def test_each_page_has_its_markdown_and_llms_txt_names_it(site: Path) -> None:
    """Beside the page, with the same name."""
    address = "https://dbt-enrich.github.io/dbt-enrich/"
    listed = re.findall(r"\(<(.*?)>\)", (site / "llms.txt").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(f"{address}{page}" for page in nav_pages())
    for page in nav_pages():
        text = (site / page).read_text(encoding="utf-8")
        assert "# " in text
        assert (site / page).with_suffix(".html").exists()


class _Fetched(HTMLParser):
    """The addresses that a page has its browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "link" and _FETCHED_LINKS & {*given.get("rel", "").split()}:
            self.addresses.append(given.get("href", ""))
        self.addresses += [value for name, value in given.items() if (tag, name) in _FETCHED]


def test_nothing_of_another_place_is_fetched(site: Path) -> None:
    """By any page or style sheet."""
    seen = 0
    for path in site.rglob("*.html"):
        page = _Fetched()
        page.feed(path.read_text(encoding="utf-8"))
        seen += len(page.addresses)
        assert [text for text in page.addresses if re.match(r"(\w+:)?//", text)] == [], path
    assert seen > 100
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", path.read_text("utf-8")), path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    with headless_chromium() as chromium:
        yield chromium


@needs_browser
@pytest.mark.parametrize("theme", THEMES)
def test_every_page_opens_from_a_folder(browser: Browser, site: Path, theme: Any) -> None:
    """Without the network, without a complaint, and without sideways scrolling at any width.

    One theme opens every other page, the other those between.
    """
    with browser.new_context(color_scheme=theme, offline=True, reduced_motion="reduce") as context:
        opened = context.new_page()
        text = watched(opened)
        for page in nav_pages()[THEMES.index(theme) :: len(THEMES)]:
            opened.goto((site / page).with_suffix(".html").as_uri())
            for width in WIDTHS.values():
                opened.set_viewport_size({"width": width, "height": 800})
                assert opened.evaluate("document.documentElement.scrollWidth") <= width, page
        outside = [line for line in text if not line.startswith(("file:", "data:", "blob:"))]
        assert outside == []
        dark = opened.evaluate("getComputedStyle(document.body).colorScheme")
        assert theme in dark


@needs_browser
def test_search_finds_a_page(browser: Browser, site: Path) -> None:
    """From a folder, where a browser allows neither workers nor requests."""
    with browser.new_context(offline=True) as context:
        opened = context.new_page()
        opened.goto((site / "index.html").as_uri())
        opened.keyboard.press("Control+k")
        box = opened.get_by_role("combobox")
        box.fill("benchmarks")
        opened.get_by_role("option").first.click()
        opened.wait_for_url("**/benchmarks.html**")


@needs_browser
@pytest.mark.parametrize("theme", THEMES)
def test_a_page_is_accessible(browser: Browser, site: Path, theme: Any) -> None:
    """What axe-core checks of WCAG 2.1 AA in what a page of ours says."""
    with browser.new_context(color_scheme=theme, offline=True) as context:
        opened = context.new_page()
        opened.goto((site / "guides/databases.html").as_uri())
        opened.evaluate(AXE.read_text(encoding="utf-8"))
        found = opened.evaluate(
            "axe.run('article', {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})"
        )
        wrong = [
            (rule["id"], [node["html"][:200] for node in rule["nodes"][:3]])
            for rule in found["violations"]
        ]
        assert wrong == []
        assert len(found["passes"]) > 5
