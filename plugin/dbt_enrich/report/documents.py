"""The report as Markdown, for a pull request or a chat message, and as JSON, for machines."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from dbt_enrich.report.attention import age
from dbt_enrich.report.contents import (
    Asked,
    ColumnReport,
    Crossing,
    Histogram,
    ModelReport,
    Report,
)
from dbt_enrich.report.tables import (
    batch_rows,
    day_rows,
    failure_rows,
    version_rows,
    ways_sentence,
)
from dbt_enrich.report.texts import amount, copied_sentence, moment, number, shown, visible
from dbt_enrich.task.result_columns import STATUSES

_SAMPLED_ROWS = 10
_CELL_CHARACTERS = 160


def json_document(report: Report) -> str:
    """Write a report as JSON: the fields of `Report`, times as in ISO 8601."""

    def other(value: object) -> str:
        if isinstance(value, datetime):
            return value.isoformat()
        raise TypeError(f"{type(value).__name__} is no part of a report")

    return json.dumps(_finite(asdict(report)), indent=2, default=other, allow_nan=False)


def _finite(value: Any) -> Any:
    """Return a document with null for the numbers that JSON does not know."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def markdown_document(report: Report) -> str:
    """Write a report as Markdown. Untrusted texts stand where nothing formats them."""
    return "\n\n".join(part for part in _parts(report) if part) + "\n"


def _parts(report: Report) -> Iterator[str]:
    yield f"# Enrichment report: {_escaped(report.project)}"
    yield "\n".join(f"- {_escaped(sentence)}" for sentence in report.sentences)
    if not report.models:
        return
    pending = report.made - report.oldest_pending if report.oldest_pending else None
    tokens = report.money.prompt_tokens + report.money.completion_tokens
    yield _table(
        ("rows", *STATUSES, "cost", "saved", "tokens", "oldest pending"),
        [
            (
                number(sum(report.statuses.values())),
                *(number(report.statuses.get(status, 0)) for status in STATUSES),
                amount(report.money.cost, report.money.currency),
                amount(report.money.saved, report.money.currency),
                number(tokens),
                age(pending) if pending else "none",
            )
        ],
    )
    for model in report.models:
        yield from _model(model)
    if report.days:
        yield "## By day"
        yield _table(
            ("day", "batches", "requests", "rows", "answered", "failed attempts", "prompt tokens",
             "cached", "answer tokens", "cost", "saved"),
            day_rows(report.days),
        )  # fmt: skip
        yield f"## Batches ({len(report.batches):,} of {report.batches_of:,})"
        yield _table(
            ("batch", "model", "status", "endpoint", "route", "requests", "rows", "completed",
             "failed", "began", "phases", "requests an hour"),
            batch_rows(report.batches),
        )  # fmt: skip
    yield f"Made {moment(report.made)} by dbt-enrich."


def _model(model: ModelReport) -> Iterator[str]:
    yield f"## {_escaped(model.name)}"
    if model.note:
        yield f"{model.name}: {model.note}."
    yield _table(
        ("table", *STATUSES, "cost", "saved", "published"),
        [
            (
                model.relation or "",
                *(number(model.statuses.get(status, 0)) for status in STATUSES),
                amount(model.money.cost, model.money.currency),
                amount(model.money.saved, model.money.currency),
                moment(model.published) if model.published else "",
            )
        ],
    )
    yield ways_sentence(model.ways)
    if model.asked:
        yield from _asked(model.asked)
    if model.versions:
        yield "### Versions"
        yield _table(
            ("version", "first seen", "rows", "answers kept", "changed"),
            version_rows(model.versions),
        )
    for version in model.versions:
        if version.diff:
            yield f"Difference that version {_escaped(version.version)} made:"
            yield _fenced(version.diff, "diff")
    if model.columns:
        yield from _answers(model.columns)
    if model.copied is not None:
        yield copied_sentence(model)
    if model.failures:
        yield "### Failures"
        yield _table(
            ("kind", "rows", "asked again by the next run", "rule", "messages",
             "one of the answers"),
            failure_rows(model.failures),
        )  # fmt: skip
    if model.sample:
        yield (
            f"### Rows ({min(len(model.sample), _SAMPLED_ROWS):,} of {model.sampled_of:,}, those "
            "with problems first)"
        )
        yield _table(
            ("status", "asked about", "answer", "problem"),
            [
                (
                    row.status,
                    "; ".join(
                        (
                            *(f"{f.name}: {shown(f.value)}" for f in row.inputs),
                            *(f"{p.column}: {shown(p.text)}" for p in row.pictures),
                        )
                    ),
                    "; ".join(f"{f.name}: {shown(f.value)}" for f in row.answer),
                    row.problem or "",
                )
                for row in model.sample[:_SAMPLED_ROWS]
            ],
        )


