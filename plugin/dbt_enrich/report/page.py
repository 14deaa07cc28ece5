"""The report as one HTML file that needs nothing else, and lets nothing else in.

Every text goes through Jinja's escaping; the file's own Content-Security-Policy allows the one
style sheet and the one script that it holds, by their hashes, and no address at all.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from dbt_enrich import __version__
from dbt_enrich.report import charts
from dbt_enrich.report.attention import age
from dbt_enrich.report.contents import (
    AskedColumn,
    ColumnReport,
    DayReport,
    Histogram,
    Report,
)
from dbt_enrich.report.size import LARGEST_FILE, LIMITS, Limits, left_out, within
from dbt_enrich.report.tables import (
    batch_rows,
    day_rows,
    failure_rows,
    version_rows,
    ways_sentence,
)
from dbt_enrich.report.texts import amount, copied_sentence, moment, number, shown, visible
from dbt_enrich.task.result_columns import STATUSES

Head = tuple[str, bool]
Distribution = tuple[str, Callable[[], str], Sequence[Head], Sequence[Sequence[object]]]
Chart = tuple[str, Markup, Sequence[Head], Sequence[Sequence[object]]]
_CALM = ("Nothing needs attention.",)


def html_page(report: Report) -> str:
    """Write a report as HTML, in a file of less than `LARGEST_FILE` bytes.

    The extra `report` must be installed.
    """
    *larger, smallest = LIMITS
    for limits in larger:
        page = _if_small(_pieces(report, limits))
        if page is not None:
            return page
    return "".join(_pieces(report, smallest))


def _if_small(pieces: Iterator[str]) -> str | None:
    """Join a page, or give up as soon as it is too large: a whole one may take a minute."""
    kept, size = [], 0
    for piece in pieces:
        size += len(piece.encode())
        if size >= LARGEST_FILE:
            return None
        kept.append(piece)
    return "".join(kept)


def _pieces(report: Report, limits: Limits) -> Iterator[str]:
    """Yield what of a report is within limits as HTML, piece by piece."""
    kept = within(report, limits)
    assets = files("dbt_enrich.report") / "assets"
    css = (assets / "report.css").read_text(encoding="utf-8")
    js = (assets / "report.js").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "age": age,
        "batches": batch_rows,
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
        "charts": _charts_of_first(limits.charts),
        "columns": _asked_rows,
        "copied": copied_sentence,
        "cost": lambda money: amount(money.cost, money.currency),
        "days": _day_charts,
        "failures": failure_rows,
        "moment": moment,
        "number": number,
        "saved": lambda money: amount(money.saved, money.currency),
        "shares": _shares,
        "shown": shown,
        "shorten": lambda text: text if len(text) <= 160 else text[:160] + "…",
        "timeline": lambda batches: Markup(charts.timeline_chart(batches)),  # noqa: S704
        "versions": version_rows,
        "visible": visible,
        "ways": ways_sentence,
    }
    template = environment.from_string((assets / "report.html.j2").read_text(encoding="utf-8"))
    return template.generate(
        report=kept,
        notes=[*left_out(report, kept, limits)],
        statuses=STATUSES,
        calm=report.sentences == _CALM,
        policy=_policy(css, js),
        css=Markup(css),  # noqa: S704 - ours
        js=Markup(js),  # noqa: S704 - ours
        release=__version__,
    )


def _policy(css: str, js: str) -> str:
    return (
        f"default-src 'none'; style-src '{_hash(css)}'; script-src '{_hash(js)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _shares(found: Mapping[str, int]) -> Iterator[tuple[str, float, float]]:
    """Yield each status with where its part of the bar begins and how wide it is, in percent."""
    total = sum(found.values()) or 1
    x = 0.0
    for status in STATUSES:
        width = round(found.get(status, 0) / total * 100, 3)
        if width:
            yield status, round(x, 3), width
        x += width


def _asked_rows(columns: Sequence[AskedColumn]) -> list[tuple[object, ...]]:
    return [(column.name, column.data_type, column.description or "") for column in columns]


def _charts_of_first(most: int) -> Callable[[ColumnReport], Sequence[Chart]]:
    """Return what makes the charts of so many output columns, and the tables alone of the rest."""
    left = iter(range(most))

    def charts_of(column: ColumnReport) -> Sequence[Chart]:
        if next(left, None) is not None:
            return _column_charts(column)
        return [(title, Markup(), heads, rows) for title, _, heads, rows in _distributions(column)]

    return charts_of


@lru_cache(maxsize=256)
def _column_charts(column: ColumnReport) -> tuple[Chart, ...]:
    return tuple(
        (title, Markup(draw()), heads, rows)  # noqa: S704
        for title, draw, heads, rows in _distributions(column)
    )


def _distributions(column: ColumnReport) -> Iterator[Distribution]:
    """Yield title, what draws it, and heads and rows of its table, of each distribution."""
    if column.values:
        values = [(shown(c.value), number(c.rows)) for c in column.values]
        heads: tuple[Head, ...] = (("value", False), ("rows", True))
        yield "Most frequent values", partial(charts.values_chart, column.values), heads, values
    for title, histogram in _histograms(column):
        bins = [(bin_, number(count)) for bin_, count in charts.bin_rows(histogram)]
        heads = ((histogram.unit, False), ("rows", True))
        yield title, partial(charts.histogram_chart, histogram), heads, bins
    if column.pairs:
        pairs = [(shown(p.one), shown(p.other), number(p.rows)) for p in column.pairs]
        heads = (("one", False), ("other", False), ("rows", True))
        yield "Found together", partial(charts.pairs_chart, column.pairs), heads, pairs
    for crossing in column.crossings:
        pairs = [(shown(p.one), shown(p.other), number(p.rows)) for p in crossing.pairs]
        heads = ((visible(column.name), False), (visible(crossing.other), False), ("rows", True))
        draw = partial(charts.crossing_chart, column.name, crossing)
        yield f"By {visible(crossing.other)}", draw, heads, pairs


def _histograms(column: ColumnReport) -> Iterator[tuple[str, Histogram]]:
    if column.histogram:
        yield ("Lengths" if column.histogram.unit == "characters" else "Values"), column.histogram
    if column.sizes:
        yield "Items in a list", column.sizes


def _day_charts(days: Sequence[DayReport]) -> Iterator[Chart]:
    heads = (
        ("day", False),
        ("batches", True),
        ("requests", True),
        ("rows", True),
        ("answered", True),
        ("failed attempts", True),
        ("prompt tokens", True),
        ("cached", True),
        ("answer tokens", True),
        ("cost", True),
        ("saved", True),
    )
    rows = day_rows(days)
    for title, measure in (
        ("Requests", "requests"),
        ("Tokens", "tokens"),
        ("Cost", "cost"),
    ):
        if measure == "cost" and not any(day.money.cost for day in days):
            continue
        yield title, Markup(charts.days_chart(days, measure)), heads, rows  # noqa: S704
