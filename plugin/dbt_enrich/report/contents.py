"""What a report says, whatever it is written as. Texts are as the warehouse holds them, unsafe."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Count:
    """How often a value occurs."""

    value: str
    rows: int


@dataclass(frozen=True)
class Bin:
    """A bar of a histogram.

    Attributes:
        low: Its lower end, which belongs to it.
        high: Its upper end.
        rows: The values between them.
    """

    low: float
    high: float
    rows: int


@dataclass(frozen=True)
class Histogram:
    """How numbers, times or lengths are spread.

    Attributes:
        unit: What the bins' ends are: `number`, `characters`, `items`, or `seconds` since 1970.
        bins: In their order, empty ones included.
        minimum: The smallest value.
        median: The middle one.
        maximum: The largest.
        whole: Whether each bin is of one whole number.
    """

    unit: str
    bins: tuple[Bin, ...]
    minimum: float
    median: float
    maximum: float
    whole: bool = False


@dataclass(frozen=True)
class Pair:
    """How many rows have both values, in one list or in two columns."""

    one: str
    other: str
    rows: int


@dataclass(frozen=True)
class Crossing:
    """An output column by another one.

    Attributes:
        other: The other column's name.
        pairs: Values of the two that stand in one row, the most frequent of each.
    """

    other: str
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class ColumnReport:
    """How the answers of one output column, or of a field of it, are spread.

    Attributes:
        name: The column, with the path to a field.
        data_type: Its type.
        description: The description that the language model was given.
        filled: Rows with a value.
        empty: Answered rows without one.
        distinct: Different values, of lists their items; None where they were not counted.
        values: The most frequent ones.
        others: How many values are none of those, counted as `values` are.
        histogram: Of numbers and times, of the lengths of texts, and of lists their items.
        sizes: How many items the lists have.
        pairs: Items that stand in one list, the most frequent ones.
        crossings: The column by later ones, where both are of few values.
    """

    name: str
    data_type: str
    description: str | None
    filled: int
    empty: int
    distinct: int | None = None
    values: tuple[Count, ...] = ()
    others: int = 0
    histogram: Histogram | None = None
    sizes: Histogram | None = None
    pairs: tuple[Pair, ...] = ()
    crossings: tuple[Crossing, ...] = ()


@dataclass(frozen=True)
class FailureReport:
    """The rows that failed in one way.

    Attributes:
        kind: The failure's kind.
        rows: How many.
        next_run: How many of them the next run asks again.
        rule: What is done about the kind, as a sentence.
        samples: Some of their messages, the most frequent first.
        raw_answer: What the model answered one of them, shortened, or None.
    """

    kind: str
    rows: int
    next_run: int
    rule: str
    samples: tuple[Count, ...]
    raw_answer: str | None = None


@dataclass(frozen=True)
class Field:
    """One column of a sampled row, shortened."""

    name: str
    value: str | None


@dataclass(frozen=True)
class Thumbnail:
    """A picture of a sampled row.

    Attributes:
        column: The column that it is from.
        text: Its address or path, or what it is.
        data: It, scaled down, as a `data:` address; None of one that only the service fetches, or
            that cannot be shown.
    """

    column: str
    text: str
    data: str | None = None


@dataclass(frozen=True)
class SampleRow:
    """A row of the table.

    Attributes:
        status: Its status.
        inputs: What was asked about.
        answer: The output columns.
        problem: Kind and message of its failure.
        version: The version of the task that answered it.
        pictures: What it has of the columns with pictures.
    """

    status: str
    inputs: tuple[Field, ...]
    answer: tuple[Field, ...]
    problem: str | None
    version: str | None
    pictures: tuple[Thumbnail, ...] = ()


@dataclass(frozen=True)
class AskedColumn:
    """An output column as the task describes it."""

    name: str
    data_type: str
    description: str | None


@dataclass(frozen=True)
class Asked:
    """What was asked of each row.

    Attributes:
        model: The logical model.
        version: The task's version.
        system: The system text.
        user: The row's message, with its placeholders.
        columns: The output columns.
        examples: Pairs of a row's message and its answer as JSON.
        images: The columns with pictures.
    """

    model: str
    version: str
    system: str | None
    user: str
    columns: tuple[AskedColumn, ...]
    examples: tuple[tuple[str, str], ...]
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class VersionReport:
    """A version of the task.

    Attributes:
        version: Its first digits.
        first_seen: When.
        rows: Rows of the table that it answered.
        answers: Answers that are kept, whether a row of the table needs them or not.
        changes: What it changed of the version before, by name; None for the first.
        diff: The difference, as unified diff.
    """

    version: str
    first_seen: datetime
    rows: int
    answers: int
    changes: tuple[str, ...] | None
    diff: str


@dataclass(frozen=True)
class Money:
    """What batches cost.

    Attributes:
        cost: At batch price, or None if a price is unknown.
        saved: What the synchronous price is more, or None.
        currency: What they are in.
        prompt_tokens: Tokens of the prompts.
        cached_tokens: Those of them that the service had cached.
        completion_tokens: Tokens of the answers.
    """

    cost: float | None
    saved: float | None
    currency: str
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Way:
    """A way by which requests went to the service.

    Attributes:
        endpoint: What they asked: `chat`, `responses` or `embeddings`.
        route: How they went: `batch`, or one by one, `synchronous` or by the tier `flex`.
        requests: How many went so.
        rows: The rows that they ask.
    """

    endpoint: str
    route: str
    requests: int
    rows: int


@dataclass(frozen=True)
class ModelReport:
    """An enriched table.

    Attributes:
        name: The dbt model's name.
        enrichment: Its unique id.
        relation: The table, or None where it was not found.
        note: A sentence on what could not be read, or None.
        published: When the table was published last, or None.
        statuses: Rows by status; those that are.
        money: What it cost so far.
        asked: What was asked.
        ways: By which ways, those of most requests first.
        versions: Versions of the task, newest first.
        columns: Output columns.
        failures: By kind.
        sample: Rows, those with problems first.
        sampled_of: How many rows the table has.
        copied: Of how many of them the answers are counted, where not of all: the table is on a
            host, and large.
    """

    name: str
    enrichment: str
    relation: str | None
    note: str | None
    published: datetime | None
    statuses: dict[str, int]
    money: Money
    asked: Asked | None
    ways: tuple[Way, ...] = ()
    versions: tuple[VersionReport, ...] = ()
    columns: tuple[ColumnReport, ...] = ()
    failures: tuple[FailureReport, ...] = ()
    sample: tuple[SampleRow, ...] = ()
    sampled_of: int = 0
    copied: int | None = None


@dataclass(frozen=True)
class Phase:
    """A stretch of a batch's life: `queued`, `validating`, `running`, `finalizing`, `collected`."""

    name: str
    began: datetime
    ended: datetime


