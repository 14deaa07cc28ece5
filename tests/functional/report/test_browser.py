"""The HTML report in headless Chromium: what a person sees, clicks and hears of it.

`make browser` installs Chromium and axe-core; where they are not, these tests are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dbt_enrich.report.page import html_page
from docs.screenshots import take
from functional.report.conftest import TEXT, Reported
from playwright.sync_api import Browser, Page
from support.browser import AXE, THEMES, WIDTHS, headless_chromium, needs_browser, watched
from support.dbt_project import REPOSITORY

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium from the system's packages."""
    with headless_chromium() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def file(reported: Reported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report's file."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html_page(reported.report), encoding="utf-8")
    return path


@pytest.fixture
def page(browser: Browser, file: Path) -> Iterator[Page]:
    """The report, opened; at the end it has asked for nothing and complained of nothing."""
    with browser.new_page(viewport={"width": WIDTHS["desktop"], "height": 900}) as opened:
        text = watched(opened)
        opened.goto(file.as_uri())
        yield opened
        assert text == [file.as_uri()]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", THEMES)
def test_contrast_labels_and_structure(
    browser: Browser, file: Path, theme: Any, width: str
) -> None:
    """What axe-core checks of WCAG 2.1 AA and of good practice; and no sideways scrolling."""
    viewport: Any = {"width": WIDTHS[width], "height": 800}
    with browser.new_page(viewport=viewport, color_scheme=theme) as opened:
        text = watched(opened)
        opened.goto(file.as_uri())
        for details in opened.locator("details").all():
            details.evaluate("element => { element.open = true; }")
        # The policy of the file holds for what the page loads, not for the debugger's own code.
        opened.evaluate(AXE.read_text(encoding="utf-8"))
        found = opened.evaluate("axe.run()")
        wrong = [
            (rule["id"], [node["html"][:200] for node in rule["nodes"][:3]])
            for rule in found["violations"]
        ]
        assert wrong == []
        assert len(found["passes"]) > 20
        assert opened.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width]
        assert text == [file.as_uri()]


def test_no_text_becomes_more_than_text(page: Page) -> None:
    """Scripts do not run, markup is shown as it is written, nothing turns the line around."""
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    text = page.evaluate("document.documentElement.textContent")
    shown = re.sub("[\u202e\u2066\u200b\x07]", lambda m: f"[U+{ord(m.group()):04X}]", TEXT)
    assert shown in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x07]", text)
    assert "49" not in page.locator("td bdi", has_text="window.hacked").first.inner_text()


def test_the_policy_lets_nothing_in(browser: Browser, file: Path) -> None:
    """A script, a style and an address that somehow came to stand in the page do nothing."""
    html = file.read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    assert "unsafe" not in policy[1]
    assert policy[1].startswith("default-src &#39;none&#39;")
    broken = html.replace(
        "<main id=", '<script>window.hacked = 2</script><main onclick="window.hacked = 3" id='
    ).replace("</footer>", '<b style="color: red">x</b><img src="http://127.0.0.1:9/x"></footer>')
    other = file.with_name("broken.html")
    other.write_text(broken, encoding="utf-8")
    with browser.new_page() as opened:
        failures: list[str | None] = []
        opened.on("requestfailed", lambda request: failures.append(request.failure))
        opened.goto(other.as_uri())
        opened.locator("main").click(position={"x": 5, "y": 5})
        assert opened.evaluate("window.hacked") is None
        assert opened.evaluate("getComputedStyle(document.querySelector('b')).color") != (
            "rgb(255, 0, 0)"
        )
        assert failures == ["csp"]


def shown_rows(page: Page) -> list[str]:
    """The statuses of the tickets' rows that are shown."""
    rows = page.locator("table.rows").nth(1).locator("tbody tr:visible")
    return [row.get_attribute("data-status") or "" for row in rows.all()]


