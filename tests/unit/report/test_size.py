"""The size of the file, whatever the models hold."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime

from dbt_enrich.report.contents import (
    Asked,
    AskedColumn,
    Bin,
    ColumnReport,
    Count,
    Field,
    Histogram,
    ModelReport,
    Money,
    Report,
    SampleRow,
    VersionReport,
)
from dbt_enrich.report.documents import json_document
from dbt_enrich.report.page import html_page
from dbt_enrich.report.size import LARGEST_FILE, LIMITS, within

NOW = datetime(2026, 1, 2, tzinfo=UTC)
FREE = Money(0.0, 0.0, "USD")


def model(number: int, *, columns: int, characters: int, rows: int = 200) -> ModelReport:
    """A model with many wide columns, long prompts and many versions."""
    text = "é<wide> " * (characters // 8)
    names = [f"column_{i}" for i in range(columns)]
    row = SampleRow(
        "done", (Field("id", "1"),), tuple(Field(n, text[:400]) for n in names), None, "a"
    )
    return ModelReport(
        name=f"model_{number}",
        enrichment=f"model.shop.model_{number}",
        relation=None,
        note=None,
        published=NOW,
        statuses={"done": 1_000_000, "failed": number},
        money=FREE,
        asked=Asked(
            "gpt-4o-mini", "a", text, "{text}",
            tuple(AskedColumn(n, "varchar", text) for n in names), ((text, text),) * 3,
        ),
        versions=tuple(VersionReport(str(i), NOW, 1, 1, ("system text",), text) for i in range(10)),
        columns=tuple(
            ColumnReport(n, "varchar", text, 1, 0, 1, (Count("x", 1), Count("", 2))) for n in names
        ),
        sample=(row,) * rows,
        sampled_of=1_000_000,
    )  # fmt: skip


def report(*models: ModelReport) -> Report:
    """A report on some models."""
    return Report("shop", NOW, ("Nothing needs attention.",), {"done": 1}, FREE, None, models)


def test_a_small_report_is_whole() -> None:
    """And says nothing of what it leaves out."""
    whole = report(model(1, columns=2, characters=80))
    assert within(whole, LIMITS[0]) == whole
    page = html_page(whole)
    assert "To keep this file small" not in page
    assert "(empty)" in page
    assert "column_1" in page


def test_a_large_report_is_cut_and_says_so() -> None:
    """Under the limit, with the models that have problems, and every model counted."""
    # A little more of everything than the middle limits allow, which leave it too large.
    models = (model(i, columns=31, characters=11_000, rows=31) for i in range(52))
    whole = report(*models)
    page = html_page(whole)
    assert len(page.encode()) < LARGEST_FILE
    assert "To keep this file small" in page
    assert "models are counted, but not shown" in page
    assert "model_51" in page
    assert "long texts are shortened" in page
    assert "output columns are shown as tables, without charts" in page


def test_json_has_no_number_that_json_does_not_know() -> None:
    """Infinite ones are null."""
    odd = Histogram("number", (Bin(0.0, math.inf, 1),), 0.0, math.nan, math.inf)
    column = ColumnReport("score", "double", None, 1, 0, histogram=odd)
    whole = replace(model(1, columns=1, characters=8), columns=(column,))

    def refuse(name: str) -> None:
        raise AssertionError(name)

    document = json.loads(json_document(report(whole)), parse_constant=refuse)
    assert document["models"][0]["columns"][0]["histogram"]["maximum"] is None