@dataclass(frozen=True)
class BatchReport:
    """A batch.

    Attributes:
        batch: Its id, or the shard's while it has none.
        model: The dbt model's name.
        status: How the service sees it, or how far it has come.
        endpoint: What its requests ask.
        route: How they go: `batch`, `synchronous` or `flex`.
        requests: Its requests.
        rows: The rows that they ask, several in one where they are packed.
        completed: Requests that were answered.
        failed: Those that failed.
        phases: Its life until now.
    """

    batch: str
    model: str
    status: str
    endpoint: str
    route: str
    requests: int
    rows: int
    completed: int
    failed: int
    phases: tuple[Phase, ...]


@dataclass(frozen=True)
class DayReport:
    """What was sent on one day, in UTC.

    Attributes:
        day: The day, as in ISO 8601.
        batches: Batches that were made.
        requests: Their requests.
        rows: The rows that they ask.
        answered: Requests whose answers came back.
        retries: Failed attempts that came back.
        money: What it cost.
    """

    day: str
    batches: int
    requests: int
    rows: int
    answered: int
    retries: int
    money: Money


@dataclass(frozen=True)
class Report:
    """The whole report.

    Attributes:
        project: The dbt project.
        made: When the report was made.
        sentences: What needs attention, the most urgent first; never empty.
        statuses: Rows by status over all models.
        money: What everything cost.
        oldest_pending: Since when the batch that has been out longest is out, or None.
        models: The enriched tables.
        batches: Batches, oldest first; the last of them only.
        batches_of: How many there are in all.
        days: By day.
    """

    project: str
    made: datetime
    sentences: tuple[str, ...]
    statuses: dict[str, int]
    money: Money
    oldest_pending: datetime | None
    models: tuple[ModelReport, ...] = field(default_factory=tuple)
    batches: tuple[BatchReport, ...] = ()
    batches_of: int = 0
    days: tuple[DayReport, ...] = ()