def _answers(columns: Sequence[ColumnReport]) -> Iterator[str]:
    yield "### Answers"
    yield _table(
        ("column", "filled", "empty", "different", "distribution"),
        [_column(column) for column in columns],
    )
    for column in columns:
        for crossing in column.crossings:
            yield cross_table(column.name, crossing)


def _asked(asked: Asked) -> Iterator[str]:
    yield "### What was asked"
    yield f"Model {_escaped(asked.model)}, version {_escaped(asked.version)} of the task."
    if asked.system:
        yield "System text:"
        yield _fenced(asked.system)
    yield "Message of each row:"
    yield _fenced(asked.user)
    if asked.images:
        yield f"Behind it the pictures of {_escaped(', '.join(asked.images))}."
    yield _table(
        ("output column", "type", "description"),
        [(column.name, column.data_type, column.description or "") for column in asked.columns],
    )
    for user, answer in asked.examples:
        yield "Example:"
        yield _fenced(f"{user}\n{answer}")


def _fenced(text: str, language: str = "text") -> str:
    """Write a text as a block in which nothing formats it, whatever fences it holds itself."""
    safe = visible(text)
    ticks = max((len(run) for run in re.findall("`+", safe)), default=0)
    fence = "`" * max(3, ticks + 1)
    return f"{fence}{language}\n{safe}\n{fence}"


def _column(column: ColumnReport) -> tuple[object, ...]:
    text = [f"{shown(count.value)} {number(count.rows)}" for count in column.values[:8]]
    parts = [", ".join(text)] if text else []
    parts += [_spread(spread) for spread in (column.histogram, column.sizes) if spread]
    if column.pairs:
        pair = column.pairs[0]
        parts.append(f"most often together: {pair.one} and {pair.other} ({number(pair.rows)})")
    distinct = "" if column.distinct is None else number(column.distinct)
    return column.name, number(column.filled), number(column.empty), distinct, "; ".join(parts)


def cross_table(name: str, crossing: Crossing) -> str:
    """Write how many rows have which values of two columns, one of them by line."""
    counts = {(pair.one, pair.other): pair.rows for pair in crossing.pairs}
    ones = sorted({one for one, _ in counts})
    others = sorted({other for _, other in counts})
    return _table(
        (f"{name} by {crossing.other}", *(shown(other) for other in others)),
        [(shown(one), *(number(counts.get((one, o), 0)) for o in others)) for one in ones],
    )


def _spread(histogram: Histogram) -> str:
    if histogram.unit == "seconds":
        return "times"
    unit = "" if histogram.unit == "number" else f" {histogram.unit}"
    return (
        f"{number(histogram.minimum)} to {number(histogram.maximum)}{unit}, "
        f"median {number(histogram.median)}"
    )


def _table(headers: tuple[str, ...], rows: Sequence[Sequence[object]]) -> str:
    marks = ["---" for _ in headers]
    lines = [[_cell(cell) for cell in row] for row in [headers, *rows]]
    lines.insert(1, marks)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    line = " ".join(visible(value).split())
    return _escaped(line if len(line) <= _CELL_CHARACTERS else line[:_CELL_CHARACTERS] + "…")


def _escaped(text: str) -> str:
    """Take from a text what Markdown, and the HTML in it, would read as more than text."""
    safe = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "\\`*_[]|~#!":
        safe = safe.replace(mark, f"\\{mark}")
    # No address becomes a link, and no mention notifies a user.
    return safe.replace("://", "&#58;//").replace("@", "&#64;").replace("www.", "www&#46;")
