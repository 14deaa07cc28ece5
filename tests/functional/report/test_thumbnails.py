"""Thumbnails: local pictures stand beside the answers, addresses stay text. A whole dbt run."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from batch_server.image_formats import Picture, read_picture
from batch_server.server import RunningEmulator
from dbt_enrich.report.documents import markdown_document
from dbt_enrich.report.page import html_page
from dbt_enrich.report.size import LIMITS, within
from functional.report.conftest import report_of
from support.dbt_project import DbtProject, azure
from support.pictures import BLUE, GREEN, RED, data_address, png, shown

SELECT = f"""
    select 1 as id, 'photos/red.png' as photo, from_hex('{png(GREEN, 300, 60).hex()}') as scan
    union all select 2, 'https://example.org/a.png', null
    union all select 3, '../outside.png', null
    union all select 4, '{data_address(png(BLUE))}', null
"""


@pytest.fixture
def project(emulator: RunningEmulator, tmp_path: Path) -> DbtProject:
    """A project with pictures, enriched."""
    made = DbtProject(tmp_path, azure(emulator.url, emulator.api_key))
    (made.directory / "photos").mkdir()
    (made.directory / "photos" / "red.png").write_bytes(png(RED))
    (made.directory.parent / "outside.png").write_bytes(png(RED))
    made.enrichment(
        "captions",
        SELECT,
        meta={"user": "What is it?", "images": ["photo", "scan"], "optional": ["scan"],
              "output": ["caption"]},
        columns=[{"name": "caption", "data_type": "varchar"}],
    )  # fmt: skip
    made.dbt("run")
    return made


def test_pictures_stand_beside_the_answers(project: DbtProject) -> None:
    """Small copies of what is here; nothing is fetched, and nothing outside the project is read."""
    pytest.importorskip("PIL")
    report = report_of(project)
    (model,) = report.models
    assert model.asked is not None
    assert model.asked.images == ("photo", "scan")
    rows = {row.inputs[0].value: row for row in model.sample}
    assert {key: row.status for key, row in rows.items()} == {
        "1": "done", "2": "done", "3": "skipped", "4": "done",
    }  # fmt: skip
    assert shown(png(RED)) in str(rows["1"].answer)
    texts = {key: [(p.column, p.text) for p in row.pictures] for key, row in rows.items()}
    assert texts == {
        "1": [("photo", "photos/red.png"), ("scan", "image/png 300x60")],
        "2": [("photo", "https://example.org/a.png")],
        "3": [("photo", "../outside.png")],
        "4": [("photo", "image/png 8x8")],
    }
    assert [p.data for key in "23" for p in rows[key].pictures] == [None, None]
    photo, scan = (thumbnail.data or "" for thumbnail in rows["1"].pictures)
    assert photo == data_address(png(RED))
    small = read_picture(base64.b64decode(scan.partition(",")[2]))
    assert isinstance(small, Picture)
    assert (small.width, small.height) <= (96, 20)
    page = html_page(report)
    assert f'<img src="{photo}"' in page
    assert "img-src data:" in page
    assert 'src="http' not in page
    assert "photos/red.png" in markdown_document(report)


def test_the_smallest_report_has_no_pictures(project: DbtProject) -> None:
    """A report that is too large leaves them out, and their texts stay."""
    (model,) = within(report_of(project), LIMITS[-1]).models
    pictures = [picture for row in model.sample for picture in row.pictures]
    assert pictures
    assert all(picture.data is None and picture.text for picture in pictures)
