"""Charts as SVG, drawn by Vega-Lite through Altair; colours are the page's own variables.

What comes back is read as XML, and only shapes and texts of it are kept: an answer that became a
label can bring nothing else into the page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from dbt_enrich.report.batches import PHASES
from dbt_enrich.report.contents import (
    BatchReport,
    Count,
    Crossing,
    DayReport,
    Histogram,
    Pair,
)
from dbt_enrich.report.texts import number, shown

if TYPE_CHECKING:
    import altair as alt

_SVG = "http://www.w3.org/2000/svg"
_SHAPES = {"svg", "g", "path", "rect", "line", "circle", "text", "tspan"}
_TRAITS = {
    *("d", "x", "y", "x1", "x2", "y1", "y2", "dx", "dy", "r", "cx", "cy", "width", "height"),
    *("viewBox", "transform", "fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray"),
    *("stroke-opacity", "stroke-linecap", "stroke-miterlimit", "opacity", "display"),
    *("font-size", "font-weight", "text-anchor"),
}
_COLOURS = [f"var(--series-{i})" for i in range(1, 6)]
_INK, _GRID, _ACCENT = "var(--ink)", "var(--grid)", "var(--series-1)"
_LABEL_CHARACTERS = 20
# So many bins have room for a label each.
_FEW_BINS = 6


def values_chart(values: Sequence[Count]) -> str:
    """Draw how often values occur, as bars."""
    alt = _altair()
    labels = _labels([count.value for count in values])
    rows = [
        {"value": labels[count.value], "rows": count.rows, "i": i} for i, count in enumerate(values)
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("value:N", sort=alt.SortField("i"), title=None),
        x=alt.X("rows:Q", title="rows", axis=alt.Axis(tickCount=4, format="~s")),
    )
    bars = base.mark_bar(color=_ACCENT, cornerRadiusEnd=2)
    texts = base.mark_text(align="left", dx=4, color=_INK).encode(
        text=alt.Text("rows:Q", format=",")
    )
    return _drawn((bars + texts).properties(width=220, height=alt.Step(19)))


def histogram_chart(histogram: Histogram) -> str:
    """Draw how numbers, times or lengths are spread."""
    alt = _altair()
    title = {"seconds": None, "number": "value"}.get(histogram.unit, histogram.unit)
    scale = 1000.0 if histogram.unit == "seconds" else 1.0
    # The bar of a whole number stands on it.
    shift = -0.5 if histogram.whole and histogram.unit != "seconds" else 0.0
    rows = [
        {"low": (b.low + shift) * scale, "high": (b.high + shift) * scale, "rows": b.rows}
        for b in histogram.bins
    ]
    x: dict[str, Any] = {"type": "quantitative", "scale": {"zero": False, "nice": False}}
    form: Any = "~s" if histogram.maximum >= 10_000 else alt.Undefined
    if form is alt.Undefined and histogram.whole:
        form = "d"
    if histogram.unit == "seconds":
        x, form = {"type": "temporal", "scale": {"type": "utc"}}, alt.Undefined
    ends = [b.low * scale for b in histogram.bins]
    ticks = ends if len(ends) <= _FEW_BINS else alt.Undefined
    axis = alt.Axis(tickCount=5, values=ticks, format=form, grid=False)
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_rect(fill=_ACCENT, stroke="var(--panel)", strokeWidth=1)
        .encode(
            x=alt.X("low", title=title, axis=axis, **x),
            x2="high",
            y=alt.Y("rows:Q", title="rows", axis=alt.Axis(tickCount=4, format="~s")),
            y2=alt.datum(0),
        )
    )
    return _drawn(chart.properties(width=280, height=130))


def pairs_chart(pairs: Sequence[Pair]) -> str:
    """Draw which items stand in one list, as a heat map."""
    labels = _labels(dict.fromkeys(name for pair in pairs for name in (pair.one, pair.other)))
    rows = [
        {"one": labels[one], "other": labels[other], "rows": pair.rows}
        for pair in pairs
        for one, other in ((pair.one, pair.other), (pair.other, pair.one))
    ]
    return _heat_map(rows)


def crossing_chart(name: str, crossing: Crossing) -> str:
    """Draw one column by another, as a heat map.

    Args:
        name: The column's name.
        crossing: How its values go with the other column's.
    """
    ones = _labels(dict.fromkeys(pair.one for pair in crossing.pairs))
    others = _labels(dict.fromkeys(pair.other for pair in crossing.pairs))
    rows = [
        {"one": others[pair.other], "other": ones[pair.one], "rows": pair.rows}
        for pair in crossing.pairs
    ]
    return _heat_map(rows, x=_label(crossing.other), y=_label(name))


def _heat_map(
    rows: Sequence[Mapping[str, Any]], *, x: str | None = None, y: str | None = None
) -> str:
    """Draw `rows` by `one` to the right and `other` upwards, with titles of the two."""
    alt = _altair()
    base = alt.Chart(alt.Data(values=list(rows))).encode(
        x=alt.X("one:N", title=x, axis=alt.Axis(labelAngle=-45, grid=False)),
        y=alt.Y("other:N", title=y, axis=alt.Axis(grid=False)),
    )
    most = max(row["rows"] for row in rows)
    cells = base.mark_rect(fill=_ACCENT).encode(
        fillOpacity=alt.FillOpacity(
            "rows:Q", legend=None, scale=alt.Scale(domain=[0, most], range=[0.08, 0.5])
        )
    )
    texts = base.mark_text(fontSize=9).encode(
        text=alt.Text("rows:Q", format="~s"),
        color=alt.value(_INK),
    )
    return _drawn((cells + texts).properties(width=alt.Step(26), height=alt.Step(22)))


def timeline_chart(batches: Sequence[BatchReport]) -> str:
    """Draw the lives of batches, one bar each, by their phases."""
    alt = _altair()
    rows = [
        {
            "batch": f"{i:02d}",
            "phase": phase.name,
            "began": _milliseconds(phase.began),
            "ended": _milliseconds(phase.ended),
        }
        for i, batch in enumerate(batches)
        for phase in batch.phases
    ]
    labels = {f"{i:02d}": _label(batch.batch) for i, batch in enumerate(batches)}
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(height=9, minBandSize=2)
        .encode(
            y=alt.Y(
                "batch:N",
                title=None,
                axis=alt.Axis(labelExpr=f"{_quoted(labels)}[datum.label]", labelLimit=170),
            ),
            x=alt.X(
                "began", type="temporal", title=None, scale=alt.Scale(type="utc"),
                axis=alt.Axis(tickCount=6),
            ),
            x2="ended",
            color=alt.Color("phase:N", scale=alt.Scale(domain=list(PHASES), range=_COLOURS),
                            legend=alt.Legend(orient="top", title=None)),
        )
    )  # fmt: skip
    return _drawn(chart.properties(width=560, height=alt.Step(15)))


def days_chart(days: Sequence[DayReport], measure: str) -> str:
    """Draw what was sent by day.

    Args:
        days: The days.
        measure: `requests`, `tokens` or `cost`.
    """
    alt = _altair()
    parts: dict[str, Mapping[str, Any]] = {
        "requests": {
            "answered": lambda day: day.answered,
            "failed attempts": lambda day: day.retries,
        },
        "tokens": {
            "prompt": lambda day: day.money.prompt_tokens - day.money.cached_tokens,
            "prompt, cached": lambda day: day.money.cached_tokens,
            "answer": lambda day: day.money.completion_tokens,
        },
        "cost": {
            "paid": lambda day: day.money.cost or 0.0,
            "saved": lambda day: day.money.saved or 0.0,
        },
    }
    form = ".3~g" if measure == "cost" else "~s"
    rows = [
        {"day": day.day, "part": part, "value": of(day), "i": i}
        for day in days
        for i, (part, of) in enumerate(parts[measure].items())
    ]
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(size=min(24, max(3, 260 // max(len(days), 1))))
        .encode(
            x=alt.X("day:O", title=None, axis=alt.Axis(labelAngle=-45, labelOverlap=True)),
            y=alt.Y("value:Q", title=measure, axis=alt.Axis(tickCount=4, format=form)),
            order="i:Q",
            color=alt.Color(
                "part:N",
                scale=alt.Scale(domain=list(parts[measure]), range=_COLOURS),
                legend=alt.Legend(orient="top", title=None),
            ),
        )
    )
    return _drawn(chart.properties(width=280, height=130))


def _altair() -> Any:
    import altair as alt

    return alt


def _label(text: str) -> str:
    line = " ".join(shown(text).split())
    return line if len(line) <= _LABEL_CHARACTERS else line[: _LABEL_CHARACTERS - 1] + "…"


def _labels(values: Iterable[str]) -> dict[str, str]:
    """Shorten values to labels that can still be told apart."""
    labels: dict[str, str] = {}
    for value in values:
        label, number = _label(value), 1
        while label in labels.values():
            number += 1
            label = f"{_label(value)[: _LABEL_CHARACTERS - 4]} ({number})"
        labels[value] = label
    return labels


def _quoted(labels: Mapping[str, str]) -> str:
    return json.dumps(labels)


def _milliseconds(at: datetime) -> float:
    return at.astimezone(UTC).timestamp() * 1000


def _drawn(chart: alt.TopLevelMixin) -> str:
    import vl_convert

    # The reader's own font may be wider than the one that Vega measures with.
    configured = chart.properties(padding={"left": 18, "right": 12, "top": 5, "bottom": 5})
    configured = configured.configure(
        background="transparent",
        axis={
            "labelColor": _INK, "titleColor": _INK, "tickColor": _GRID, "gridColor": _GRID,
            "domainColor": _GRID, "labelFontSize": 11, "titleFontSize": 11,
            "titleFontWeight": "normal", "labelLimit": 170,
        },
        view={"stroke": None},
        legend={"labelColor": _INK, "labelFontSize": 11, "symbolType": "square"},
    )  # fmt: skip
    return safe_svg(vl_convert.vegalite_to_svg(configured.to_dict()))


def safe_svg(svg: str) -> str:
    """Return an SVG's shapes and texts, and nothing else that it might hold."""
    root = ET.fromstring(svg)  # noqa: S314 - from Vega, whose texts are escaped
    _clean(root)
    root.set("aria-hidden", "true")
    ET.register_namespace("", _SVG)
    return ET.tostring(root, encoding="unicode")


def _clean(element: ET.Element) -> None:
    for name in list(element.attrib):
        if name not in _TRAITS or "url(" in element.attrib[name]:
            del element.attrib[name]
    for child in list(element):
        if child.tag.removeprefix(f"{{{_SVG}}}") in _SHAPES:
            _clean(child)
        else:
            element.remove(child)


def bin_rows(histogram: Histogram) -> list[tuple[str, int]]:
    """Return a histogram as rows of a table."""

    def end(value: float) -> str:
        if histogram.unit != "seconds":
            return number(value)
        try:
            return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M}"
        except (OverflowError, ValueError, OSError):
            return number(value)

    if histogram.whole:
        return [(end(b.low), b.rows) for b in histogram.bins if b.rows]
    return [(f"{end(b.low)} to {end(b.high)}", b.rows) for b in histogram.bins if b.rows]
