"""How much of a report goes into a file, so that it stays small enough to open and to send."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dbt_enrich.report.contents import Asked, Field, ModelReport, Report, SampleRow
from dbt_enrich.wording import counted

LARGEST_FILE = 5_000_000


@dataclass(frozen=True)
class Limits:
    """What a report's file holds at most.

    Attributes:
        models: Models that are shown whole; the overview counts all.
        rows: Sampled rows of a model.
        value: Characters of a sampled value.
        text: Characters of a prompt, an example, or the difference between two versions.
        columns: Output columns of a model.
        charts: Output columns with charts, over all models.
        versions: Versions of a task.
        pictures: Sampled rows of a model whose pictures are shown; of others their text.
    """

    models: int
    rows: int
    value: int
    text: int
    columns: int
    charts: int
    versions: int
    pictures: int


# From the whole to what always fits; the first one whose file is small enough is taken.
LIMITS = (
    Limits(
        models=200,
        rows=200,
        value=400,
        text=100_000,
        columns=200,
        charts=80,
        versions=50,
        pictures=200,
    ),
    Limits(
        models=200,
        rows=80,
        value=200,
        text=10_000,
        columns=100,
        charts=50,
        versions=20,
        pictures=80,
    ),
    Limits(
        models=100,
        rows=30,
        value=120,
        text=2_000,
        columns=60,
        charts=30,
        versions=10,
        pictures=30,
    ),
    Limits(
        models=50,
        rows=10,
        value=80,
        text=500,
        columns=30,
        charts=10,
        versions=5,
        pictures=10,
    ),
    Limits(
        models=20,
        rows=5,
        value=40,
        text=200,
        columns=10,
        charts=0,
        versions=2,
        pictures=0,
    ),
)


def within(report: Report, limits: Limits) -> Report:
    """Return a report with no more in it than the limits allow, models with problems first."""
    models = report.models
    if len(models) > limits.models:
        models = tuple(sorted(models, key=_problems, reverse=True))[: limits.models]
    return replace(report, models=tuple(_model_within(model, limits) for model in models))


def left_out(report: Report, kept: Report, limits: Limits) -> Iterator[str]:
    """Say what a file leaves out of a report, so that a part is not taken for the whole."""
    if len(kept.models) < len(report.models):
        hidden = len(report.models) - len(kept.models)
        yield f"{counted(hidden, 'model is', 'models are')} counted, but not shown"
    by_name = {model.enrichment: model for model in report.models}
    if any(by_name[model.enrichment].asked != model.asked for model in kept.models):
        yield "long texts are shortened"
    for model in kept.models:
        whole = by_name[model.enrichment]
        hidden = _thumbnails(whole) - _thumbnails(model)
        if hidden:
            pictures = counted(hidden, "picture is", "pictures are")
            yield f"{model.name}: {pictures} not shown"
        for name, noun in _PARTS.items():
            missing = len(getattr(whole, name)) - len(getattr(model, name))
            if missing:
                text = counted(missing, f"{noun} is", f"{noun}s are")
                yield f"{model.name}: {text} not shown"
    bare = sum(len(model.columns) for model in kept.models) - limits.charts
    if bare > 0:
        columns = counted(
            bare, "output column is shown as a table", "output columns are shown as tables"
        )
        yield f"{columns}, without charts"


_PARTS = {"columns": "output column", "versions": "previous version", "sample": "sampled row"}


def _thumbnails(model: ModelReport) -> int:
    return sum(picture.data is not None for row in model.sample for picture in row.pictures)


def _problems(model: ModelReport) -> int:
    return sum(rows for status, rows in model.statuses.items() if status != "done")


def _model_within(model: ModelReport, limits: Limits) -> ModelReport:
    return replace(
        model,
        asked=_asked_within(model.asked, limits) if model.asked else None,
        columns=tuple(
            replace(column, description=_cut(column.description, limits.text))
            for column in model.columns[: limits.columns]
        ),
        versions=tuple(
            replace(version, diff=_cut(version.diff, limits.text) or "")
            for version in model.versions[: limits.versions]
        ),
        sample=tuple(
            _row_within(row, limits, shows=number < limits.pictures)
            for number, row in enumerate(model.sample[: limits.rows])
        ),
    )


def _asked_within(asked: Asked, limits: Limits) -> Asked:
    return replace(
        asked,
        system=_cut(asked.system, limits.text),
        user=_cut(asked.user, limits.text) or "",
        columns=tuple(
            replace(
                column,
                data_type=_cut(column.data_type, limits.text) or "",
                description=_cut(column.description, limits.text),
            )
            for column in asked.columns[: limits.columns]
        ),
        examples=tuple(
            (_cut(user, limits.text) or "", _cut(answer, limits.text) or "")
            for user, answer in asked.examples[: max(3, limits.versions)]
        ),
    )


def _row_within(row: SampleRow, limits: Limits, *, shows: bool) -> SampleRow:
    pictures = row.pictures
    if not shows:
        pictures = tuple(replace(picture, data=None) for picture in pictures)
    return replace(
        row,
        inputs=_fields_within(row.inputs, limits),
        answer=_fields_within(row.answer[: limits.columns], limits),
        problem=_cut(row.problem, limits.value),
        pictures=pictures,
    )


def _fields_within(fields: tuple[Field, ...], limits: Limits) -> tuple[Field, ...]:
    return tuple(Field(field.name, _cut(field.value, limits.value)) for field in fields)


def _cut(text: str | None, most: int) -> str | None:
    # The sample's values end with an ellipsis of their own already.
    if text is None or len(text) <= most + 1:
        return text
    return text[:most] + "…"