def test_rows_are_searched_and_filtered(page: Page) -> None:
    """By typing and by choosing, both together; the count is said aloud."""
    block = page.locator("[data-rows]").nth(1)
    everything = shown_rows(page)
    assert everything[:9] == ["failed"] * 6 + ["skipped"] * 3
    block.get_by_label("Status of tickets_enriched").select_option("failed")
    assert shown_rows(page) == ["failed"] * 6
    block.get_by_label("Search the rows of tickets_enriched").fill("DECLINE refusal")
    assert shown_rows(page) == ["failed"] * 3
    assert block.locator("output").inner_text() == f"3 of {len(everything)} rows shown"
    block.get_by_label("Search the rows of tickets_enriched").fill("no such text")
    assert shown_rows(page) == []
    block.get_by_label("Search the rows of tickets_enriched").fill("")
    block.get_by_label("Status of tickets_enriched").select_option("")
    assert shown_rows(page) == everything


def test_rows_are_sorted_by_keyboard(page: Page) -> None:
    """The head is a button, and says which way it sorts."""
    block = page.locator("[data-rows]").nth(1)
    head = block.locator("th", has_text="status")
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert shown_rows(page) == sorted(shown_rows(page))
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert shown_rows(page) == sorted(shown_rows(page), reverse=True)


def test_rows_are_sorted_on_a_phone_and_put_back(page: Page) -> None:
    """Where the head has no room, by choosing; problems first is one of the choices."""
    page.set_viewport_size({"width": 390, "height": 800})
    block = page.locator("[data-rows]").nth(1)
    order = block.get_by_label("Sort the rows of tickets_enriched")
    assert order.is_visible()
    before = shown_rows(page)
    order.select_option("status, ascending")
    assert shown_rows(page) == sorted(before) != before
    order.select_option("problems first")
    assert shown_rows(page) == before
    assert block.locator("th[aria-sort]").count() == 0
    table = block.get_by_role("table")
    assert table.get_by_role("row").count() > 50
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_search_minds_neither_case_nor_accents(page: Page) -> None:
    """As people type who look for a name."""
    page.evaluate(
        "document.querySelectorAll('[data-rows]')[1].querySelector('tbody td dd')"
        ".textContent = 'Am\u00e9lie'"
    )
    html = page.content()
    page.set_content(html)
    block = page.locator("[data-rows]").nth(1)
    block.get_by_label("Search the rows of tickets_enriched").fill("AMELIE")
    assert len(shown_rows(page)) == 1


def test_the_theme_is_changed_by_hand(page: Page) -> None:
    """Whatever the system's own theme is."""

    def paper() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    before = paper()
    page.get_by_role("button", name="Dark theme").click()
    assert paper() != before
    page.get_by_role("button", name="Light theme").click()
    assert paper() == before


def test_every_control_is_reached_by_the_keyboard(page: Page) -> None:
    """And the first stop leads past the head to the content."""
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    wanted = page.locator(
        "button:visible, input:visible, select:visible, summary:visible, main a:visible"
    ).count()
    reached = set()
    for step in range(wanted * 3):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "step => { const e = document.activeElement; e.dataset.stop ??= step; "
                "return e.matches('button, input, select, summary, main a') ? e.dataset.stop "
                ": null; }",
                step,
            )
        )
    assert len(reached - {None}) == wanted


def test_it_prints_everything(page: Page, tmp_path: Path) -> None:
    """What is folded is opened, the filters are gone, and the ink is dark."""
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert not page.locator(".filters").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
    page.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").stat().st_size > 10_000


def test_it_reads_without_scripts(browser: Browser, file: Path) -> None:
    """All rows are there, and no control that would do nothing."""
    with browser.new_context(java_script_enabled=False) as context:
        opened = context.new_page()
        opened.goto(file.as_uri())
        assert opened.locator("table.rows tbody tr").count() > 50
        assert opened.locator(".filters:visible, #theme:visible").count() == 0


def test_the_pictures_of_the_docs_can_be_taken(
    browser: Browser, file: Path, tmp_path: Path
) -> None:
    """`make screenshots` finds in a report what the docs show of one, under the same names."""
    taken = take(browser, file, tmp_path)
    assert {path.name for path in taken} == {
        path.name for path in (REPOSITORY / "docs").glob("report*.png")
    }
    for path in taken:
        assert path.read_bytes().startswith(b"\x89PNG")
